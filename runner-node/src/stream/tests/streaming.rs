//! Long and live answers.

use super::*;

const LIVE: &str = "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";

async fn data(body: &mut Body) -> Bytes {
    let frame = soon(body.frame()).await.expect("a frame").expect("data");
    frame.into_data().expect("data")
}

async fn error(body: &mut Body) -> ErrorCode {
    loop {
        match soon(body.frame()).await.expect("an error, not an end") {
            Ok(_) => {}
            Err(error) => {
                let error = error.downcast::<domain::ApiError>().expect("ours");
                return error.code();
            }
        }
    }
}

/// Sends a call that the function begins to answer with `bytes`.
async fn begun(bytes: impl AsRef<[u8]>, deadline: Instant) -> (Container, Peer, Ended) {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let call = Call {
        deadline,
        ..call("in")
    };
    let (ended, ()) = tokio::join!(dispatch(link, call), async {
        function.request().await;
        function.write(bytes).await;
    });
    (container, function, ended)
}

fn patiently() -> Instant {
    Instant::now() + PATIENCE
}

#[tokio::test]
async fn events_arrive_one_by_one() {
    let begin = LIVE.replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n");
    let (_container, mut function, mut ended) = begun(begin, patiently()).await;
    let answer = ended.answer();
    // Chunks have the say, and their sum is not known yet.
    assert!(!answer.headers.contains_key("content-length"));
    let mut body = answer.body;
    for n in 0..10 {
        let event = format!("data: {n}\n\n");
        let length = event.len();
        function.write(format!("{length:x}\r\n{event}\r\n")).await;
        assert_eq!(data(&mut body).await, event);
    }
    assert!(ended.reports.try_recv().is_err(), "the call still runs");
    function.write("0\r\n\r\n").await;
    assert!(soon(body.frame()).await.is_none());
    assert!(ended.reusable().await.is_connected());
}

#[tokio::test]
async fn a_long_answer_of_known_length_keeps_its_length() {
    let size = 3_000_000;
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
    let (mut ended, ()) = tokio::join!(dispatch(link, call("in")), async {
        function.request().await;
        function.write(head).await;
    });
    let answer = ended.answer();
    assert_eq!(answer.headers["content-length"], size.to_string().as_str());
    assert_eq!(
        http_body::Body::size_hint(&answer.body).exact(),
        Some(size as u64)
    );
    let (body, ()) = tokio::join!(answer.body.collect(), function.write("x".repeat(size)));
    assert_eq!(body.expect("a body").to_bytes().len(), size);
    assert!(ended.reusable().await.is_connected());
}

#[tokio::test]
async fn a_long_answer_of_unknown_length_flows_after_the_buffer() {
    let size = 3 * Limits::BUFFER_BYTES;
    let first = "y".repeat(size);
    let begin =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{first}\r\n");
    let (_container, mut function, mut ended) = begun(begin, patiently()).await;
    let (body, ()) = tokio::join!(
        soon(ended.answer().body.collect()),
        function.write("3\r\nend\r\n0\r\n\r\n")
    );
    let body = body.expect("a body").to_bytes();
    assert_eq!(body, format!("{first}end"));
    assert!(ended.reusable().await.is_connected());
}

#[tokio::test]
async fn the_container_is_free_before_the_client_sees_the_end() {
    let (_container, mut function, mut ended) = begun(LIVE, patiently()).await;
    let body = ended.answer().body;
    function.write("2\r\nhi\r\n0\r\n\r\n").await;
    // Nobody has read the body yet.
    assert!(ended.reusable().await.is_connected());
    assert_eq!(body.collect().await.expect("a body").to_bytes(), "hi");
}

#[tokio::test]
async fn an_answer_that_breaks_ends_with_an_error() {
    for (begin, rest) in [
        (LIVE.to_owned(), "4\r\nhalf\r\n"),
        (LIVE.to_owned(), "4\r\nha"),
        (LIVE.to_owned(), "4\r\nhalf\r\nnonsense\r\n"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_owned(),
            "half",
        ),
    ] {
        let (_container, mut function, mut ended) = begun(begin, patiently()).await;
        let mut body = ended.answer().body;
        function.write(rest).await;
        drop(function);
        assert_eq!(error(&mut body).await, ErrorCode::FunctionResponseError);
        assert!(soon(body.frame()).await.is_none());
        assert_eq!(ended.broken().await, Cause::ConnectionLost);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_container_until_the_deadline() {
    let size = 50_000_000;
    let begin = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
    let (_container, mut function, mut ended) = begun(begin, in_millis(200)).await;
    let mut body = ended.answer().body;
    // The function is held back too: it cannot write all of it.
    let mut written = 0;
    while let Ok(count) = soon(function.stream.write(&[0; 65536])).await {
        written += count;
    }
    assert!(written <= 4_000_000, "{written} bytes were taken in");
    assert_eq!(ended.broken().await, Cause::TimedOut);
    assert_eq!(error(&mut body).await, ErrorCode::CallTimeout);
}

#[tokio::test]
async fn a_function_that_stalls_is_cut_off_at_the_deadline() {
    let (_container, mut function, mut ended) = begun(LIVE, in_millis(200)).await;
    let mut body = ended.answer().body;
    function.write("2\r\nhi\r\n").await;
    assert_eq!(data(&mut body).await, "hi");
    assert_eq!(error(&mut body).await, ErrorCode::CallTimeout);
    assert_eq!(ended.broken().await, Cause::TimedOut);
    function.is_closed().await;
}

#[tokio::test]
async fn a_client_that_goes_away_breaks_the_container() {
    let (_container, mut function, mut ended) = begun(LIVE, patiently()).await;
    let body = ended.answer().body;
    drop(body);
    assert_eq!(ended.broken().await, Cause::Abandoned);
    function.is_closed().await;
}

#[tokio::test]
async fn input_that_breaks_while_the_answer_flows_breaks_the_answer() {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let (input, body) = fed();
    let (mut ended, ()) = tokio::join!(dispatch(link, call_with(body)), async {
        function.head().await;
        function.write(LIVE).await;
    });
    let mut body = ended.answer().body;
    input
        .send(Err(ErrorCode::RequestTooLarge))
        .await
        .expect("a reader");
    assert_eq!(error(&mut body).await, ErrorCode::RequestTooLarge);
    assert_eq!(ended.broken().await, Cause::RequestBroken);
    function.is_closed().await;
}

#[tokio::test]
async fn the_tasks_end_with_the_answers() {
    let tasks = TaskTracker::new();
    let dispatcher = Dispatcher::new(Limits::default(), tasks.clone());
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let (done, mut reports) = reporter();
    let (answer, ()) = tokio::join!(dispatcher.dispatch(link, call("in"), done), async {
        function.request().await;
        function.write(LIVE).await;
    });
    assert_eq!(tasks.len(), 1);
    drop(answer);
    tasks.close();
    soon(tasks.wait()).await;
    only_report(&mut reports).await;
}
