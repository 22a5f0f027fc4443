//! Durable calls: what is accepted of a request, what the client is told, and what is refused.

use std::sync::Arc;

use domain::ErrorCode;
use http::Method;
use lb::CallLimits;
use nodekit::body;

use crate::node::{Calls, Node, Setup, answer, header_map, request};
use crate::plane::Plane;

const DETACHED: (&str, &str) = ("fn-invoke-type", "detached");

/// A node with a call plane, and a runner that shows what it is asked to run.
async fn node(plane: &Arc<Plane>, kept: CallLimits) -> (Node, Calls) {
    let calls = Calls::default();
    let seen = calls.clone();
    let setup = Setup {
        kept,
        calls: Some(plane.clone()),
        ..Setup::default()
    };
    let node = Node::set_up(setup, move |call| {
        let seen = seen.clone();
        Box::pin(async move {
            seen.take_in(call).await?;
            Ok(answer(header_map(&[]), body::full("output")))
        })
    });
    (node.await, calls)
}

#[tokio::test]
async fn a_detached_call_is_accepted_with_all_that_it_needs() {
    let plane = Plane::new();
    let (node, ran) = node(&plane, CallLimits::default()).await;
    let headers = [
        DETACHED,
        ("host", "example.com"),
        ("connection", "x-named"),
        ("x-named", "1"),
        ("content-type", "foo/bar"),
        ("x-own", "1"),
        ("fn-call-delay", "5"),
        ("fn-call-expiry", "60"),
        ("fn-call-priority", "7"),
        ("fn-call-max-attempts", "2"),
        ("fn-call-callback-url", "http://a/b"),
        ("fn-call-tags", "a=1,b=2"),
        ("idempotency-key", "key"),
    ];
    let told = node.post("/invoke/f?q=1", &headers, "input").await;
    assert_eq!(told.status.as_u16(), 202);
    let id = told.header("fn-call-id");
    assert_eq!(id.len(), 26);
    assert_eq!(told.header("location"), format!("/v2/calls/{id}"));
    assert_eq!(
        told.header("content-type"),
        "application/json; charset=utf-8"
    );
    assert_eq!(
        &*told.body,
        format!("{{\"call_id\":\"{id}\"}}\n").as_bytes()
    );
    for absent in ["preference-applied", "idempotent-replayed"] {
        assert!(!told.headers.contains_key(absent), "{absent}");
    }
    let call = plane.only_call();
    assert_eq!((call.id.as_str(), call.fn_id.as_str()), (id, "f"));
    assert_eq!(call.trigger_id, None);
    assert_eq!((&*call.path, &*call.method), ("/invoke/f", "POST"));
    assert_eq!(call.url, "http://example.com/invoke/f?q=1");
    assert_eq!(call.body, "input");
    let options = serde_json::json!({
        "delay_seconds": 5, "expiry_seconds": 60, "priority": 7, "max_attempts": 2,
        "callback_url": "http://a/b", "tags": {"a": "1", "b": "2"}, "idempotency_key": "key",
    });
    assert_eq!(
        serde_json::to_value(&call.options).expect("JSON"),
        options,
        "what was asked for"
    );
    let mut names: Vec<_> = call.headers.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    let expected = [
        "content-length",
        "content-type",
        "fn-invoke-type",
        "traceparent",
        "x-own",
        "x-rid",
    ];
    assert_eq!(names, expected);
    assert_eq!(ran.count(), 0, "nothing runs before a runner asks for it");
}

