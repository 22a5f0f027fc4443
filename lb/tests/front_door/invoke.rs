//! `/invoke`: headers, status, detached calls and errors (spec/01 1.8, 1.10, spec/13 13.1).

use std::time::Duration;

use domain::{ApiError, ErrorCode};
use http::Method;
use nodekit::body;

use crate::node::{Calls, Node, answer, header_map, names, request};

#[tokio::test]
async fn headers_and_body_reach_the_function_but_those_of_the_hop() {
    let (node, calls) = Node::answering(&[], "").await;
    let headers = [
        ("accept-encoding", "br"),
        ("connection", "x-named, close"),
        ("content-type", "foo/bar"),
        ("expect", "100-continue"),
        ("fn-custom", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authorization", "secret"),
        ("te", "gzip"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        ("tracestate", "a=1"),
        ("upgrade", "h2c"),
        ("x-named", "1"),
    ];
    node.post("/invoke/f?query=dropped", &headers, "input")
        .await;
    let seen = calls.only();
    assert_eq!(seen.body, "input");
    assert!(!seen.detached);
    assert_eq!(seen.patience, Some(Duration::from_secs(360)));
    let expected = [
        "accept-encoding",
        "content-length",
        "content-type",
        "fn-custom",
        "traceparent",
        "tracestate",
        "x-rid",
    ];
    assert_eq!(names(&seen.headers), expected);
    assert_eq!(seen.headers["accept-encoding"], "br");
    assert_eq!(seen.headers["content-type"], "foo/bar");
    let trace = seen.headers["traceparent"].to_str().expect("ASCII");
    assert!(
        trace.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"),
        "{trace}"
    );
    assert_eq!(seen.headers["x-rid"].len(), 26);
}

#[tokio::test]
async fn nothing_is_added_but_a_trace_and_the_requests_id() {
    let (node, calls) = Node::answering(&[], "").await;
    node.post("/invoke/f", &[("x-rid", "mine")], "").await;
    let seen = calls.only();
    assert!(seen.body.is_empty());
    assert_eq!(names(&seen.headers), ["traceparent", "x-rid"]);
    assert_eq!(seen.headers["x-rid"], "mine");
}

#[tokio::test]
async fn an_answer_is_200_with_the_functions_headers() {
    let headers = [
        ("connection", "x-named"),
        ("content-length", "9999"),
        ("content-type", "foo/bar"),
        ("fn-call-id", "forged"),
        ("fn-http-status", "500"),
        ("keep-alive", "timeout=5"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("transfer-encoding", "chunked"),
        ("x-named", "1"),
    ];
    let (node, calls) = Node::answering(&headers, "output").await;
    let answer = node.post("/invoke/f", &[], "").await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(answer.body, "output");
    let expected = [
        "content-length",
        "content-type",
        "date",
        "fn-call-id",
        "fn-http-status",
        "set-cookie",
    ];
    assert_eq!(names(&answer.headers), expected);
    assert_eq!(answer.header("content-length"), "6");
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    let ids: Vec<_> = answer.headers.get_all("fn-call-id").iter().collect();
    assert_eq!(ids, [calls.only().id.as_str()]);
    assert_eq!(answer.header("fn-call-id").len(), 26);
}

#[tokio::test]
async fn a_content_type_is_guessed_where_there_is_none() {
    for (body, expected) in [
        ("text", Some("text/plain; charset=utf-8")),
        ("a\0b", Some("application/octet-stream")),
        ("", None),
    ] {
        let (node, _) = Node::answering(&[], body).await;
        let answer = node.post("/invoke/f", &[], "").await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.body),
            (200, body.as_bytes())
        );
        let told = answer
            .headers
            .get("content-type")
            .map(|told| told.to_str().expect("ASCII"));
        assert_eq!(told, expected);
        assert_eq!(answer.header("content-length"), body.len().to_string());
    }
}

#[tokio::test]
async fn each_error_has_its_status_text_and_call_id() {
    let node = Node::start(|call| {
        Box::pin(async move {
            let wanted = call.headers["x-want"].to_str().expect("ASCII").to_owned();
            let code = ErrorCode::ALL.iter().find(|code| code.name() == wanted);
            Err(ApiError::from(*code.expect("a code")).detail("from the inside"))
        })
    })
    .await;
    for code in ErrorCode::ALL {
        let answer = node.post("/invoke/f", &[("x-want", code.name())], "").await;
        assert_eq!(answer.header("fn-call-id").len(), 26, "{code:?}");
        let retry_after = answer
            .headers
            .get("retry-after")
            .map(|value| value.to_str().expect("ASCII"));
        let expected = code
            .retry_after_seconds()
            .map(|seconds| seconds.to_string());
        assert_eq!(retry_after, expected.as_deref());
        if *code == ErrorCode::ClientCancelled {
            assert_eq!((answer.status.as_u16(), answer.body.len()), (444, 0));
        } else {
            answer.assert_error(code.status(), code.text());
        }
    }
    let text = node.metrics();
    for ended in ["errors", "timeouts", "server_busy", "canceled"] {
        let none = format!("fn_lb_call_latency_count{{call_status=\"{ended}\"}} 0");
        assert!(!text.contains(&none), "{none}");
    }
}

#[tokio::test]
async fn a_detached_call_is_202_when_it_starts() {
    let (node, calls) = Node::answering(&[("x-inner", "1")], "discarded").await;
    let answer = node
        .post("/invoke/f", &[("fn-invoke-type", "detached")], "input")
        .await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (202, 0));
    let seen = calls.only();
    assert_eq!(answer.header("fn-call-id"), seen.id);
    assert!(!answer.headers.contains_key("x-inner"));
    assert!(seen.detached);
    assert_eq!(seen.body, "input");
    assert_eq!(seen.patience, Some(Duration::from_secs(30)));
    for kind in ["sync", "DETACHED", ""] {
        let answer = node
            .post("/invoke/f", &[("fn-invoke-type", kind)], "")
            .await;
        assert_eq!(answer.status.as_u16(), 200);
        assert!(!calls.only().detached);
    }
}

