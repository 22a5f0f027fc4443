//! The examples, on the Rust FDK: what their README promises (`hello` is in `invoke`).

use hearth_tests::{Deployed, Server, functions, raw};
use http::{Method, Request};
use serde_json::json;

async fn example(server: &Server, name: &str, settings: serde_json::Value) -> Deployed {
    Deployed::new(&server.client, name, &functions::image(name), settings).await
}

#[tokio::test]
async fn http_trigger_has_its_own_status_and_headers() {
    let server = Server::start(&[]).await;
    let func = example(&server, "http-trigger", json!({})).await;
    let path = func.trigger("http-trigger", "/things").await;
    let url = format!("{path}?color=red");
    let answer = server.client.post(&url, "a thing").await.expect(201);
    assert_eq!(
        (answer.header("location"), answer.header("set-cookie")),
        (Some("/things/1"), Some("seen=yes"))
    );
    let seen = answer.json();
    assert_eq!(
        (&seen["method"], &seen["body"]),
        (&json!("POST"), &json!("a thing"))
    );
    assert_eq!(seen["url"], format!("{}{url}", server.client.base()));
    let delete = Request::builder().method(Method::DELETE).uri(&path);
    let refused = server
        .client
        .send(delete.body(bytes::Bytes::new()).expect("a request"))
        .await
        .expect(405);
    assert_eq!(refused.header("allow"), Some("GET, POST"));
    func.call("").await.expect(200);
}

#[tokio::test]
async fn streaming_sends_what_it_has() {
    let server = Server::start(&[]).await;
    let settings = json!({ "config": { "EVENT_INTERVAL_MS": "1000" } });
    let func = example(&server, "streaming", settings).await;
    let mut client = raw::Connection::open(&server.client).await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 1\r\n\r\n2",
        func.path
    );
    client
        .try_send(head.as_bytes())
        .await
        .expect("the server reads");
    let first = client.until("event 1 of 2").await;
    assert!(
        first.starts_with("HTTP/1.1 200 OK\r\n") && first.contains("text/event-stream"),
        "{first}"
    );
    assert_eq!(
        server.metric("fn_running").await,
        Some(1.0),
        "the first event came with the last one"
    );
    assert!(client.rest().await.contains("event 2 of 2"));
}

#[tokio::test]
async fn limits_meets_each_of_them() {
    let server = Server::start(&[]).await;
    let limits = example(&server, "limits", json!({ "memory": 64, "timeout": 1 })).await;
    limits
        .call_json(json!({ "allocate_mib": 20 }))
        .await
        .expect(200);
    limits
        .call_json(json!({ "fail": "on purpose" }))
        .await
        .is_error(502, "function failed");
    limits
        .call_json(json!({ "sleep_ms": 40_000 }))
        .await
        .is_error(504, "Timed out");
    assert_eq!(
        limits
            .call_json(json!({ "answer_kib": 3000 }))
            .await
            .expect(200)
            .body
            .len(),
        3000 << 10
    );
    limits
        .call_json(json!({ "exit": 0 }))
        .await
        .is_error(502, "error receiving function response");
    limits
        .call_json(json!({ "allocate_mib": 500 }))
        .await
        .is_error(502, "error receiving function response");
    limits.call_json(json!({})).await.expect(200);
}
