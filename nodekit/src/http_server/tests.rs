//! The listener over real sockets: what a client may not do, and what it gets for it.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::body::{self, Body};
use crate::error_response;

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(30);

/// Times that no test reaches, unless it sets its own.
fn patient() -> Limits {
    let long = Some(Duration::from_secs(600));
    Limits {
        header_read_timeout: long,
        idle_timeout: long,
        body_read_timeout: None,
        body_stall_timeout: long,
        write_timeout: None,
        write_stall_timeout: long,
        max_header_bytes: 16 * 1024,
        max_body_bytes: None,
        max_connections: 1000,
        shutdown_timeout: long,
    }
}

const SHORT: Option<Duration> = Some(Duration::from_millis(100));

struct Server {
    address: SocketAddr,
    /// Requests that reached the service.
    seen: Arc<AtomicUsize>,
    shutdown: CancellationToken,
    task: JoinHandle<Drained>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        let service = service_fn(move |request: Request<RequestBody>| {
            count.fetch_add(1, Ordering::SeqCst);
            answer(request)
        });
        Self::serve(limits, service, seen).await
    }

    async fn serve<S: HttpService>(limits: Limits, service: S, seen: Arc<AtomicUsize>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = HttpServer::bind(address, limits)
            .await
            .expect("a free port");
        let shutdown = CancellationToken::new();
        Self {
            address: server.local_addr(),
            seen,
            task: tokio::spawn(server.serve(service, shutdown.clone())),
            shutdown,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address)
            .await
            .expect("a connection")
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    async fn stop(self) -> Drained {
        self.shutdown.cancel();
        within(self.task).await.expect("the server ends")
    }
}

/// The service of these tests: `/echo` answers with the body, `/wait` never, `/endless` for ever.
async fn answer(request: Request<RequestBody>) -> Result<Response<Body>, Infallible> {
    Ok(match request.uri().path() {
        "/echo" => match request.into_body().collect().await {
            Ok(body) => Response::new(body::full(body.to_bytes())),
            Err(error) => {
                error_response::response::<Bytes>(&body_error_code(&error).into()).map(body::full)
            }
        },
        "/wait" => pending().await,
        "/panic" => unreachable!("as the test wants"),
        "/endless" => {
            let frames = futures_util::stream::repeat_with(|| {
                Ok::<_, Infallible>(http_body::Frame::data(Bytes::from_static(
                    &[b'x'; 16 * 1024],
                )))
            });
            Response::new(body::stream(http_body_util::StreamBody::new(frames)))
        }
        _ => Response::new(body::full("ok")),
    })
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.expect("in time")
}

