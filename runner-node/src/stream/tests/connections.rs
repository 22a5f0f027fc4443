//! Which connection the next call goes over, and when there must be no next call.

use super::*;

/// Sends one call, for which the function runs `script`.
async fn one_call<T>(
    link: Link,
    input: &'static str,
    script: impl Future<Output = T>,
) -> (Ended, T) {
    tokio::join!(dispatch(link, call(input)), script)
}

#[tokio::test]
async fn calls_go_over_one_connection() {
    let mut container = Container::new();
    let (mut link, mut function) = container.connect().await;
    for n in 0..100 {
        let (mut ended, wire) = one_call(link, "ping", async {
            let wire = function.request().await;
            function.answer(&format!("pong {n}")).await;
            wire
        })
        .await;
        assert_eq!(wire.body, b"ping");
        assert_eq!(ended.text().await, format!("pong {n}"));
        link = ended.reusable().await;
        assert!(link.is_connected());
    }
    assert!(!container.is_asked().await);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_replaced() {
    let mut container = Container::new();
    let (mut link, mut function) = container.connect().await;
    for n in 0..100 {
        drop(function);
        let script = async {
            let mut function = container.accept().await;
            function.request().await;
            function.answer("fine").await;
            function
        };
        let (mut ended, new) = one_call(link, "in", script).await;
        function = new;
        assert_eq!(ended.text().await, "fine", "call {n}");
        link = ended.reusable().await;
    }
}

#[tokio::test]
async fn a_function_may_end_its_connection_with_the_answer() {
    for head in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\n\r\nhi",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let mut container = Container::new();
        let (link, mut function) = container.connect().await;
        let (mut ended, ()) = one_call(link, "in", async {
            function.request().await;
            function.write(head).await;
            drop(function);
        })
        .await;
        assert_eq!(ended.text().await, "hi", "{head}");
        let link = ended.reusable().await;
        assert!(!link.is_connected());
        let (mut ended, ()) = one_call(link, "in", async {
            let mut function = container.accept().await;
            function.request().await;
            function.answer("again").await;
        })
        .await;
        assert_eq!(ended.text().await, "again");
    }
}

#[tokio::test]
async fn an_old_function_is_spoken_to_in_chunks_again() {
    // HTTP/1.0 knows no chunks: a kept connection would have to do without.
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let (mut ended, ()) = one_call(link, "in", async {
        function.request().await;
        let head = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi";
        function.write(head).await;
    })
    .await;
    let (mut ended, wire) = one_call(ended.reusable().await, "in", async {
        let mut function = container.accept().await;
        let wire = function.request().await;
        function.answer("again").await;
        wire
    })
    .await;
    assert!(wire.head.starts_with("POST /call HTTP/1.1\r\n"));
    assert_eq!(ended.text().await, "again");
}

#[tokio::test]
async fn bytes_after_the_answer_break_the_container() {
    for extra in ["x", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"] {
        let mut container = Container::new();
        let (link, mut function) = container.connect().await;
        let (mut ended, ()) = one_call(link, "in", async {
            function.request().await;
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";
            function.write(format!("{answer}{extra}")).await;
        })
        .await;
        assert_eq!(ended.text().await, "good");
        assert_eq!(ended.broken().await, Cause::ExtraBytes);
    }
}

#[tokio::test]
async fn bytes_that_come_while_idle_reach_no_call() {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let (mut ended, ()) = one_call(link, "in", async {
        function.request().await;
        function.answer("good").await;
    })
    .await;
    let link = ended.reusable().await;
    function.answer("evil").await;
    assert!(!link.is_connected());
    let (mut ended, ()) = one_call(link, "in", async {
        let mut function = container.accept().await;
        function.request().await;
        function.answer("good").await;
    })
    .await;
    assert_eq!(ended.text().await, "good");
}

#[tokio::test]
async fn an_answer_without_a_question_reaches_no_call() {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    function.answer("evil").await;
    let (mut ended, _function) = one_call(link, "in", async {
        let mut function = container.accept().await;
        function.answer("hasty").await;
        function
    })
    .await;
    // Where it comes before the request was sent, it shows. Where it comes before the request was
    // read, it is taken for the answer; but the connection, on which input is left, is not used again.
    if let Err(error) = &ended.result {
        assert!(matches!(error, DispatchError::NotSent { .. }));
        assert_eq!(ended.broken().await, Cause::Unreachable);
    } else {
        assert_eq!(ended.text().await, "hasty");
        assert!(!ended.reusable().await.is_connected());
    }
}

