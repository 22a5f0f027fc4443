//! Handing in durable calls: what is kept of the document, and each way in which it is refused.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api_node::calls::CallsSettings;
use domain::Timestamp;
use http::Method;
use serde_json::{Value, json};

use super::runner::{Node, plain};

#[tokio::test]
async fn a_call_is_kept_as_it_was_handed_in() {
    let node = Node::start().await;
    let draft = json!({
        "payload_base64": "AAEC/w==",
        "content_type": "a/b",
        "headers": {"X-Own": "1", "Connection": "x-hop", "X-Hop": "1", "Host": "h", "Content-Length": "9"},
        "expiry_seconds": 60,
        "priority": 7,
        "max_attempts": 2,
        "callback_url": "https://example.com/done",
        "tags": {"customer": "4711"},
        "idempotency_key": "k",
    });
    let path = format!("/v2/fns/{}/calls", node.func);
    let answer = node.api.post(&path, &draft).await;
    assert_eq!(answer.status, 202);
    let body: Value = serde_json::from_str(&answer.text).expect("JSON");
    let id = body["call_id"].as_str().expect("an id");
    assert_eq!(answer.headers["fn-call-id"], id);
    assert_eq!(answer.headers["location"], format!("/v2/calls/{id}"));
    assert!(!answer.headers.contains_key("idempotent-replayed"));

    let call = node.show(id).await;
    for (field, expected) in [
        ("id", json!(id)),
        ("status", json!("queued")),
        ("type", json!("async")),
        ("app_id", json!(node.app)),
        ("fn_id", json!(node.func)),
        ("path", json!(format!("/invoke/{}", node.func))),
        ("method", json!("POST")),
        ("image", json!("x/y:1")),
        ("priority", json!(7)),
        ("attempts", json!(0)),
        ("max_attempts", json!(2)),
        ("tags", json!({"customer": "4711"})),
        ("callback_url", json!("https://example.com/done")),
    ] {
        assert_eq!(call[field], expected, "{field}");
    }

    let mut runner = node.runner().await;
    let leased = runner.take().await;
    assert_eq!(leased.lease.call_id.as_str(), id);
    assert_eq!(&*leased.body, b"\0\x01\x02\xff");
    let mut headers: Vec<_> = leased.headers.0.clone();
    headers.sort();
    let expected = [("content-type", "a/b"), ("x-own", "1")];
    assert_eq!(
        headers,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[tokio::test]
async fn a_delayed_call_waits() {
    let node = Node::start().await;
    let hour = Duration::from_secs(3600);
    let in_an_hour = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time")
        + hour;
    let in_an_hour = i64::try_from(in_an_hour.as_millis()).expect("a time");
    for draft in [
        json!({"delay_seconds": 3600}),
        json!({"run_at": Timestamp::from_unix_millis(in_an_hour)}),
    ] {
        let id = node.submit(draft).await;
        let call = node.show(&id).await;
        assert_eq!(call["status"], "delayed");
        assert!(call["due_at"].as_str() > call["created_at"].as_str());
    }
}

#[tokio::test]
async fn a_key_makes_one_call() {
    let node = Node::start().await;
    let path = format!("/v2/fns/{}/calls", node.func);
    let first = node
        .submit(json!({"payload": "a", "idempotency_key": "k"}))
        .await;
    let headers = [("idempotency-key", "k")];
    let again = node
        .api
        .send(Method::POST, &path, &headers, r#"{"payload":"a"}"#)
        .await;
    assert_eq!(again.status, 202, "{}", again.text);
    assert_eq!(again.headers["fn-call-id"], first.as_str());
    assert_eq!(again.headers["idempotent-replayed"], "true");
    node.api
        .send(Method::POST, &path, &headers, r#"{"payload":"b"}"#)
        .await
        .refused(422, "Idempotency-Key was used with another request");
    node.api
        .send(
            Method::POST,
            &path,
            &headers,
            r#"{"payload":"a","idempotency_key":"l"}"#,
        )
        .await
        .refused(400, "idempotency_key must be that of the header");
    let list = node.api.get("/v2/calls").await.json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_is_out_of_its_limits_is_refused() {
    let node = Node::start().await;
    let path = format!("/v2/fns/{}/calls", node.func);
    let long = "x".repeat(256);
    let many: Value = (0..17).map(|n| (format!("t{n}"), json!(""))).collect();
    for (draft, message) in [
        (
            json!({"delay_seconds": 1209601}),
            "delay_seconds must be at most 1209600",
        ),
        (
            json!({"delay_seconds": 1, "run_at": "2030-01-01T00:00:00Z"}),
            "run_at cannot be together with delay_seconds",
        ),
        (
            json!({"run_at": "2999-01-01T00:00:00Z"}),
            "run_at must be at most 14 days ahead",
        ),
        (
            json!({"headers": {"Fn-Intent": "httprequest"}}),
            "headers must not contain fn-intent",
        ),
        (
            json!({"headers": {"fn-http-request-url": "/a"}}),
            "headers must not contain fn-http-request-url",
        ),
        (
            json!({"headers": {"FN-ATTEMPT": "7"}}),
            "headers must not contain fn-attempt",
        ),
        (
            json!({"expiry_seconds": 0}),
            "expiry_seconds must be between 1 and 1209600",
        ),
        (
            json!({"expiry_seconds": 1209601}),
            "expiry_seconds must be between 1 and 1209600",
        ),
        (json!({"priority": -1}), "priority must be between 0 and 9"),
        (json!({"priority": 10}), "priority must be between 0 and 9"),
        (
            json!({"max_attempts": 0}),
            "max_attempts must be between 1 and 100",
        ),
        (
            json!({"max_attempts": 101}),
            "max_attempts must be between 1 and 100",
        ),
        (
            json!({"callback_url": "ftp://a"}),
            "callback_url must be an http or https URL of at most 2048 bytes",
        ),
        (
            json!({"tags": many}),
            "tags must be at most 16, with names and values of at most 128 bytes",
        ),
        (
            json!({"tags": {"": "1"}}),
            "tags must be at most 16, with names and values of at most 128 bytes",
        ),
        (
            json!({"idempotency_key": ""}),
            "idempotency_key must be 1 to 255 bytes without control characters",
        ),
        (
            json!({"idempotency_key": long}),
            "idempotency_key must be 1 to 255 bytes without control characters",
        ),
        (
            json!({"payload": "", "payload_base64": ""}),
            "payload cannot be together with payload_base64",
        ),
        (
            json!({"payload_base64": "*"}),
            "payload_base64 must be base64",
        ),
        (
            json!({"headers": {"a b": "1"}}),
            "headers must be names and values of HTTP headers",
        ),
        (
            json!({"headers": {"a": "1\n"}}),
            "headers must be names and values of HTTP headers",
        ),
        (
            json!({"content_type": "a\n"}),
            "content_type must be the value of an HTTP header",
        ),
        (json!({"payload": 1}), "Invalid JSON"),
        (json!([]), "Invalid JSON"),
    ] {
        node.api.post(&path, &draft).await.refused(400, message);
    }
    for (draft, named) in [
        (json!({"priorty": 1}), "unknown field `priorty`"),
        (json!({"priority": "high"}), "invalid type"),
        (json!({"run_at": "tomorrow"}), "not an RFC 3339 time"),
    ] {
        let answer = node.api.post(&path, &draft).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text.contains(named), "{}", answer.text);
    }
    node.api
        .post("/v2/fns/none/calls", &plain())
        .await
        .refused(404, "Fn not found");
    let list = node.api.get("/v2/calls").await.json();
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn an_input_over_the_limit_is_413() {
    let settings = CallsSettings {
        max_body: 4,
        ..CallsSettings::default()
    };
    let node = Node::start_with(None, settings).await;
    node.submit(json!({"payload": "1234"})).await;
    let path = format!("/v2/fns/{}/calls", node.func);
    for draft in [
        json!({"payload": "12345"}),
        json!({"payload_base64": "MTIzNDU="}),
    ] {
        node.api
            .post(&path, &draft)
            .await
            .refused(413, "Request content too large");
    }
    let length = (1 << 20) + 9;
    let answer = node
        .api
        .post(&path, &json!({"payload": "x".repeat(length)}))
        .await;
    assert_eq!(answer.status, 413);
    assert!(
        answer.text.contains("Content-Length too large"),
        "{}",
        answer.text
    );
}
