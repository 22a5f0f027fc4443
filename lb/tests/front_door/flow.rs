//! Bodies in motion: streams, limits, `Expect`, and clients that go away.

use std::sync::Arc;

use bytes::Bytes;
use domain::{ApiError, ErrorCode};
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, Channel};
use nodekit::body::{self, BodyError};
use nodekit::http_server::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::node::{Calls, Node, PATIENCE, answer, header_map, request};

/// A node whose function answers each piece as it comes.
async fn echo() -> Node {
    Node::start(|call| {
        Box::pin(async move { Ok(answer(header_map(&[("content-type", "a/b")]), call.body)) })
    })
    .await
}

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    for path in ["/invoke/f", "/t/a/s"] {
        let node = echo().await;
        let (mut input, body) = Channel::<Bytes, BodyError>::new(1);
        let mut request = request(Method::POST, path, &[], "");
        *request.body_mut() = body::stream(body);
        input.send_data(Bytes::from("one")).await.expect("a reader");
        let mut response = timeout(PATIENCE, node.open(request))
            .await
            .expect("a head in time");
        assert_eq!(response.headers()["transfer-encoding"], "chunked");
        for piece in ["one", "two"] {
            let frame = timeout(PATIENCE, response.body_mut().frame())
                .await
                .expect("a piece in time");
            let data = frame
                .expect("a piece")
                .expect("sound")
                .into_data()
                .expect("data");
            assert_eq!(data, piece);
            if piece == "one" {
                input.send_data(Bytes::from("two")).await.expect("a reader");
            }
        }
        drop(input);
        let rest = timeout(PATIENCE, response.into_body().collect())
            .await
            .expect("an end in time");
        assert!(rest.expect("a sound end").to_bytes().is_empty());
    }
}

#[tokio::test]
async fn output_that_breaks_before_the_head_is_an_error_and_later_cuts_the_connection() {
    let broken_after = |pieces: usize, told: &'static [(&'static str, &'static str)]| {
        Node::start(move |_| {
            Box::pin(async move {
                let error: BodyError = ApiError::from(ErrorCode::ResponseBodyTooLarge).into();
                let good = (0..pieces).map(|_| Ok(Frame::data(Bytes::from_static(b"x"))));
                let frames: Vec<_> = good.chain([Err(error)]).collect();
                let stream = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
                Ok(answer(header_map(told), body::stream(stream)))
            })
        })
    };
    let node = broken_after(0, &[]).await;
    node.post("/invoke/f", &[], "")
        .await
        .assert_error(502, "function response body too large");
    let node = broken_after(1, &[("fn-http-status", "204")]).await;
    node.get("/t/a/s")
        .await
        .assert_error(502, "function response body too large");
    let (outputs, mut output) = mpsc::channel(1);
    let node = Node::start(move |_| {
        let outputs = outputs.clone();
        Box::pin(async move {
            let (sender, body) = Channel::<Bytes, BodyError>::new(1);
            outputs.send(sender).await.expect("the test waits");
            let headers = header_map(&[("content-type", "a/b")]);
            Ok(answer(headers, body::stream(body)))
        })
    })
    .await;
    let opening = node.open(request(Method::POST, "/invoke/f", &[], ""));
    let response = timeout(PATIENCE, opening).await.expect("a head in time");
    assert_eq!(response.status().as_u16(), 200);
    let sender = output.recv().await.expect("a call");
    sender.abort(ApiError::from(ErrorCode::FunctionResponseError).into());
    let end = timeout(PATIENCE, response.into_body().collect())
        .await
        .expect("an end in time");
    assert!(
        end.is_err(),
        "the client can tell that the answer is not whole"
    );
}

#[tokio::test]
async fn a_request_over_the_limit_is_413() {
    let calls = Calls::default();
    let seen = calls.clone();
    let limits = Limits {
        max_body_bytes: Some(10),
        ..Limits::default()
    };
    let node = Node::start_with(limits, move |call| {
        let seen = seen.clone();
        Box::pin(async move {
            seen.take_in(call).await?;
            Ok(answer(header_map(&[]), body::empty()))
        })
    })
    .await;
    for path in ["/invoke/f", "/t/a/s"] {
        assert_eq!(
            node.post(path, &[], "0123456789").await.status.as_u16(),
            200
        );
        assert_eq!(calls.only().body.len(), 10);
        node.post(path, &[], "0123456789a")
            .await
            .assert_error(413, "Content-Length too large for this server, 11 > max 10");
        for headers in [&[][..], &[("fn-invoke-type", "detached")]] {
            let mut chunked = request(Method::POST, path, headers, "");
            let pieces = ["012345", "6789a"]
                .map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::from(piece))));
            let stream = http_body_util::StreamBody::new(futures_util::stream::iter(pieces));
            *chunked.body_mut() = body::stream(stream);
            node.send(chunked)
                .await
                .assert_error(413, "Request content too large");
        }
        assert_eq!(calls.count(), 0);
    }
}

