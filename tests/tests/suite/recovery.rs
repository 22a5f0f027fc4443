//! Stopping, dying, and what is left behind (DESIGN 9).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hearth_tests::eventually::PATIENCE;
use hearth_tests::{Deployed, Server, engine, eventually, eventually_within, functions};
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;

/// Settings with which containers are left alone once they are there.
const KEEP: &[(&str, &str)] = &[("FN_FREEZE_IDLE_MSECS", "-1")];

fn entries(directory: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return BTreeSet::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("iofs"))
        .collect()
}

/// What a process has open, such as `socket:[123]`, but for the store: its pool opens as many
/// connections as it needs, up to its own limit.
fn open_files(pid: u32) -> Vec<String> {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("a running process")
        // One may be closed meanwhile.
        .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
        .map(|file| file.display().to_string())
        .filter(|file| !file.contains("/fn.db"))
        .collect()
}

#[tokio::test]
async fn sigterm_lets_running_calls_finish_and_refuses_new_ones() {
    let mut server = Server::start(KEEP).await;
    let slow = Deployed::new(
        &server.client,
        "slow",
        &functions::image("limits"),
        json!({ "memory": 64 }),
    )
    .await;
    slow.call_json(json!({ "sleep_ms": 0 })).await.expect(200);

    let mut calls = JoinSet::new();
    for _ in 0..4 {
        let slow = slow.clone();
        calls.spawn(async move { slow.call_json(json!({ "sleep_ms": 6000 })).await });
    }
    let running = eventually("calls run", async || {
        server
            .metric("fn_running")
            .await
            .filter(|running| *running >= 2.0)
    })
    .await;
    server.signal(Signal::TERM);
    let refused = eventually("new calls are refused", async || {
        let answer = slow.call_json(json!({ "sleep_ms": 0 })).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    refused.is_error(503, "Timed out - server too busy");
    assert_eq!(refused.header("retry-after"), Some("15"));
    assert_eq!(server.client.get("/readyz").await.status, 503);

    let mut finished = 0.0;
    while let Some(answer) = calls.join_next().await {
        let answer = answer.expect("no panic");
        match answer.status.as_u16() {
            200 => finished += 1.0,
            // It was still waiting for a container.
            _ => answer.is_error(503, "Timed out - server too busy"),
        }
    }
    assert!(
        finished >= running,
        "{finished} of {running} running calls finished"
    );
    let status = server.ended(Duration::from_secs(30)).await;
    assert_eq!(status.code(), Some(0), "{}", server.log_text());
    assert_eq!(server.containers(), [""; 0]);
    assert_eq!(entries(&server.sockets()), BTreeSet::new());
}

#[tokio::test]
async fn a_second_start_finds_its_data_again() {
    let mut server = Server::start(&[]).await;
    let hello = Deployed::new(
        &server.client,
        "hello",
        &functions::image("hello"),
        json!({}),
    )
    .await;
    server.signal(Signal::INT);
    assert_eq!(server.ended(Duration::from_secs(30)).await.code(), Some(0));
    server.restart().await;
    let path = format!("/v2/fns/{}", hello.fn_id);
    assert_eq!(
        server.client.get(&path).await.expect(200).json()["name"],
        "hello"
    );
    server.client.post(&hello.path, "").await.expect(200);
}

#[tokio::test]
async fn the_next_start_removes_what_a_killed_server_left_behind_and_nothing_else() {
    let mut server = Server::start(&[]).await;
    let mut neighbour = Server::start(&[]).await;
    let image = functions::image("limits");
    let ours = Deployed::new(&server.client, "ours", &image, json!({ "memory": 64 })).await;
    let theirs = Deployed::new(&neighbour.client, "theirs", &image, json!({ "memory": 64 })).await;
    theirs.call_json(json!({ "sleep_ms": 0 })).await.expect(200);
    ours.call_json(json!({ "sleep_ms": 0 })).await.expect(200);
    let foreign = engine::docker(&["create", "--label", "somebody=else", &image]);

    // One container is busy, one may be frozen; none of it is said to anybody.
    let mut calls = JoinSet::new();
    for _ in 0..3 {
        let ours = ours.clone();
        calls.spawn(async move { ours.call_json(json!({ "sleep_ms": 60_000 })).await });
    }
    eventually("calls run", async || {
        (server.metric("fn_running").await? >= 1.0).then_some(())
    })
    .await;
    server.kill();
    calls.abort_all();
    let orphans: BTreeSet<_> = server.containers().into_iter().collect();
    assert!(!orphans.is_empty());

    server.restart().await;
    eventually_within(
        Duration::from_secs(5),
        "the predecessor's containers are gone",
        async || {
            server
                .containers()
                .iter()
                .all(|left| !orphans.contains(left))
                .then_some(())
        },
    )
    .await;
    eventually("the predecessor's directories are gone", async || {
        entries(&server.sockets()).is_empty().then_some(())
    })
    .await;
    assert_eq!(neighbour.containers().len(), 1);
    theirs.call_json(json!({ "sleep_ms": 0 })).await.expect(200);
    assert!(engine::docker(&["ps", "--all", "--quiet", "--no-trunc"]).contains(&foreign));
    engine::remove(&[foreign]);
    server
        .client
        .post(&ours.path, r#"{"sleep_ms":0}"#)
        .await
        .expect(200);
    neighbour.signal(Signal::TERM);
    neighbour.ended(Duration::from_secs(30)).await;
}

/// Crashes, exits, time-outs, containers that never come up, missing images and killed containers:
/// when they are over, there is as much as before.
#[tokio::test(flavor = "multi_thread")]
async fn forced_failures_leave_nothing_behind() {
    // The long form is run by hand: HEARTH_FAILURES=1000 (docs/operations.md).
    let failures: usize =
        std::env::var("HEARTH_FAILURES").map_or(60, |count| count.parse().expect("a number"));
    let server = Server::start(&[("FN_HOT_START_TIMEOUT_MSECS", "2000")]).await;
    let image = functions::image("test-function");
    let app = server
        .client
        .post("/v2/apps", json!({ "name": "failures" }).to_string())
        .await
        .expect(200)
        .json();
    let deploy = async |name: &str, image: &str, settings| {
        Deployed::in_app(&server.client, &app, name, image, settings).await
    };
    let base = json!({ "memory": 64, "timeout": 1, "idle_timeout": 1 });
    let with = |config: serde_json::Value| {
        let mut settings = base.clone();
        settings["config"] = config;
        settings
    };
    let good = deploy("good", &image, base.clone()).await;
    let exits = deploy("exits", &image, with(json!({ "ENABLE_INIT_EXIT": "1" }))).await;
    let missing = deploy(
        "missing",
        "hearth-test/there-is-no-such-image:1",
        base.clone(),
    )
    .await;

    let settled = async || {
        eventually_within(
            Duration::from_secs(60),
            "all containers are gone",
            async || server.containers().is_empty().then_some(()),
        )
        .await;
        eventually("all directories are gone", async || {
            entries(&server.sockets()).is_empty().then_some(())
        })
        .await;
    };
    good.call_json(json!({})).await.expect(200);
    settled().await;
    let files_before = open_files(server.pid());

    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (good, exits, missing, next) = (
            good.clone(),
            exits.clone(),
            missing.clone(),
            Arc::clone(&next),
        );
        clients.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= failures {
                    return;
                }
                let answer = match number % 6 {
                    0 => good.call_json(json!({ "isCrash": true })).await,
                    1 => {
                        good.call_json(json!({ "isExit": true, "exitCode": 0 }))
                            .await
                    }
                    2 => good.call_json(json!({ "sleepTime": 5000 })).await,
                    3 => exits.call_json(json!({})).await,
                    4 => missing.call_json(json!({})).await,
                    _ => {
                        good.call_json(json!({ "isExit": true, "exitCode": 137 }))
                            .await
                    }
                };
                assert!(
                    answer.status.is_client_error() || answer.status.is_server_error(),
                    "{number}: {answer:?}"
                );
                assert_ne!(answer.status, 500, "{number}: {answer:?}");
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.expect("a client finished");
    }
    good.call_json(json!({})).await.expect(200);
    settled().await;
    let mut files = Vec::new();
    let settled = tokio::time::timeout(
        PATIENCE / 2,
        eventually("as many open files as before", async || {
            files = open_files(server.pid());
            // A connection of the client may come and go.
            (files.len() <= files_before.len() + 4).then_some(())
        }),
    );
    assert!(
        settled.await.is_ok(),
        "{files:#?}\nbefore: {files_before:#?}"
    );
    for gauge in ["fn_queued", "fn_running"] {
        assert_eq!(server.metric(gauge).await, Some(0.0), "{gauge}");
    }
    let text = server.client.get("/metrics").await.text();
    for line in text
        .lines()
        .filter(|line| line.starts_with("fn_container_") && line.contains("_total{"))
    {
        assert!(line.ends_with(" 0"), "{line}");
    }
}

#[tokio::test]
async fn a_container_that_is_killed_from_outside_is_replaced() {
    let server = Server::start(&[]).await;
    let hello = Deployed::new(
        &server.client,
        "hello",
        &functions::image("hello"),
        json!({}),
    )
    .await;
    hello.call("").await.expect(200);
    let before = server.containers();
    engine::remove(&before);
    // Until the runner has heard of it, a call may still meet the dead container.
    eventually("a new container answers", async || {
        let answer = hello.call("").await;
        (answer.status == 200 && !server.containers().is_empty() && server.containers() != before)
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_goes_on_while_containers_are_killed() {
    let server = Server::start(&[]).await;
    let echo = Deployed::new(
        &server.client,
        "echo",
        &functions::image("echo"),
        json!({ "memory": 64 }),
    )
    .await;
    echo.call("warm").await.expect(200);
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let (echo, stop) = (echo.clone(), Arc::clone(&stop));
        clients.spawn(async move {
            let (mut good, mut bad) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let body = format!("client {client} call {good}");
                let answer = echo.call(body.clone()).await;
                match answer.status.as_u16() {
                    // Never the answer to another call.
                    200 => assert_eq!(answer.text(), body),
                    502 => bad += 1,
                    other => panic!("{other}: {answer:?}"),
                }
                good += 1;
            }
            (good, bad)
        });
    }
    for _ in 0..5 {
        let containers = eventually("a container to kill", async || {
            Some(server.containers()).filter(|c| !c.is_empty())
        })
        .await;
        engine::remove(&containers[..1]);
    }
    eventually("calls succeed again", async || {
        (echo.call("after").await.status == 200).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        let (calls, failed) = client.expect("a client finished");
        assert!(calls > failed, "{failed} of {calls} calls failed");
    }
}