#[tokio::test]
async fn a_trigger_is_called_later_as_it_would_be_called_now() {
    let plane = Plane::new();
    let (node, ran) = node(&plane, CallLimits::default()).await;
    let headers = [
        ("prefer", "respond-async"),
        ("host", "h"),
        ("content-type", "a/b"),
        ("x-a", "1"),
        ("fn-call-priority", "1"),
    ];
    for verb in ["GET", "POST", "DELETE", "HEAD"] {
        let method = Method::from_bytes(verb.as_bytes()).expect("a verb");
        let told = node
            .send(request(method, "/t/a/s?q=1", &headers, "in"))
            .await;
        assert_eq!(told.status.as_u16(), 202, "{verb}");
        assert_eq!(told.header("preference-applied"), "respond-async");
        let call = plane.only_call();
        assert_eq!(told.header("fn-call-id"), call.id.as_str());
        let trigger = call.trigger_id.as_ref().map(|id| id.as_str());
        assert_eq!((trigger, &*call.path), (Some("/s"), "/s"));
        assert_eq!((&*call.method, &*call.url), (verb, "http://h/t/a/s?q=1"));
        for (name, expected) in [
            ("content-type", Some("a/b")),
            ("fn-http-h-x-a", Some("1")),
            ("fn-http-method", Some(verb)),
            ("fn-http-request-url", Some("http://h/t/a/s?q=1")),
            ("fn-intent", Some("httprequest")),
            ("fn-http-h-fn-call-priority", None),
        ] {
            assert_eq!(call.headers.get(name), expected, "{name}");
        }
        assert_eq!((call.options.priority, &*call.body), (Some(1), &b"in"[..]));
    }
    assert_eq!(ran.count(), 0);
}

#[tokio::test]
async fn a_known_key_is_answered_with_the_first_call() {
    let plane = Plane::new();
    let (node, _) = node(&plane, CallLimits::default()).await;
    let headers = [DETACHED, ("idempotency-key", "k")];
    let first = node.post("/invoke/f", &headers, "a").await;
    let again = node.post("/invoke/f", &headers, "a").await;
    assert_eq!(again.status.as_u16(), 202);
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.header("fn-call-id"), first.header("fn-call-id"));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.body, first.body);
    node.post("/invoke/f", &headers, "b")
        .await
        .assert_error(422, "Idempotency-Key was used with another request");
    assert_eq!(plane.count(), 1);
}

#[tokio::test]
async fn a_bad_option_is_refused_by_its_name() {
    let plane = Plane::new();
    let (node, _) = node(&plane, CallLimits::default()).await;
    let long = "x".repeat(300);
    let tags: String = (0..17).map(|n| format!("t{n}=1,")).collect();
    for (name, value, message) in [
        (
            "fn-call-delay",
            "soon",
            "Fn-Call-Delay must be a whole number",
        ),
        (
            "fn-call-delay",
            "-1",
            "Fn-Call-Delay must be a whole number",
        ),
        ("fn-call-delay", "", "Fn-Call-Delay must be a whole number"),
        (
            "fn-call-delay",
            "1209601",
            "Fn-Call-Delay must be at most 1209600",
        ),
        (
            "fn-call-run-at",
            "tomorrow",
            "Fn-Call-Run-At must be a time as RFC 3339 has it",
        ),
        (
            "fn-call-expiry",
            "0",
            "Fn-Call-Expiry must be between 1 and 1209600",
        ),
        (
            "fn-call-expiry",
            "1209601",
            "Fn-Call-Expiry must be between 1 and 1209600",
        ),
        (
            "fn-call-priority",
            "10",
            "Fn-Call-Priority must be between 0 and 9",
        ),
        (
            "fn-call-max-attempts",
            "0",
            "Fn-Call-Max-Attempts must be between 1 and 100",
        ),
        (
            "fn-call-max-attempts",
            "101",
            "Fn-Call-Max-Attempts must be between 1 and 100",
        ),
        (
            "fn-call-callback-url",
            "ftp://a",
            "Fn-Call-Callback-Url must be an http or https URL of at most 2048 bytes",
        ),
        (
            "fn-call-tags",
            "a",
            "Fn-Call-Tags must be name=value, separated by commas",
        ),
        (
            "fn-call-tags",
            &tags,
            "Fn-Call-Tags must be at most 16, with names and values of at most 128 bytes",
        ),
        (
            "idempotency-key",
            &long,
            "Idempotency-Key must be 1 to 255 bytes without control characters",
        ),
        (
            "idempotency-key",
            "",
            "Idempotency-Key must be 1 to 255 bytes without control characters",
        ),
    ] {
        for path in ["/invoke/f", "/t/a/s"] {
            let told = node.post(path, &[DETACHED, (name, value)], "").await;
            told.assert_error(400, message);
        }
    }
    let both = [
        DETACHED,
        ("fn-call-delay", "1"),
        ("fn-call-run-at", "2030-01-01T00:00:00Z"),
    ];
    node.post("/invoke/f", &both, "")
        .await
        .assert_error(400, "Fn-Call-Run-At cannot be together with Fn-Call-Delay");
    let twice = [DETACHED, ("fn-call-delay", "1"), ("fn-call-delay", "1")];
    node.post("/invoke/f", &twice, "")
        .await
        .assert_error(400, "Fn-Call-Delay must be given once");
    assert_eq!(plane.count(), 0);
}

