//! Uploads and answers that are larger than the server's memory may become.

use std::time::Duration;

use hearth_tests::{Deployed, Server, functions, raw};
use serde_json::json;
use tokio::time::timeout;

use super::Size;

/// How long a body of any size may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is uploaded. The long form is run by hand: `HEARTH_ABUSE_GIB=10` (docs/operations.md).
fn upload_bytes() -> u64 {
    let gib = std::env::var("HEARTH_ABUSE_GIB");
    gib.map_or(512 << 20, |gib| {
        gib.parse::<u64>().expect("a number of GiB") << 30
    })
}

fn chunked(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{headers}\r\n")
}

/// Uploads as much as is taken, and yields the answer and how much that was.
async fn upload(server: &Server, head: &str) -> (String, u64) {
    let mut connection = raw::Connection::open(&server.client).await;
    connection
        .try_send(head.as_bytes())
        .await
        .expect("the server reads");
    let uploaded = connection.upload(upload_bytes());
    timeout(PATIENCE, uploaded).await.expect("an end")
}

#[tokio::test]
async fn an_upload_that_is_read_streams_through() {
    let server = Server::start(&[("FN_LOG_LEVEL", "info")]).await;
    let settings = json!({ "timeout": 300 });
    let func = Deployed::test_function(&server.client, "reads", settings).await;
    func.call_json(json!({})).await.expect(200);
    let size = Size::of(&server);
    let head = chunked(&func.path, "Test-Knobs: {}\r\nConnection: close\r\n");
    let (answer, _) = upload(&server, &head).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let all = format!("\"bodyLength\":\"{}\"", upload_bytes());
    assert!(answer.contains(&all), "{answer}");
    size.is_bounded();
}

#[tokio::test]
async fn an_upload_that_nobody_reads_is_not_taken_in() {
    let server = Server::start(&[("FN_LOG_LEVEL", "info")]).await;
    let func = Deployed::test_function(&server.client, "blind", json!({ "timeout": 2 })).await;
    func.call_json(json!({})).await.expect(200);
    let size = Size::of(&server);
    for (knobs, status) in [
        (r#"{"misbehave":"neverRead"}"#, "504"),
        (r#"{"misbehave":"answerWithoutInput"}"#, "200"),
        (r#"{"misbehave":"readSomeAndClose"}"#, "502"),
    ] {
        let head = chunked(&func.path, &format!("Test-Knobs: {knobs}\r\n"));
        let (answer, sent) = upload(&server, &head).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{knobs}: {answer}"
        );
        // What fits into the buffers of sockets on the way.
        assert!(sent < 64 << 20, "{knobs}: {sent} bytes were taken");
        func.call_json(json!({})).await.expect(200);
    }
    size.is_bounded();
}

#[tokio::test]
async fn an_upload_above_the_limit_is_refused() {
    let settings = [("FN_MAX_REQUEST_SIZE", "1048576"), ("FN_LOG_LEVEL", "info")];
    let server = Server::start(&settings).await;
    let func = Deployed::test_function(&server.client, "limited", json!({ "timeout": 30 })).await;
    func.call_json(json!({})).await.expect(200);
    let size = Size::of(&server);
    let (answer, sent) = upload(&server, &chunked(&func.path, "Test-Knobs: {}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
        func.path,
        upload_bytes()
    );
    let answer = raw::exchange(&server.client, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    func.call_json(json!({})).await.expect(200);
    size.is_bounded();
}

#[tokio::test]
async fn an_answer_of_a_gibibyte_streams_through() {
    let server = Server::start(&[("FN_LOG_LEVEL", "info")]).await;
    let settings = json!({ "timeout": 300 });
    let func = Deployed::test_function(&server.client, "talks", settings).await;
    func.call_json(json!({})).await.expect(200);
    let size = Size::of(&server);
    for knobs in [
        r#"{"misbehave":"hugeBody"}"#,
        r#"{"misbehave":"hugeChunkedBody"}"#,
    ] {
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: h\r\nTest-Knobs: {knobs}\r\nConnection: close\r\n\r\n",
            func.path
        );
        let mut connection = raw::Connection::open(&server.client).await;
        connection.try_send(request.as_bytes()).await.expect("sent");
        let head = connection.answer_head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let bytes = timeout(PATIENCE, connection.count()).await.expect("an end");
        assert!(bytes >= 1 << 30, "{knobs}: {bytes}");
    }
    size.is_bounded();
}

#[tokio::test]
async fn answers_that_nobody_takes_are_not_kept_in_memory() {
    const CLIENTS: usize = 20;
    let server = Server::start(&[("FN_LOG_LEVEL", "info")]).await;
    let image = functions::image("test-function");
    let settings = json!({ "memory": 64, "timeout": 300 });
    let func = Deployed::new(&server.client, "talks", &image, settings).await;
    func.call_json(json!({})).await.expect(200);
    let size = Size::of(&server);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: h\r\nTest-Knobs: {}\r\n\r\n",
            func.path, r#"{"misbehave":"hugeBody"}"#
        );
        let mut connection = raw::Connection::open(&server.client).await;
        connection.try_send(request.as_bytes()).await.expect("sent");
        let head = connection.answer_head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        // The head is taken, then nothing more: the function waits for the client.
        clients.push(connection);
    }
    size.is_bounded();
    // Their calls are over when they go, and their containers are not used again.
    drop(clients);
    func.call_json(json!({})).await.expect(200);
    size.is_bounded();
}
