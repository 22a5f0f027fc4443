//! Headers on their way to the function and back, where there is no trigger (spec/03 3.1, spec/01 1.8).

use bytes::Bytes;
use hearth_tests::{Deployed, Server, raw};
use http::Request;
use serde_json::json;

#[tokio::test]
async fn what_a_client_says_about_its_connection_is_not_told_to_the_function() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "client", json!({})).await;
    let head = format!(
        "POST {}?query=dropped HTTP/1.1\r\nHost: h\r\nConnection: close, X-Named\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: x\r\nProxy-Authorization: x\r\nProxy-Authenticate: x\r\nTe: gzip\r\nUpgrade: h2c\r\n\
         X-Named: n\r\nX-Kept: 1\r\nX-Kept: 2\r\nAuthorization: a\r\nFn-Call-Id: forged\r\nFn-Deadline: forged\r\n\
         Fn-Other: o\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}",
        func.path
    );
    let answer = raw::exchange(&server.client, head.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let told: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let headers = &told["header"];
    for gone in [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "Proxy-Authenticate",
        "Te",
        "Upgrade",
        "X-Named",
        "Content-Length",
    ] {
        assert_eq!(headers.get(gone), None, "{gone}");
    }
    for (name, values) in [
        ("X-Kept", json!(["1", "2"])),
        ("Authorization", json!(["a"])),
        ("Fn-Other", json!(["o"])),
        ("Content-Type", json!(["text/plain"])),
        ("Host", json!(["localhost"])),
        ("Transfer-Encoding", json!(["chunked"])),
    ] {
        assert_eq!(headers[name], values, "{name}");
    }
    assert_eq!(headers["Fn-Call-Id"][0].as_str().map(str::len), Some(26));
    assert_ne!(headers["Fn-Deadline"], json!(["forged"]));
}

#[tokio::test]
async fn what_a_function_says_about_its_connection_is_not_told_to_the_client() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "function", json!({})).await;
    for misbehaviour in [
        "keepAliveHeader",
        "connectionNames",
        "hopByHop",
        "connectionCloseButOpen",
    ] {
        let answer = func
            .call_json(json!({ "misbehave": misbehaviour }))
            .await
            .expect(200);
        assert_eq!(answer.text(), "hi", "{misbehaviour}");
        for gone in [
            "connection",
            "keep-alive",
            "x-secret",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authorization",
            "te",
            "upgrade",
            "trailer",
        ] {
            assert_eq!(answer.header(gone), None, "{misbehaviour}: {gone}");
        }
    }
}

/// A missing content type is guessed, but never to be something that a browser executes.
#[tokio::test]
async fn a_missing_content_type_is_guessed() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "types", json!({})).await;
    let html = func
        .call_json(json!({ "misbehave": "noContentType" }))
        .await
        .expect(200);
    assert_eq!(
        (html.header("content-type"), html.text().as_str()),
        (Some("text/plain; charset=utf-8"), "<html>")
    );
    let empty = func
        .call_json(json!({ "noContentType": true, "isEmptyBody": true }))
        .await
        .expect(200);
    assert_eq!(empty.header("content-type"), None);
}

/// W3C trace context is continued into the function.
#[tokio::test]
async fn a_trace_goes_on_in_the_function() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "trace", json!({})).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let request =
        Request::post(&func.path).header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"));
    let answer = server
        .client
        .send(request.body(Bytes::new()).expect("a request"))
        .await
        .expect(200);
    let told = answer.json()["header"]["Traceparent"][0]
        .as_str()
        .expect("a trace")
        .to_owned();
    assert!(
        told.starts_with(&format!("00-{trace}-")) && told.ends_with("-01"),
        "{told}"
    );
}