#[tokio::test]
async fn nothing_is_promised_that_is_not_committed() {
    let plane = Plane::new();
    let (node, _) = node(&plane, CallLimits::default()).await;
    for (code, retry_after) in [
        (ErrorCode::StoreUnavailable, Some("1")),
        (ErrorCode::FnNotFound, None),
        (ErrorCode::IdempotencyKeyInUse, None),
    ] {
        plane.fail(&[code]);
        let told = node.post("/invoke/f", &[DETACHED], "").await;
        told.assert_error(code.status(), code.text());
        assert_eq!(told.header("fn-call-id").len(), 26);
        assert!(!told.headers.contains_key("location"));
        let after = told.headers.get("retry-after");
        assert_eq!(
            after.map(|after| after.to_str().expect("ASCII")),
            retry_after
        );
    }
    assert_eq!(plane.count(), 0);
}

#[tokio::test]
async fn an_input_over_the_limit_is_413() {
    let plane = Plane::new();
    let config = CallLimits {
        max_body: 5,
        ..CallLimits::default()
    };
    let (node, ran) = node(&plane, config).await;
    for path in ["/invoke/f", "/t/a/s"] {
        let told = node.post(path, &[DETACHED], "12345").await;
        assert_eq!(told.status.as_u16(), 202);
        assert_eq!(plane.only_call().body, "12345");
        node.post(path, &[DETACHED], "123456")
            .await
            .assert_error(413, "Request content too large");
        assert_eq!(node.post(path, &[], "123456").await.status.as_u16(), 200);
        assert_eq!(ran.only().body, "123456", "the limit is not that of others");
    }
}

/// Without a plane a preference is no order, and a detached call goes to a runner at once.
#[tokio::test]
async fn a_function_whose_client_waits_does_not_see_options_of_durable_calls() {
    let plane = Plane::new();
    let (node, ran) = node(&plane, CallLimits::default()).await;
    let headers = [
        ("fn-call-callback-url", "http://a/b?token=c"),
        ("x-own", "1"),
    ];
    let told = node.post("/invoke/f", &headers, "input").await;
    assert_eq!(told.status.as_u16(), 200);
    let seen = ran.only();
    assert_eq!(seen.headers.get("fn-call-callback-url"), None);
    assert!(seen.headers.contains_key("x-own"));
}

#[tokio::test]
async fn without_a_plane_nothing_changes() {
    let (node, ran) = Node::answering(&[], "output").await;
    let told = node.post("/invoke/f", &[DETACHED], "in").await;
    assert_eq!((told.status.as_u16(), told.body.len()), (202, 0));
    assert!(ran.only().detached);
    let headers = [
        ("prefer", "respond-async"),
        ("idempotency-key", "k"),
        ("fn-call-delay", "x"),
    ];
    for path in ["/invoke/f", "/t/a/s"] {
        let told = node.post(path, &headers, "in").await;
        assert_eq!((told.status.as_u16(), &*told.body), (200, &b"output"[..]));
        assert!(!ran.only().detached);
    }
}
