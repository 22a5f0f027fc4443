//! Many calls on a node that has little: eviction, waiting, refusing (spec/04 4.4, 4.8; spec/11 11.5).

use std::time::Duration;

use hearth_tests::{Deployed, Server, engine, eventually, raw};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Room for one container of 150 MiB, and no more.
const SMALL: &str = "209715200";
const BUSY: &str = "Timed out - server too busy";

async fn function(server: &Server, name: &str, config: Value) -> Deployed {
    Deployed::test_function(
        &server.client,
        name,
        json!({ "memory": 150, "config": config }),
    )
    .await
}

async fn small_server(non_blocking: bool) -> Server {
    let non_blocking = if non_blocking { "true" } else { "false" };
    Server::start(&[
        ("FN_MAX_TOTAL_MEMORY_BYTES", SMALL),
        ("FN_ENABLE_NB_RESOURCE_TRACKER", non_blocking),
    ])
    .await
}

/// Minimal concurrency: calls that run at the same time are all answered.
#[tokio::test]
async fn four_calls_at_once_are_all_answered() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "four", json!({})).await;
    let mut calls = JoinSet::new();
    for number in 0..4 {
        let func = func.clone();
        calls.spawn(async move {
            let knobs = json!({ "sleepTime": 100, "echoContent": number.to_string() });
            assert_eq!(
                func.call_json(knobs.clone()).await.expect(200).json()["request"],
                knobs
            );
        });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("answered");
    }
}

/// PlainDoEvict, in both modes.
#[tokio::test]
async fn an_idle_neighbour_makes_room() {
    for non_blocking in [true, false] {
        let server = small_server(non_blocking).await;
        let first = function(&server, "first", json!({})).await;
        let second = function(&server, "second", json!({})).await;
        for func in [&first, &second, &first] {
            let before = server.containers();
            func.call_json(json!({})).await.expect(200);
            eventually("only the last one is left", async || {
                let now = server.containers();
                (now.len() == 1 && now != before).then_some(())
            })
            .await;
        }
    }
}

/// PlainNoEvict.
#[tokio::test]
async fn a_busy_neighbour_stays_and_the_call_is_refused() {
    let server = small_server(true).await;
    let first = function(&server, "first", json!({})).await;
    let second = function(&server, "second", json!({})).await;
    let busy = tokio::spawn(async move { first.call_json(json!({ "sleepTime": 3000 })).await });
    eventually("the first one runs", async || {
        (server.metric("fn_running").await == Some(1.0)).then_some(())
    })
    .await;
    let refused = second.call_json(json!({})).await;
    refused.is_error(503, BUSY);
    assert_eq!(refused.header("retry-after"), Some("15"));
    assert!(!busy.is_finished(), "refused at once");
    busy.await.expect("no panic").expect(200);
    second.call_json(json!({})).await.expect(200);
}

/// The default is to wait for room.
#[tokio::test]
async fn a_busy_neighbour_is_waited_for() {
    let server = small_server(false).await;
    let first = function(&server, "first", json!({})).await;
    let second = function(&server, "second", json!({})).await;
    let busy = tokio::spawn(async move { first.call_json(json!({ "sleepTime": 1500 })).await });
    eventually("the first one runs", async || {
        (server.metric("fn_running").await == Some(1.0)).then_some(())
    })
    .await;
    second.call_json(json!({})).await.expect(200);
    assert!(busy.is_finished());
    busy.await.expect("no panic").expect(200);
}

/// HungFDKNoEvict.
#[tokio::test]
async fn a_container_that_is_being_started_is_not_evicted() {
    let server = small_server(true).await;
    let first = function(
        &server,
        "first",
        json!({ "ENABLE_INIT_DELAY_MSEC": "3000" }),
    )
    .await;
    let second = function(&server, "second", json!({})).await;
    let starting = tokio::spawn(async move { first.call_json(json!({})).await });
    eventually("the first one starts", async || {
        (!server.containers().is_empty()).then_some(())
    })
    .await;
    second.call_json(json!({})).await.is_error(503, BUSY);
    assert!(!starting.is_finished());
    starting.await.expect("no panic").expect(200);
}

/// DockerPullHungNoEvict.
#[tokio::test]
async fn a_container_whose_image_is_being_pulled_is_not_evicted() {
    let registry = raw::Silent::start().await;
    let settings = [
        ("FN_MAX_TOTAL_MEMORY_BYTES", SMALL),
        ("FN_ENABLE_NB_RESOURCE_TRACKER", "true"),
        ("FN_HOT_PULL_TIMEOUT_MSECS", "4000"),
    ];
    let server = Server::start(&settings).await;
    let image = format!("{}/hung:1", registry.address);
    let first = Deployed::new(&server.client, "first", &image, json!({ "memory": 150 })).await;
    let second = function(&server, "second", json!({})).await;
    let pulling = tokio::spawn(async move { first.call_json(json!({})).await });
    registry.connected().await;
    second.call_json(json!({})).await.is_error(503, BUSY);
    assert!(!pulling.is_finished());
    pulling
        .await
        .expect("no panic")
        .is_error(504, "Image pull timed out");
    second.call_json(json!({})).await.expect(200);
}

/// NBIOResourceTracker.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_wait_takes_what_fits() {
    let settings = [
        ("FN_MAX_TOTAL_MEMORY_BYTES", "293601280"),
        ("FN_ENABLE_NB_RESOURCE_TRACKER", "true"),
    ];
    let server = Server::start(&settings).await;
    let settings = json!({ "memory": 50, "timeout": 30 });
    let func = Deployed::test_function(&server.client, "many", settings).await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let func = func.clone();
        calls.spawn(async move { func.call_json(json!({ "sleepTime": 10_000 })).await });
    }
    let mut succeeded = 0;
    while let Some(answer) = calls.join_next().await {
        let answer = answer.expect("no panic");
        match answer.status.as_u16() {
            200 => succeeded += 1,
            _ => answer.is_error(503, BUSY),
        }
    }
    assert!((4..=5).contains(&succeeded), "{succeeded}");
}

/// A container that nobody calls goes when its time is up.
#[tokio::test]
async fn an_idle_container_goes_after_its_time() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "idle", json!({ "idle_timeout": 1 })).await;
    func.call_json(json!({})).await.expect(200);
    let first = server.containers();
    assert_eq!(first.len(), 1);
    eventually("it is gone", async || {
        server.containers().is_empty().then_some(())
    })
    .await;
    func.call_json(json!({})).await.expect(200);
    assert_ne!(server.containers(), first);
}

/// Freezing: an idle container stands still, and a call wakes it.
#[tokio::test]
async fn an_idle_container_is_frozen_and_woken_by_a_call() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "frozen", json!({})).await;
    for _ in 0..3 {
        func.call_json(json!({})).await.expect(200);
        let container = server.containers().pop().expect("a container");
        eventually("it is frozen", async || {
            engine::is_frozen(&container).then_some(())
        })
        .await;
    }
    let call = {
        let func = func.clone();
        tokio::spawn(async move { func.call_json(json!({ "sleepTime": 1000 })).await })
    };
    eventually("the call runs", async || {
        (server.metric("fn_running").await == Some(1.0)).then_some(())
    })
    .await;
    let containers = server.containers();
    assert_eq!(containers.len(), 1);
    assert!(!engine::is_frozen(&containers[0]));
    tokio::time::timeout(Duration::from_secs(20), call)
        .await
        .expect("in time")
        .expect("no panic")
        .expect(200);
}
