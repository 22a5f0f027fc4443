//! What a function is sent.

use http::HeaderValue;
use http_body::Frame;

use super::*;

#[tokio::test]
async fn the_request_is_a_post_to_call_in_chunks() {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let mut call = call("hello");
    for (name, value) in [
        ("fn-call-id", "forged"),
        ("fn-deadline", "forged"),
        ("host", "forged"),
        ("content-length", "99"),
        ("fn-intent", "httprequest"),
        ("content-type", "text/plain"),
    ] {
        call.headers.insert(name, HeaderValue::from_static(value));
    }
    call.headers
        .append("x-many", HeaderValue::from_static("one"));
    call.headers
        .append("x-many", HeaderValue::from_static("two"));
    let (mut ended, wire) = tokio::join!(dispatch(link, call), async {
        let wire = function.request().await;
        function.answer("hi").await;
        wire
    });
    assert_eq!(ended.text().await, "hi");

    let mut lines: Vec<_> = wire.head.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "POST /call HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Content-Type: text/plain",
            "Fn-Call-Id: 01CALL",
            "Fn-Deadline: 2019-03-01T10:00:01Z",
            "Fn-Intent: httprequest",
            "Host: localhost",
            "Transfer-Encoding: chunked",
            "X-Many: one",
            "X-Many: two",
        ]
    );
    assert_eq!(wire.body, b"hello");
}

#[tokio::test]
async fn an_empty_body_is_chunked_too() {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let (mut ended, wire) = tokio::join!(dispatch(link, call("")), async {
        let wire = function.request().await;
        function.answer("").await;
        wire
    });
    assert!(wire.head.contains("Transfer-Encoding: chunked\r\n"));
    assert_eq!(wire.body, b"");
    let answer = ended.answer();
    assert_eq!(answer.headers["content-length"], "0");
}

#[tokio::test]
async fn trailers_of_the_input_are_not_sent() {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-trailer", HeaderValue::from_static("t"));
    let frames: [Result<_, domain::ApiError>; 2] = [
        Ok(Frame::data(Bytes::from_static(b"in"))),
        Ok(Frame::trailers(trailers)),
    ];
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames));
    let (mut ended, wire) = tokio::join!(
        dispatch(link, call_with(nodekit::body::stream(body))),
        async {
            // The end of the last chunk is an empty line: no trailer.
            let wire = function.request().await;
            function.answer("out").await;
            wire
        }
    );
    assert_eq!(wire.body, b"in");
    assert_eq!(ended.text().await, "out");
    assert!(ended.reusable().await.is_connected());
}

#[tokio::test]
async fn input_and_output_flow_at_the_same_time() {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let (input, body) = fed();
    let (mut ended, _) = tokio::join!(dispatch(link, call_with(body)), async {
        function.head().await;
        let events = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        function.write(events).await;
    });
    let mut output = ended.answer().body;
    for word in ["one", "two", "three"] {
        input.send(Ok(word.into())).await.expect("a reader");
        assert_eq!(function.chunk().await, word.as_bytes());
        function
            .write(format!("{:x}\r\n{word}\r\n", word.len()))
            .await;
        let frame = soon(output.frame()).await.expect("a frame").expect("data");
        assert_eq!(frame.into_data().expect("data"), word.as_bytes());
    }
    drop(input);
    assert_eq!(function.chunk().await, b"");
    function.write("0\r\n\r\n").await;
    assert!(soon(output.frame()).await.is_none());
    assert!(ended.reusable().await.is_connected());
}

#[tokio::test]
async fn an_input_that_breaks_gives_its_own_error() {
    for code in [
        ErrorCode::RequestTooLarge,
        ErrorCode::RequestBodyTimeout,
        ErrorCode::RequestBodyBroken,
    ] {
        let mut container = Container::new();
        let (link, mut function) = container.connect().await;
        let (input, body) = fed();
        let (mut ended, ()) = tokio::join!(dispatch(link, call_with(body)), async {
            function.head().await;
            input.send(Ok("part".into())).await.expect("a reader");
            assert_eq!(function.chunk().await, b"part");
            input.send(Err(code)).await.expect("a reader");
            // Closed without the last chunk: the function can tell.
            function.is_closed().await;
        });
        assert_eq!(ended.code(), code);
        assert_eq!(ended.broken().await, Cause::RequestBroken);
    }
}

#[tokio::test]
async fn an_input_that_breaks_for_an_unknown_reason_is_the_clients_fault() {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let broken = futures_util::stream::iter([
        Ok(Frame::data(Bytes::from_static(b"part"))),
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
    ]);
    let body = nodekit::body::stream(http_body_util::StreamBody::new(broken));
    let (mut ended, ()) = tokio::join!(dispatch(link, call_with(body)), function.is_closed());
    assert_eq!(ended.code(), ErrorCode::RequestBodyBroken);
    assert_eq!(ended.broken().await, Cause::RequestBroken);
}

#[tokio::test]
async fn a_function_that_does_not_read_holds_the_input_back() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let mut container = Container::new();
    let (link, _function) = container.connect().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let endless = {
        let taken = Arc::clone(&taken);
        futures_util::stream::repeat_with(move || {
            taken.fetch_add(64 * 1024, Ordering::Relaxed);
            Ok::<_, domain::ApiError>(Frame::data(Bytes::from_static(&[0; 64 * 1024])))
        })
    };
    let body = nodekit::body::stream(http_body_util::StreamBody::new(endless));
    let call = Call {
        deadline: in_millis(200),
        ..call_with(body)
    };
    let mut ended = dispatch(link, call).await;
    assert_eq!(ended.code(), ErrorCode::CallTimeout);
    assert_eq!(ended.broken().await, Cause::TimedOut);
    let taken = taken.load(Ordering::Relaxed);
    assert!(taken <= 4 * 1024 * 1024, "{taken} bytes were taken in");
}

#[tokio::test]
async fn an_id_that_no_header_can_hold_harms_nobody() {
    let mut container = Container::new();
    let (link, _function) = container.connect().await;
    let call = Call {
        id: "line\nbreak".into(),
        ..call("")
    };
    let mut ended = dispatch(link, call).await;
    assert_eq!(ended.code(), ErrorCode::Internal);
    assert!(ended.reusable().await.is_connected());
}
