//! The engine goes away under load and comes back: Hearth goes on without being restarted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hearth_tests::engine::PrivateEngine;
use hearth_tests::{Deployed, Server, eventually, eventually_within, functions};
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn calls_succeed_again_soon_after_the_engine_is_back() {
    let mut engine = PrivateEngine::start().await;
    let image = functions::image("echo");
    engine.copy_image(&image);
    let mut server = Server::start(&[("FN_DOCKER_HOST", &engine.host())]).await;
    let echo = Deployed::new(&server.client, "echo", &image, json!({ "memory": 64 })).await;
    echo.call("warm").await.expect(200);

    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (echo, stop) = (echo.clone(), Arc::clone(&stop));
        clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = echo.call("load").await;
                // The container died under the call, or there is no engine for another one.
                assert!(
                    [200, 502, 503].contains(&answer.status.as_u16()),
                    "{answer:?}"
                );
            }
        });
    }
    engine.stop().await;
    eventually("the outage is noticed", async || {
        (echo.call("x").await.status == 503).then_some(())
    })
    .await;
    eventually("the runner is not ready", async || {
        (server.client.get("/readyz").await.status == 503).then_some(())
    })
    .await;
    engine.resume().await;
    eventually_within(Duration::from_secs(5), "calls succeed again", async || {
        (echo.call("x").await.status == 200).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.expect("a client finished");
    }
    eventually("the runner is ready again", async || {
        (server.client.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    server.signal(Signal::TERM);
    assert_eq!(server.ended(Duration::from_secs(30)).await.code(), Some(0));
    engine.stop().await;
}
