//! Clients that take their time: with their heads, with their bodies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hearth_tests::{Client, Deployed, Server, eventually, functions, raw};
use serde_json::json;
use tokio::task::JoinSet;

use super::Size;

const SLOW_HEADS: usize = 2000;
const SLOW_BODIES: usize = 500;
const GOOD_CLIENTS: usize = 8;

/// The slow ones send a byte at a time, and never in vain for the server's patience with a pause.
const PACE: Duration = Duration::from_millis(400);

/// Sends `start`, and then a byte now and then until the server has had enough; yields what it says.
async fn slow_client(client: Client, start: String, connected: Arc<AtomicUsize>) -> String {
    let mut connection = raw::Connection::open(&client).await;
    connection
        .try_send(start.as_bytes())
        .await
        .expect("the server reads");
    connected.fetch_add(1, Ordering::Relaxed);
    connection.drip(b"x", PACE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn good_clients_go_on_among_thousands_of_slow_ones() {
    nodekit::http_server::raise_open_files_limit();
    let server = Server::start(&[
        ("FN_REQUEST_HEADER_READ_TIMEOUT", "8"),
        ("FN_REQUEST_BODY_READ_TIMEOUT", "8"),
        ("FN_LOG_LEVEL", "info"),
    ])
    .await;
    let image = functions::image("echo");
    let echo = Deployed::new(&server.client, "echo", &image, json!({ "memory": 64 })).await;
    let stop = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicUsize::new(0));
    let mut good = JoinSet::new();
    for number in 0..GOOD_CLIENTS {
        let (echo, stop, calls) = (echo.clone(), Arc::clone(&stop), Arc::clone(&calls));
        good.spawn(async move {
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                let body = format!("client {number}, turn {turn}");
                assert_eq!(echo.call(body.clone()).await.expect(200).text(), body);
                calls.fetch_add(1, Ordering::Relaxed);
                turn += 1;
            }
        });
    }
    eventually("good clients are served", async || {
        (calls.load(Ordering::Relaxed) > 100).then_some(())
    })
    .await;
    let size = Size::of(&server);

    let connected = Arc::new(AtomicUsize::new(0));
    let mut heads = JoinSet::new();
    let mut bodies = JoinSet::new();
    for _ in 0..SLOW_HEADS {
        let start = format!("POST {} HTTP/1.1\r\nHost: h\r\nX-Slow: ", echo.path);
        heads.spawn(slow_client(server.client.clone(), start, connected.clone()));
    }
    for number in 0..SLOW_BODIES {
        // Half of them call the very function that the good clients call.
        let path = if number % 2 == 0 {
            echo.path.as_str()
        } else {
            "/v2/apps"
        };
        let start = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
        );
        bodies.spawn(slow_client(server.client.clone(), start, connected.clone()));
    }
    eventually("all slow clients are connected", async || {
        (connected.load(Ordering::Relaxed) == SLOW_HEADS + SLOW_BODIES).then_some(())
    })
    .await;
    let amid = calls.load(Ordering::Relaxed);
    eventually("good clients are served among them", async || {
        (calls.load(Ordering::Relaxed) > amid + 100).then_some(())
    })
    .await;

    while let Some(told) = heads.join_next().await {
        assert_eq!(told.expect("no panic"), "", "a slow head is cut off");
    }
    while let Some(told) = bodies.join_next().await {
        let told = told.expect("no panic");
        assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = good.join_next().await {
        client.expect("every good call was answered");
    }
    size.is_bounded();
}