/// Reads from `stream` until `wanted` has arrived.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(wanted) {
            assert_ne!(
                stream.read_buf(&mut read).await.expect("a connection"),
                0,
                "it ended early"
            );
        }
    };
    let in_time = timeout(PATIENCE, reading).await;
    assert!(in_time.is_ok(), "{wanted:?} did not arrive in time");
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it() {
    let (node, calls) = Node::answering(&[], "output").await;
    let mut stream = TcpStream::connect(node.address).await.expect("a listener");
    let head =
        "POST /invoke/f HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    stream
        .write_all(head.as_bytes())
        .await
        .expect("a connection");
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n").await;
    stream.write_all(b"input").await.expect("a connection");
    let answer = read_until(&mut stream, "output").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(calls.only().body, "input");
}

/// Otherwise clients that send slowly would hold containers in which nothing happens.
#[tokio::test]
async fn a_small_input_is_whole_before_a_runner_is_asked() {
    for path in ["/invoke/f", "/t/a/s"] {
        let asked = Arc::new(Semaphore::new(0));
        let asking = Arc::clone(&asked);
        let node = Node::start(move |call| {
            asking.add_permits(1);
            Box::pin(async move { Ok(answer(header_map(&[("content-type", "a/b")]), call.body)) })
        })
        .await;
        let mut stream = TcpStream::connect(node.address).await.expect("a listener");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 6\r\n\r\n"
        );
        for (piece, told) in [
            (head.as_str(), "HTTP/1.1 100 Continue\r\n\r\n"),
            ("in", ""),
            ("put.", "input."),
        ] {
            // Somebody reads the input; it is not the runner.
            assert_eq!(asked.available_permits(), 0, "{path}");
            let sent = stream.write_all(piece.as_bytes()).await;
            sent.expect("a connection");
            read_until(&mut stream, told).await;
        }
        assert_eq!(asked.available_permits(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_missing_or_hostile_host_breaks_nothing() {
    let (node, calls) = Node::answering(&[], "output").await;
    for host in [
        "",
        "host: \r\n",
        "host: a b\r\n",
        "host: /\\@\r\n",
        "host: \u{fffd}\r\n",
    ] {
        let mut stream = TcpStream::connect(node.address).await.expect("a listener");
        let head = format!("GET /t/a/s HTTP/1.0\r\n{host}\r\n");
        stream
            .write_all(head.as_bytes())
            .await
            .expect("a connection");
        read_until(&mut stream, "output").await;
        assert_eq!(
            calls.only().headers["fn-http-request-url"],
            "http://localhost/t/a/s",
            "{host:?}"
        );
    }
}

/// Adds a permit when it is dropped.
struct Gone(Arc<Semaphore>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

async fn wait_for(permits: &Semaphore) {
    let permit = timeout(PATIENCE, permits.acquire()).await.expect("in time");
    permit.expect("never closed").forget();
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_call() {
    let (started, gone) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (starts, goes) = (started.clone(), gone.clone());
    let node = Node::start(move |_| {
        let (starts, gone) = (starts.clone(), Gone(goes.clone()));
        Box::pin(async move {
            let _gone = gone;
            starts.add_permits(1);
            std::future::pending().await
        })
    })
    .await;
    let mut stream = TcpStream::connect(node.address).await.expect("a listener");
    stream
        .write_all(b"POST /invoke/f HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n")
        .await
        .expect("a connection");
    wait_for(&started).await;
    drop(stream);
    wait_for(&gone).await;
    node.wait_for_metric(
        r#"fn_api_response_count{path="/invoke/:fn_id",method="POST",status="444",blame="service",fn_fdk_version=""} 1"#,
    )
    .await;
    node.wait_for_metric(r#"fn_lb_call_latency_count{call_status="canceled"} 1"#)
        .await;
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_of_an_answer_drops_its_body() {
    let gone = Arc::new(Semaphore::new(0));
    let goes = gone.clone();
    let node = Node::start(move |_| {
        let gone = Gone(goes.clone());
        Box::pin(async move {
            let endless = futures_util::stream::unfold(gone, |gone| async move {
                tokio::task::yield_now().await;
                let frame = Frame::data(Bytes::from_static(&[b'x'; 1024]));
                Some((Ok::<_, BodyError>(frame), gone))
            });
            let body = body::stream(http_body_util::StreamBody::new(endless));
            Ok(answer(header_map(&[]), body))
        })
    })
    .await;
    let mut response = timeout(
        PATIENCE,
        node.open(request(Method::POST, "/invoke/f", &[], "")),
    )
    .await
    .expect("a head in time");
    response
        .body_mut()
        .frame()
        .await
        .expect("a piece")
        .expect("sound");
    drop(response);
    wait_for(&gone).await;
}
