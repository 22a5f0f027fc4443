//! `/t`: what is told to the function and what to the client (spec/01 1.9, spec/11 11.2).

use http::Method;
use nodekit::body;
use tokio::sync::mpsc;

use crate::node::{Node, answer, header_map, names, request};

#[tokio::test]
async fn the_request_is_told_to_the_function() {
    let (node, calls) = Node::answering(&[], "").await;
    let headers = [
        ("accept-encoding", "gzip"),
        ("connection", "x-named"),
        ("content-type", "foo/bar"),
        ("fn-http-method", "FORGED"),
        ("fn-invoke-type", "detached"),
        ("host", "example.com:81"),
        ("keep-alive", "timeout=5"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        ("x-a", "1"),
        ("x-named", "1"),
    ];
    for verb in [
        "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "BREW",
    ] {
        let method = Method::from_bytes(verb.as_bytes()).expect("a token");
        let sent = request(method, "/t/a/s?q=%20", &headers, "input");
        assert_eq!(node.send(sent).await.status.as_u16(), 200);
        let seen = calls.only();
        assert_eq!(seen.body, "input");
        assert!(!seen.detached, "only /invoke can be detached");
        let expected = [
            "content-type",
            "fn-http-h-accept-encoding",
            "fn-http-h-content-length",
            "fn-http-h-fn-http-method",
            "fn-http-h-fn-invoke-type",
            "fn-http-h-traceparent",
            "fn-http-h-x-a",
            "fn-http-h-x-rid",
            "fn-http-method",
            "fn-http-request-url",
            "fn-intent",
            "traceparent",
        ];
        assert_eq!(names(&seen.headers), expected);
        assert_eq!(seen.headers["fn-http-method"], verb);
        assert_eq!(
            seen.headers["fn-http-request-url"],
            "http://example.com:81/t/a/s?q=%20"
        );
        assert_eq!(seen.headers["fn-intent"], "httprequest");
        let trace = seen.headers["traceparent"].to_str().expect("ASCII");
        assert!(
            trace.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"),
            "{trace}"
        );
    }
}

#[tokio::test]
async fn the_status_is_the_functions_own() {
    for (told, expected) in [
        ("200", 200),
        ("202", 202),
        ("301", 301),
        ("404", 404),
        ("500", 500),
        ("599", 599),
        ("abc", 200),
        ("0", 200),
        ("-404", 200),
    ] {
        let (node, _) = Node::answering(&[("fn-http-status", told)], "output").await;
        let answer = node.get("/t/a/s").await;
        assert_eq!(answer.status.as_u16(), expected, "{told}");
        assert_eq!(answer.body, "output");
        assert_eq!(answer.header("fn-call-id").len(), 26);
    }
    for told in ["1", "99", "100", "101", "199", "600", "999", "70000"] {
        let (node, _) = Node::answering(&[("fn-http-status", told)], "output").await;
        let answer = node.get("/t/a/s").await;
        answer.assert_error(502, "invalid function response");
        assert_eq!(answer.header("fn-call-id").len(), 26);
    }
}

#[tokio::test]
async fn the_platforms_error_wins() {
    let node =
        Node::start(|_| Box::pin(async { Err(domain::ErrorCode::CallTimeout.into()) })).await;
    let answer = node.get("/t/a/s").await;
    answer.assert_error(504, "Timed out");
    assert_eq!(answer.header("fn-call-id").len(), 26);
}

#[tokio::test]
async fn only_what_is_meant_for_the_client_reaches_it() {
    let headers = [
        ("content-length", "9999"),
        ("content-type", "foo/bar"),
        ("fn-http-h-", "nameless"),
        ("fn-http-h-connection", "x-named"),
        ("fn-http-h-content-length", "9999"),
        ("fn-http-h-fn-call-id", "forged"),
        ("fn-http-h-set-cookie", "a=1"),
        ("fn-http-h-set-cookie", "b=2"),
        ("fn-http-h-transfer-encoding", "chunked"),
        ("fn-http-h-x-named", "1"),
        ("fn-http-h-x-out", "1"),
        ("fn-http-status", "202"),
        ("x-inner", "1"),
    ];
    let (node, calls) = Node::answering(&headers, "output").await;
    let answer = node.get("/t/a/s").await;
    assert_eq!(
        (answer.status.as_u16(), &*answer.body),
        (202, &b"output"[..])
    );
    let expected = [
        "content-length",
        "content-type",
        "date",
        "fn-call-id",
        "set-cookie",
        "x-out",
    ];
    assert_eq!(names(&answer.headers), expected);
    assert_eq!(answer.header("content-length"), "6");
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    assert_eq!(answer.header("fn-call-id"), calls.only().id);
}

/// An answer that the client gets no body of is still read to its end, because dropping it would
/// cancel the call and cost the function its container.
#[tokio::test]
async fn an_answer_without_a_body_is_read_to_its_end() {
    for (method, status, length) in [
        (Method::HEAD, "200", Some("6")),
        (Method::HEAD, "404", Some("6")),
        (Method::GET, "204", None),
        (Method::GET, "304", None),
    ] {
        let (ends, mut ended) = mpsc::channel(1);
        let node = Node::start(move |_| {
            let ends = ends.clone();
            Box::pin(async move {
                let pieces = ["out", "put", ""].map(str::as_bytes).into_iter();
                let stream = futures_util::stream::unfold(pieces, move |mut pieces| {
                    let ends = ends.clone();
                    async move {
                        let piece = pieces.next()?;
                        if piece.is_empty() {
                            ends.send(()).await.expect("the test waits");
                        }
                        let frame = http_body::Frame::data(bytes::Bytes::from_static(piece));
                        Some((Ok::<_, nodekit::body::BodyError>(frame), pieces))
                    }
                });
                let headers = header_map(&[("fn-http-status", status)]);
                let body = body::stream(http_body_util::StreamBody::new(stream));
                Ok(answer(headers, body))
            })
        })
        .await;
        let answer = node.send(request(method.clone(), "/t/a/s", &[], "")).await;
        assert_eq!(answer.status.as_str(), status);
        assert!(answer.body.is_empty());
        let told = answer
            .headers
            .get("content-length")
            .map(|told| told.to_str().expect("ASCII"));
        assert_eq!(told, length, "{method} {status}");
        ended
            .try_recv()
            .expect("the body was read to its end before the answer");
    }
}