#[tokio::test]
async fn input_that_was_not_read_does_not_reach_the_next_call() {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let (mut ended, ()) = one_call(link, "leaks?", async {
        function.head().await;
        function.answer("enough").await;
    })
    .await;
    assert_eq!(ended.text().await, "enough");
    let link = ended.reusable().await;
    assert!(!link.is_connected());
    let (mut ended, wire) = one_call(link, "own", async {
        let mut function = container.accept().await;
        let wire = function.request().await;
        function.answer("fine").await;
        wire
    })
    .await;
    assert_eq!(wire.body, b"own");
    assert_eq!(ended.text().await, "fine");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_input_frees_the_container() {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let (input, body) = fed();
    let (mut ended, ()) = tokio::join!(dispatch(link, call_with(body)), async {
        function.head().await;
        input.send(Ok("first".into())).await.expect("a reader");
        assert_eq!(function.chunk().await, b"first");
        function.answer("enough").await;
        function.is_closed().await;
    });
    assert_eq!(ended.text().await, "enough");
    assert!(!ended.reusable().await.is_connected());
    // Nobody takes the rest.
    soon(input.closed()).await;
}

#[tokio::test]
async fn late_input_of_a_call_that_timed_out_goes_nowhere() {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let (input, body) = fed();
    let call = Call {
        deadline: in_millis(100),
        ..call_with(body)
    };
    let (mut ended, ()) = tokio::join!(dispatch(link, call), async {
        function.head().await;
        function.is_closed().await;
    });
    assert_eq!(ended.code(), ErrorCode::CallTimeout);
    assert_eq!(ended.broken().await, Cause::TimedOut);
    input.send(Ok("late".into())).await.expect_err("no reader");
}

#[tokio::test]
async fn a_function_that_is_gone_was_not_sent_the_call() {
    let mut container = Container::new();
    let (link, function) = container.connect().await;
    drop((function, container.listener));
    let mut ended = dispatch(link, call("precious")).await;
    assert_eq!(ended.code(), ErrorCode::FunctionResponseError);
    assert_eq!(ended.broken().await, Cause::Unreachable);
    let Err(DispatchError::NotSent { call, .. }) = ended.result else {
        panic!("the call can be sent elsewhere");
    };

    let mut other = Container::new();
    let (link, mut function) = other.connect().await;
    let (mut ended, wire) = tokio::join!(dispatch(link, *call), async {
        let wire = function.request().await;
        function.answer("fine").await;
        wire
    });
    assert_eq!(wire.body, b"precious");
    assert!(wire.head.contains("Fn-Call-Id: 01CALL\r\n"));
    assert_eq!(ended.text().await, "fine");
}

#[tokio::test]
async fn a_call_that_may_have_been_seen_is_not_sent_again() {
    let mut container = Container::new();
    let (link, mut function) = container.connect().await;
    let (mut ended, ()) = one_call(link, "once", async {
        function.request().await;
        drop(function);
    })
    .await;
    assert!(matches!(ended.result, Err(DispatchError::Failed(_))));
    assert_eq!(ended.code(), ErrorCode::FunctionResponseError);
    assert_eq!(ended.broken().await, Cause::ConnectionLost);
    assert!(!container.is_asked().await);
}

#[tokio::test]
async fn a_deadline_that_has_passed_harms_no_container() {
    let mut container = Container::new();
    let (link, _function) = container.connect().await;
    let (done, mut reports) = reporter();
    let dispatcher = Dispatcher::new(Limits::default(), TaskTracker::new());
    drop(dispatcher.dispatch(link, call("in"), done));
    let report = only_report(&mut reports).await;
    assert!(matches!(report.outcome, Outcome::Reusable(link) if link.is_connected()));
}

#[tokio::test]
async fn a_real_server_keeps_its_connection() {
    use hyper::service::service_fn;

    let mut container = Container::new();
    let (mut link, function) = container.connect().await;
    let echo = service_fn(|request: http::Request<hyper::body::Incoming>| async {
        let body = request.into_body().collect().await?.to_bytes();
        Ok::<_, hyper::Error>(http::Response::new(http_body_util::Full::new(body)))
    });
    let server = tokio::spawn(
        hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(function.stream), echo),
    );
    for n in 0..200usize {
        let input = "x".repeat(n * n);
        let mut ended = dispatch(link, call(input.clone())).await;
        assert_eq!(ended.text().await, input);
        link = ended.reusable().await;
        assert!(link.is_connected(), "call {n}");
    }
    drop(link);
    soon(server)
        .await
        .expect("the server ends")
        .expect("in peace");
}