/// Waits until `holds`.
async fn eventually(holds: impl Fn() -> bool) {
    within(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Everything until the server closes. A reset counts as closed.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Everything up to and with `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let byte = within(stream.read_u8()).await;
        text.push(
            byte.unwrap_or_else(|error| unreachable!("{error} after {text:?}"))
                .into(),
        );
    }
    text
}

/// What the server answers to `bytes` until it closes.
async fn exchange(server: &Server, bytes: &str) -> String {
    let mut stream = server.connect().await;
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes.as_bytes()).await;
    read_all(&mut stream).await
}

fn statuses(answers: &str) -> Vec<&str> {
    answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|rest| &rest[..3])
        .collect()
}

#[tokio::test]
async fn requests_of_one_connection_are_answered_in_turn() {
    let server = Server::start(patient()).await;
    let answers = exchange(
        &server,
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n\
         POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\
         POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\ndef\r\n0\r\n\r\n",
    )
    .await;
    assert_eq!(statuses(&answers), ["200", "200", "200"], "{answers}");
    assert!(
        answers.contains("abc") && answers.ends_with("def"),
        "{answers}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_tower_service_fits() {
    let service = tower::service_fn(answer);
    let server = Server::serve(patient(), super::tower(service), Arc::default()).await;
    let answers = exchange(
        &server,
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(statuses(&answers), ["200"], "{answers}");
    server.stop().await;
}

/// Each hides a second request, to `/hidden`, from somebody who reads it in another way.
#[tokio::test]
async fn nothing_is_smuggled() {
    let hidden = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n";
    let length = hidden.len();
    for head in [
        format!("Content-Length: {length}\r\nContent-Length: 0\r\n"),
        format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}, {length}\r\n"),
        format!("Content-Length: +{length}\r\n"),
        format!("Content-Length : {length}\r\n"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Transfer-Encoding: gzip, chunked\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n".to_owned(),
        "Transfer-Encoding:\x0bchunked\r\n".to_owned(),
        "X: a\r\n Transfer-Encoding: chunked\r\n".to_owned(),
        "X: a\r\n\tfolded\r\n".to_owned(),
        "X: a\n".to_owned(),
        "X: a\rTransfer-Encoding: chunked\r\n".to_owned(),
        "X: a\0b\r\n".to_owned(),
        "X\0: a\r\n".to_owned(),
        "X a: b\r\n".to_owned(),
        ": a\r\n".to_owned(),
        "no colon\r\n".to_owned(),
    ] {
        let server = Server::start(patient()).await;
        let answers = exchange(
            &server,
            &format!("POST /echo HTTP/1.1\r\nHost: h\r\n{head}\r\n{hidden}"),
        )
        .await;
        assert_eq!(statuses(&answers), ["400"], "{head:?}: {answers}");
        assert_eq!(server.seen(), 0, "{head:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn line_feeds_alone_end_no_line_and_no_head() {
    for bytes in [
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: h\r\n\r\n",
        "GET\0/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0",
    ] {
        let server = Server::start(patient()).await;
        let answers = exchange(&server, bytes).await;
        assert!(
            answers.starts_with("HTTP/1.1 400 "),
            "{bytes:?}: {answers:?}"
        );
        assert_eq!(server.seen(), 0, "{bytes:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let server = Server::start(patient()).await;
    let answers = exchange(&server, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(answers, "");
    server.stop().await;
}

#[tokio::test]
async fn a_bad_request_behind_a_good_one_is_refused_in_its_turn() {
    let server = Server::start(patient()).await;
    let answers = exchange(
        &server,
        "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\nHost: h\n\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    )
    .await;
    assert_eq!(statuses(&answers), ["200", "400"], "{answers}");
    assert_eq!(server.seen(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_broken_chunked_body_is_a_400_and_ends_the_connection() {
    for body in [
        "3\nabc\r\n",
        "x\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n",
        "0\r\nX: 1\n\r\n",
    ] {
        let server = Server::start(patient()).await;
        let answers = exchange(
            &server,
            &format!("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET / HTTP/1.1\r\n\r\n"),
        )
        .await;
        assert_eq!(statuses(&answers), ["400"], "{body:?}: {answers}");
        assert_eq!(server.seen(), 1, "{body:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let server = Server::start(patient()).await;
    for (head, status) in [
        (format!("X: {}\r\n", "v".repeat(17 * 1024)), "431"),
        ("X: v\r\n".repeat(101), "431"),
        (format!("X: {}\r\n", "v".repeat(15 * 1024)), "200"),
        ("X: v\r\n".repeat(98), "200"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{head}Connection: close\r\n\r\n");
        assert_eq!(statuses(&exchange(&server, &request).await), [status]);
    }
    // One that never ends is cut off at the limit, not at the end.
    let mut stream = server.connect().await;
    let _ = stream
        .write_all(format!("GET / HTTP/1.1\r\nX: {}", "v".repeat(17 * 1024)).as_bytes())
        .await;
    assert_eq!(statuses(&read_all(&mut stream).await), ["431"]);
    server.stop().await;
}

#[tokio::test]
async fn bodies_are_bounded() {
    let server = Server::start(Limits {
        max_body_bytes: Some(4),
        ..patient()
    })
    .await;
    let answers = exchange(
        &server,
        "POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 5\r\n\r\n12345",
    )
    .await;
    assert_eq!(statuses(&answers), ["413"]);
    assert!(
        answers
            .ends_with("{\"message\":\"Content-Length too large for this server, 5 > max 4\"}\n"),
        "{answers}"
    );
    assert_eq!(server.seen(), 0);
    let close =
        "POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answers = exchange(&server, &format!("{close}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).await;
    assert_eq!(statuses(&answers), ["413"]);
    let answers = exchange(&server, &format!("{close}3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n")).await;
    assert!(
        statuses(&answers) == ["200"] && answers.ends_with("abcd"),
        "{answers}"
    );
    server.stop().await;
}

#[tokio::test]
async fn the_answer_to_a_body_that_is_too_large_arrives_while_it_is_still_sent() {
    let server = Server::start(Limits {
        max_body_bytes: Some(4),
        ..patient()
    })
    .await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n")
        .await
        .expect("a head");
    // More than the sockets hold, so that the server must be swallowing it.
    let (mut reader, mut writer) = stream.split();
    let send = async {
        for _ in 0..256 {
            if writer.write_all(&[0; 64 * 1024]).await.is_err() {
                break;
            }
        }
    };
    let mut answer = vec![0; 12];
    let (_, read) = within(async { tokio::join!(send, reader.read_exact(&mut answer)) }).await;
    read.expect("an answer");
    assert_eq!(answer, b"HTTP/1.1 413");
    server.stop().await;
}

#[tokio::test]
async fn slow_heads_are_cut_off() {
    let server = Server::start(Limits {
        header_read_timeout: SHORT,
        ..patient()
    })
    .await;
    // Nothing at all, and a piece at a time: neither resets the clock.
    let mut silent = server.connect().await;
    assert_eq!(read_all(&mut silent).await, "");
    let (mut reader, mut writer) = server.connect().await.into_split();
    let drip = tokio::spawn(async move {
        let mut sent = writer.write_all(b"GET / HTTP/1.1\r\n").await;
        while sent.is_ok() {
            sleep(Duration::from_millis(10)).await;
            sent = writer.write_all(b"X").await;
        }
    });
    let mut bytes = Vec::new();
    let _ = within(reader.read_to_end(&mut bytes)).await;
    assert_eq!(bytes, b"");
    within(drip).await.expect("the client notices");
    assert_eq!(server.seen(), 0);
    server.stop().await;
}

#[tokio::test]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let server = Server::start(Limits {
        idle_timeout: SHORT,
        ..patient()
    })
    .await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .expect("a request");
    let mut busy = server.connect().await;
    busy.write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na")
        .await
        .expect("half");
    let mut waiting = server.connect().await;
    waiting
        .write_all(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .expect("a request");
    assert_eq!(statuses(&read_all(&mut idle).await), ["200"]);
    // The idle connection is gone; those that were busy for longer are not.
    busy.write_all(b"b").await.expect("the other half");
    assert!(
        read_until(&mut busy, "ab")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let mut byte = [0];
    assert!(
        timeout(Duration::from_millis(1), waiting.read(&mut byte))
            .await
            .is_err()
    );
    drop(waiting);
    server.stop().await;
}

#[tokio::test]
async fn slow_bodies_are_told_and_cut_off() {
    for limits in [
        Limits {
            body_stall_timeout: SHORT,
            ..patient()
        },
        Limits {
            body_read_timeout: SHORT,
            ..patient()
        },
    ] {
        let server = Server::start(limits).await;
        let mut stream = server.connect().await;
        stream
            .write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nab")
            .await
            .expect("a piece");
        let answer = read_all(&mut stream).await;
        assert_eq!(statuses(&answer), ["408"]);
        assert!(
            answer.contains("\r\ncontent-type: application/json; charset=utf-8\r\n"),
            "{answer}"
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn a_body_that_makes_progress_is_not_slow() {
    let server = Server::start(Limits {
        body_stall_timeout: Some(Duration::from_millis(1500)),
        ..patient()
    })
    .await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n")
        .await
        .expect("a head");
    for _ in 0..8 {
        sleep(Duration::from_millis(250)).await;
        stream.write_all(b"x").await.expect("a piece");
    }
    assert!(
        read_until(&mut stream, &"x".repeat(8))
            .await
            .starts_with("HTTP/1.1 200")
    );
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut_off() {
    for limits in [
        Limits {
            write_stall_timeout: SHORT,
            ..patient()
        },
        Limits {
            write_timeout: SHORT,
            ..patient()
        },
    ] {
        let server = Server::start(limits).await;
        let mut stream = server.connect().await;
        stream
            .write_all(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .expect("a request");
        eventually(|| server.seen() == 1).await;
        // Nothing is read until the server has given up: then the end comes.
        let drained = server.stop().await;
        assert_eq!(drained, Drained { aborted: 0 });
        assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_next_request_is_served() {
    let server = Server::start(patient()).await;
    let answers = exchange(
        &server,
        "GET /panic HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert_eq!(statuses(&answers), ["500", "200"], "{answers}");
    assert!(
        answers.contains("{\"message\":\"internal server error\"}\n"),
        "{answers}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_request() {
    struct Dropped(CancellationToken);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.cancel();
        }
    }
    let (started, dropped) = (CancellationToken::new(), CancellationToken::new());
    let (start, drop_token) = (started.clone(), dropped.clone());
    let service = service_fn(move |_: Request<RequestBody>| {
        let guard = Dropped(drop_token.clone());
        start.cancel();
        async move {
            let _guard = guard;
            pending::<Result<Response<Body>, Infallible>>().await
        }
    });
    let server = Server::serve(patient(), service, Arc::default()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .expect("a request");
    within(started.cancelled()).await;
    drop(stream);
    within(dropped.cancelled()).await;
    server.stop().await;
}

#[tokio::test]
async fn a_shutdown_closes_idle_connections_and_finishes_requests() {
    let server = Server::start(patient()).await;
    let fresh = server.connect().await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .expect("a request");
    read_until(&mut idle, "ok").await;
    let mut busy = server.connect().await;
    busy.write_all(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na")
        .await
        .expect("half");
    eventually(|| server.seen() == 2).await;
    server.shutdown.cancel();
    for mut closed in [fresh, idle] {
        assert_eq!(read_all(&mut closed).await, "");
    }
    busy.write_all(b"b").await.expect("the other half");
    let answer = read_all(&mut busy).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"),
        "{answer}"
    );
    let address = server.address;
    assert_eq!(server.stop().await, Drained { aborted: 0 });
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_shutdown_serves_clients_that_have_just_connected() {
    let server = Server::start(patient()).await;
    // The server's task does not run meanwhile.
    let connect = || std::net::TcpStream::connect(server.address);
    let clients: Vec<_> = (0..8).map(|_| connect().expect("a connection")).collect();
    server.shutdown.cancel();
    eventually(|| connect().is_err()).await;
    for client in clients {
        client.set_nonblocking(true).expect("a socket");
        let mut client = TcpStream::from_std(client).expect("a socket");
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .expect("a request");
        let answer = read_all(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(server.stop().await, Drained { aborted: 0 });
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let server = Server::start(Limits {
        shutdown_timeout: SHORT,
        ..patient()
    })
    .await;
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        .await
        .expect("a request");
    eventually(|| server.seen() == 1).await;
    assert_eq!(server.stop().await, Drained { aborted: 1 });
}

#[tokio::test]
async fn connections_above_the_limit_wait_for_a_place() {
    let server = Server::start(Limits {
        max_connections: 1,
        ..patient()
    })
    .await;
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut first = server.connect().await;
    first.write_all(request).await.expect("a request");
    read_until(&mut first, "ok").await;
    let mut second = server.connect().await;
    second.write_all(request).await.expect("a request");
    first.write_all(request).await.expect("a request");
    read_until(&mut first, "ok").await;
    assert_eq!(server.seen(), 2, "the second connection is not served yet");
    drop(first);
    read_until(&mut second, "ok").await;
    server.stop().await;
}

/// The abuse of the acceptance list, at a fifth of its size: the test process holds both ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_clients_go_on_among_slow_ones() {
    raise_open_files_limit();
    let server = Server::start(Limits {
        header_read_timeout: Some(Duration::from_secs(3)),
        body_stall_timeout: Some(Duration::from_secs(3)),
        ..patient()
    })
    .await;
    let mut slow = Vec::new();
    for index in 0..500 {
        let mut stream = server.connect().await;
        let piece: &[u8] = match index % 5 {
            0 => b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\na",
            _ => b"GET / HTTP/1.1\r\nX: ",
        };
        stream.write_all(piece).await.expect("a piece");
        slow.push(stream);
    }
    let good = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    for _ in 0..50 {
        assert_eq!(statuses(&exchange(&server, good).await), ["200"]);
    }
    for (index, mut stream) in slow.into_iter().enumerate() {
        let expected: &[&str] = if index % 5 == 0 { &["408"] } else { &[] };
        assert_eq!(statuses(&read_all(&mut stream).await), expected);
    }
    server.stop().await;
}
