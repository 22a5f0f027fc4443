//! The table of answers of spec/03 3.1.

use super::*;

/// Sends one call, which the function answers with `bytes` and, if `close`, the end.
async fn answered(limits: Limits, bytes: impl AsRef<[u8]>, close: bool) -> Ended {
    answered_up_to(Limits::MAX_HEADER_BYTES, limits, bytes, close).await
}

async fn answered_up_to(
    max_header_bytes: usize,
    limits: Limits,
    bytes: impl AsRef<[u8]>,
    close: bool,
) -> Ended {
    let mut container = Container::new();
    let link = soon(container.dir.ready(max_header_bytes))
        .await
        .expect("the function listens");
    let mut function = container.accept().await;
    let script = async {
        function.request().await;
        // The agent may have had enough before the end.
        let _ = soon(function.stream.write_all(bytes.as_ref())).await;
        if close {
            drop(function);
            None
        } else {
            Some(function)
        }
    };
    let (ended, peer) = tokio::join!(dispatch_with(limits, link, call("in")), script);
    Ended {
        _peer: peer,
        ..ended
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\n";

#[tokio::test]
async fn a_handled_call_returns_headers_and_body() {
    let bytes = format!(
        "{OK}Content-Type: foo/bar\r\nFn-Http-Status: 202\r\nFn-Fdk-Version: test/1\r\n\
         Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 4\r\n\r\nbody"
    );
    let mut ended = answered(Limits::default(), bytes, false).await;
    let answer = ended.answer();
    assert_eq!(answer.headers["content-type"], "foo/bar");
    assert_eq!(answer.headers["fn-http-status"], "202");
    assert_eq!(answer.headers["content-length"], "4");
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    let report = ended.report().await;
    assert_eq!(report.fdk_version.expect("a version"), "test/1");
    assert!(matches!(report.outcome, Outcome::Reusable(link) if link.is_connected()));
}

#[tokio::test]
async fn hop_by_hop_headers_and_false_lengths_do_not_pass() {
    let bytes = format!(
        "{OK}Keep-Alive: 5\r\nConnection: x-private\r\nX-Private: 1\r\nTrailer: x\r\n\
         Upgrade: h2c\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\nX-Trailer: t\r\n\r\n"
    );
    let mut ended = answered(Limits::default(), bytes, false).await;
    let answer = ended.answer();
    let names: Vec<_> = answer
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .collect();
    assert_eq!(names, ["content-length"]);
    assert_eq!(answer.headers["content-length"], "2");
    let body = answer.body.collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "hi");
    assert!(ended.reusable().await.is_connected());
}

#[tokio::test]
async fn a_function_may_say_that_it_failed() {
    for (status, code) in [
        (502, ErrorCode::FunctionFailed),
        (504, ErrorCode::CallTimeout),
    ] {
        let bytes = format!(
            "HTTP/1.1 {status} Oops\r\nFn-Fdk-Version: test/1\r\nContent-Length: 6\r\n\r\nsecret"
        );
        let mut ended = answered(Limits::default(), bytes, false).await;
        assert_eq!(ended.code(), code);
        let report = ended.report().await;
        assert_eq!(report.fdk_version.expect("a version"), "test/1");
        assert!(matches!(report.outcome, Outcome::Reusable(link) if link.is_connected()));
    }
}

#[tokio::test]
async fn a_failure_that_is_not_told_to_its_end_breaks_the_container() {
    let cut = "HTTP/1.1 502 Oops\r\nContent-Length: 6\r\n\r\nsec";
    let mut ended = answered(Limits::default(), cut, true).await;
    assert_eq!(ended.code(), ErrorCode::FunctionFailed);
    assert_eq!(ended.broken().await, Cause::ConnectionLost);

    let long = format!(
        "HTTP/1.1 502 Oops\r\nContent-Length: 100000\r\n\r\n{}",
        "x".repeat(100_000)
    );
    let mut ended = answered(Limits::default(), long, false).await;
    assert_eq!(ended.code(), ErrorCode::FunctionFailed);
    assert_eq!(ended.broken().await, Cause::ResponseTooLarge);
}

#[tokio::test]
async fn any_other_status_is_invalid() {
    for status in [101, 201, 204, 302, 304, 400, 404, 500, 503, 999] {
        let bytes = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        let mut ended = answered(Limits::default(), bytes, false).await;
        assert_eq!(ended.code(), ErrorCode::FunctionInvalidResponse, "{status}");
        assert_eq!(ended.broken().await, Cause::InvalidResponse);
    }
}

#[tokio::test]
async fn what_is_not_an_answer_is_an_error() {
    let unfit: [&[u8]; 14] = [
        b"",
        b"\r\n\r\n\r\n",
        b"garbage\r\n\r\n",
        b"\0\x01\x02\xff\xfe\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: folded\r\n line\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: nul\0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ];
    for bytes in unfit {
        let mut ended = answered(Limits::default(), bytes, true).await;
        let text = bytes.escape_ascii();
        assert_eq!(ended.code(), ErrorCode::FunctionResponseError, "{text}");
        assert_eq!(ended.broken().await, Cause::ConnectionLost, "{text}");
    }
}

#[tokio::test]
async fn a_crash_while_a_small_answer_comes_gives_a_clean_error() {
    for bytes in [
        "HTTP/1.1 200",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut ended = answered(Limits::default(), bytes, true).await;
        assert_eq!(ended.code(), ErrorCode::FunctionResponseError, "{bytes}");
        assert_eq!(ended.broken().await, Cause::ConnectionLost);
    }
}

#[tokio::test]
async fn headers_have_a_limit() {
    let limit = 1024;
    let head = |value: usize| {
        let pad = "v".repeat(value);
        format!("{OK}Content-Length: 0\r\nX: {pad}\r\n\r\n")
    };
    let fits = head(limit - head(0).len());
    assert_eq!(fits.len(), limit);
    let ended = answered_up_to(limit, Limits::default(), fits, false).await;
    ended.result.expect("as long as allowed");

    for bytes in [
        head(limit - head(0).len() + 1),
        head(1_000_000),
        format!("{OK}X: {}", "endless".repeat(1000)),
        format!("{OK}{}\r\n", "a: b\r\n".repeat(300)),
    ] {
        let mut ended = answered_up_to(limit, Limits::default(), bytes, false).await;
        assert_eq!(ended.code(), ErrorCode::ResponseHeaderTooLarge);
        assert_eq!(ended.broken().await, Cause::ResponseTooLarge);
    }
}

#[tokio::test]
async fn a_hundred_headers_and_strange_values_are_fine() {
    let head = |count: usize| {
        let mut bytes = format!("{OK}Content-Length: 0\r\n").into_bytes();
        for n in 2..count {
            bytes.extend(format!("X-{n}: \u{fc}\t{n}\r\n").bytes());
        }
        bytes.extend(b"!#$%&'*+-.^_`|~: \xff\xfe\r\n\r\n");
        bytes
    };
    let mut ended = answered(Limits::default(), head(100), false).await;
    assert_eq!(ended.answer().headers.len(), 100);
    assert!(ended.reusable().await.is_connected());

    let mut ended = answered(Limits::default(), head(101), false).await;
    assert_eq!(ended.code(), ErrorCode::ResponseHeaderTooLarge);
    assert_eq!(ended.broken().await, Cause::ResponseTooLarge);
}

#[tokio::test]
async fn a_body_has_a_limit() {
    let limits = Limits {
        max_response_bytes: Some(2048),
        ..Limits::default()
    };
    let sized = |length: usize| {
        let body = "b".repeat(length);
        format!("{OK}Content-Length: {length}\r\n\r\n{body}")
    };
    let chunked = |length: usize| {
        let body = "b".repeat(length);
        format!("{OK}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
    };
    let live = |length: usize| {
        chunked(length).replacen(OK, &format!("{OK}Content-Type: text/event-stream\r\n"), 1)
    };
    for fits in [sized(2048), chunked(2048), live(2048)] {
        let mut ended = answered(limits, fits, false).await;
        assert_eq!(ended.text().await.len(), 2048);
        assert!(ended.reusable().await.is_connected());
    }
    for large in [sized(2049), chunked(2049), chunked(1_000_000)] {
        let mut ended = answered(limits, large, false).await;
        assert_eq!(ended.code(), ErrorCode::ResponseBodyTooLarge);
        assert_eq!(ended.broken().await, Cause::ResponseTooLarge);
    }
    // What flows has begun by then: it ends with the error.
    let in_pieces = live(2048).replace("0\r\n\r\n", "1\r\nb\r\n0\r\n\r\n");
    for large in [live(2049), in_pieces] {
        let mut ended = answered(limits, large, false).await;
        let error = soon(ended.answer().body.collect())
            .await
            .expect_err("too large");
        let error = error.downcast::<domain::ApiError>().expect("ours");
        assert_eq!(error.code(), ErrorCode::ResponseBodyTooLarge);
        assert_eq!(ended.broken().await, Cause::ResponseTooLarge);
    }
}

#[tokio::test]
async fn no_answer_before_the_deadline_is_a_time_out() {
    for bytes in [
        "",
        "HTTP/1.1 200 OK\r\nContent-",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart",
        "HTTP/1.1 502 Oops\r\nContent-Length: 9\r\n\r\npart",
    ] {
        let mut container = Container::new();
        let (link, mut function) = container.connect().await;
        let call = Call {
            deadline: in_millis(100),
            ..call("in")
        };
        let script = async {
            function.request().await;
            function.write(bytes).await;
            function.is_closed().await;
        };
        let (mut ended, ()) = tokio::join!(dispatch(link, call), script);
        assert_eq!(ended.code(), ErrorCode::CallTimeout, "{bytes}");
        assert_eq!(ended.broken().await, Cause::TimedOut, "{bytes}");
    }
}

#[tokio::test]
async fn interim_answers_are_skipped() {
    let bytes = format!(
        "{}{OK}Content-Length: 2\r\n\r\nhi",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(50)
    );
    let mut ended = answered(Limits::default(), bytes, false).await;
    assert_eq!(ended.text().await, "hi");
    assert!(ended.reusable().await.is_connected());
}