#[tokio::test]
async fn a_detached_call_that_does_not_start_is_an_error() {
    let node = Node::start(|_| Box::pin(async { Err(ErrorCode::ServerBusy.into()) })).await;
    let answer = node
        .post("/invoke/f", &[("fn-invoke-type", "detached")], "")
        .await;
    answer.assert_error(503, "Timed out - server too busy");
    assert_eq!(answer.header("retry-after"), "15");
    assert_eq!(answer.header("fn-call-id").len(), 26);
}

#[tokio::test]
async fn a_detached_calls_input_is_bounded() {
    let (node, calls) = Node::answering(&[], "").await;
    let mut big = request(
        Method::POST,
        "/invoke/f",
        &[("fn-invoke-type", "detached")],
        "",
    );
    *big.body_mut() = body::full(vec![b'x'; (6 << 20) + 1]);
    node.send(big)
        .await
        .assert_error(413, "Request content too large");
    assert_eq!(calls.count(), 0);
}

#[tokio::test]
async fn the_stages_are_told_when_asked_for() {
    let (node, _) = Node::answering(&[("content-type", "a/b")], "x").await;
    for path in ["/invoke/f", "/t/a/s"] {
        let answer = node.post(path, &[("fn-timings", "1")], "").await;
        assert!(
            answer
                .header("server-timing")
                .starts_with("scheduling;dur=1.000, ")
        );
        assert!(
            answer
                .header("server-timing")
                .ends_with(", execution;dur=2.000")
        );
        let answer = node.post(path, &[], "").await;
        assert!(!answer.headers.contains_key("server-timing"));
    }
}

#[tokio::test]
async fn headers_of_any_bytes_come_and_go() {
    let calls = Calls::default();
    let seen = calls.clone();
    let node = Node::start(move |call| {
        let seen = seen.clone();
        Box::pin(async move {
            let mut headers = header_map(&[("content-type", "a/b")]);
            for (name, value) in &call.headers {
                if name.as_str().starts_with("x-odd") {
                    headers.append(name.clone(), value.clone());
                }
            }
            seen.take_in(call).await?;
            Ok(answer(headers, body::empty()))
        })
    })
    .await;
    let mut odd = request(Method::POST, "/invoke/f", &[], "");
    for (at, bytes) in [&b"\xff\xfe"[..], b"", b"a\tb", "ä".as_bytes()]
        .into_iter()
        .enumerate()
    {
        let value = http::HeaderValue::from_bytes(bytes).expect("a value");
        let name: http::HeaderName = format!("x-odd!{at}").parse().expect("a name");
        odd.headers_mut().insert(name, value);
    }
    let sent = odd.headers().clone();
    let answer = node.send(odd).await;
    for (name, value) in &sent {
        assert_eq!(answer.headers.get(name), Some(value), "{name}");
    }
    calls.only();
}
