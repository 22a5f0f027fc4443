//! Reading bodies (spec/01 1.2).

use std::time::Duration;

use api_node::rest::ApiSettings;
use http::Method;
use nodekit::http_server::Limits;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::Api;

const MEBIBYTE: usize = 1 << 20;

/// Sends `bytes` and nothing more; answers all that comes back.
async fn raw(api: &Api, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(&api.address)
        .await
        .expect("a connection");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8(answer).expect("UTF-8")
}

#[tokio::test]
async fn the_content_type_does_not_matter() {
    let api = Api::start().await;
    for (n, kind) in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "",
        "no type at all",
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({"name": format!("a{n}")}).to_string();
        api.send(Method::POST, "/v2/apps", &[("content-type", kind)], body)
            .await
            .json();
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_invalid_json() {
    let api = Api::start().await;
    let bodies: [&[u8]; 9] = [
        b"",
        b"   ",
        b"{\"name\":\"a\"",
        b"{\"name\":\"a\"} x",
        b"{\"name\":\"\xff\"}",
        b"{\"name\":\"a\\u0000\"}",
        b"{\"name\":\"a\",\"config\":{\"k\\u0000\":\"v\"}}",
        b"{\"name\":\"a\",\"annotations\":{\"k\":{\"\\u0000\":1}}}",
        b"{\"name\":\"a\",\"updated_at\":\"soon\"}",
    ];
    for path in ["/v2/apps", "/v2/fns", "/v2/triggers"] {
        for body in bodies {
            api.send(Method::POST, path, &[], body)
                .await
                .refused(400, "Invalid JSON");
        }
    }
}

#[tokio::test]
async fn a_body_may_hold_a_mebibyte() {
    let api = Api::start().await;
    let padded = |name: &str, length: usize| {
        let head = format!("{{\"name\":\"{name}\",\"padding\":\"");
        let padding = "x".repeat(length - head.len() - 2);
        format!("{head}{padding}\"}}")
    };
    api.send(Method::POST, "/v2/apps", &[], padded("fits", MEBIBYTE))
        .await
        .json();
    let message = "Content-Length too large for this server, 1048577 > max 1048576";
    api.send(Method::POST, "/v2/apps", &[], padded("large", MEBIBYTE + 1))
        .await
        .refused(413, message);
}

#[tokio::test]
async fn a_chunked_body_is_cut() {
    let api = Api::start().await;
    let head = "POST /v2/apps HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", MEBIBYTE + 1, "x".repeat(MEBIBYTE + 1));
    let answer = raw(&api, format!("{head}{chunk}0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(
        answer.ends_with("{\"message\":\"Request content too large\"}\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn the_configured_limit_counts_where_it_is_smaller() {
    let limits = Limits {
        max_body_bytes: Some(20),
        ..Limits::default()
    };
    let api = Api::start_with(ApiSettings::default(), limits).await;
    let message = "Content-Length too large for this server, 28 > max 20";
    api.post("/v2/apps", &json!({"name": "a".repeat(17)}))
        .await
        .refused(413, message);
    api.app("short").await;
    let head = "POST /v2/apps HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = raw(
        &api,
        format!("{head}15\r\n{}\r\n0\r\n\r\n", "x".repeat(21)).as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let settings = ApiSettings {
        body_timeout: Duration::from_millis(50),
        ..ApiSettings::default()
    };
    let api = Api::start_with(settings, Limits::default()).await;
    let head =
        "POST /v2/apps HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\n{";
    let answer = raw(&api, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(
        answer.ends_with("{\"message\":\"Request body was not received in time\"}\n"),
        "{answer}"
    );
}
