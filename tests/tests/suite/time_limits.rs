//! Calls that take too long, and input that nobody reads or that comes late (spec/11 11.2, 11.5).

use hearth_tests::{Deployed, Server, eventually, raw};
use serde_json::json;

#[tokio::test]
async fn a_call_over_its_time_out_is_followed_by_a_good_one() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "slow", json!({ "timeout": 4 })).await;
    func.call_json(json!({ "sleepTime": 5000 }))
        .await
        .is_error(504, "Timed out");
    func.call_json(json!({ "sleepTime": 10 })).await.expect(200);
}

/// Waiting for a container does not count against the function's own time.
#[tokio::test]
async fn the_start_of_the_container_is_not_the_functions_time() {
    let server = Server::start(&[]).await;
    let settings = json!({ "timeout": 1, "config": { "ENABLE_INIT_DELAY_MSEC": "1500" } });
    let func = Deployed::test_function(&server.client, "waits", settings).await;
    func.call_json(json!({})).await.expect(200);
}

/// PipesAreClear: what a call did not read is not the next call's input, and costs no container.
#[tokio::test]
async fn unread_input_is_nobody_elses() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "unread", json!({ "timeout": 10 })).await;
    func.call_json(json!({})).await.expect(200);
    let first = server.containers();
    // It answers when the input has been sent: an answer before that may be lost with the connection.
    let unread = json!({ "script": [
        { "sleepMs": 300 },
        { "text": "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi" },
    ] });
    let unread = unread.to_string();
    let unread = [("test-knobs", unread.as_str())];
    for length in [1, 64 << 10] {
        assert_eq!(
            func.call_with(&unread, vec![b'e'; length])
                .await
                .expect(200)
                .text(),
            "hi"
        );
        let answer = func
            .call_json(json!({ "echoContent": "mine" }))
            .await
            .expect(200)
            .json();
        assert_eq!(answer["request"], json!({ "echoContent": "mine" }));
    }
    assert_eq!(server.containers(), first);
}

/// CallsDontInterlace: input that comes after its call's time-out is not the next call's.
#[tokio::test]
async fn late_input_of_a_timed_out_call_is_nobody_elses() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "late", json!({ "timeout": 1 })).await;
    func.call_json(json!({})).await.expect(200);
    // Long input flows to the function as it comes; a short one is waited for without a container.
    let mut late = raw::Connection::open(&server.client).await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n",
        func.path
    );
    let begun = format!("{head}{{\"echoContent\":\"{}", "x".repeat(1 << 20));
    late.try_send(begun.as_bytes())
        .await
        .expect("the server reads");
    let answer = late.answer_head().await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    // The server may have closed the connection, or reads the rest away.
    let _ = late.try_send(&[b'x'; 100]).await;
    let answer = func
        .call_json(json!({ "echoContent": "mine" }))
        .await
        .expect(200)
        .json();
    assert_eq!(answer["request"], json!({ "echoContent": "mine" }));
}

/// A function whose caller has gone works for nobody: it is stopped, and its container with it.
#[tokio::test]
async fn a_client_that_goes_away_takes_its_call_with_it() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "left", json!({ "timeout": 300 })).await;
    func.call_json(json!({})).await.expect(200);
    let first = server.containers();
    let mut client = raw::Connection::open(&server.client).await;
    let body = json!({ "sleepTime": 300_000 }).to_string();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
        func.path,
        body.len()
    );
    client
        .try_send(head.as_bytes())
        .await
        .expect("the server reads");
    eventually("the call runs", async || {
        (server.metric("fn_running").await == Some(1.0)).then_some(())
    })
    .await;
    drop(client);
    eventually("its container is gone", async || {
        server.containers().is_empty().then_some(())
    })
    .await;
    assert_eq!(server.metric("fn_running").await, Some(0.0));
    func.call_json(json!({})).await.expect(200);
    assert_ne!(server.containers(), first);
}
