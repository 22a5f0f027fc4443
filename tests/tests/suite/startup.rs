//! Containers that do not come up, or come up late (spec/11 11.2, 11.5).

use std::time::Duration;

use hearth_tests::{Deployed, Server, eventually, functions};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const INIT_FAILED: &str =
    "Container failed to initialize, please ensure you are using the latest fdk and check the logs";
const INIT_TIMED_OUT: &str = "Container initialization timed out, please ensure you are using the latest fdk and check the logs";

async fn with_config(server: &Server, name: &str, config: Value) -> Deployed {
    Deployed::test_function(&server.client, name, json!({ "config": config })).await
}

/// A failed start leaves no container, and holds nothing up.
async fn nothing_is_left(server: &Server) {
    eventually("the container is gone", async || {
        server.containers().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_container_that_exits_at_once_failed_to_initialize() {
    let server = Server::start(&[]).await;
    for code in ["0", "1"] {
        let func = with_config(
            &server,
            &format!("exits{code}"),
            json!({ "ENABLE_INIT_EXIT": code }),
        )
        .await;
        func.call_json(json!({})).await.is_error(502, INIT_FAILED);
    }
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn a_container_that_exits_before_it_listens_failed_to_initialize() {
    let server = Server::start(&[]).await;
    let config = json!({ "ENABLE_INIT_DELAY_MSEC": "200", "ENABLE_INIT_EXIT": "3" });
    with_config(&server, "exits", config)
        .await
        .call_json(json!({}))
        .await
        .is_error(502, INIT_FAILED);
    nothing_is_left(&server).await;
}

/// HungFDK.
#[tokio::test]
async fn a_container_that_never_listens_times_out() {
    let server = Server::start(&[("FN_HOT_START_TIMEOUT_MSECS", "1000")]).await;
    let late = with_config(
        &server,
        "late",
        json!({ "ENABLE_INIT_DELAY_MSEC": "20000" }),
    )
    .await;
    late.call_json(json!({}))
        .await
        .is_error(504, INIT_TIMED_OUT);
    let never = with_config(&server, "never", json!({ "SOCKET_ATTACK": "nothing" })).await;
    never
        .call_json(json!({}))
        .await
        .is_error(504, INIT_TIMED_OUT);
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn a_container_that_listens_late_but_in_time_is_good() {
    let server = Server::start(&[]).await;
    let func = with_config(&server, "late", json!({ "ENABLE_INIT_DELAY_MSEC": "1000" })).await;
    func.call_json(json!({})).await.expect(200);
    assert_eq!(server.containers().len(), 1);
}

/// SlotErrorRetention: what one start costs is not what the calls behind it get.
#[tokio::test]
async fn calls_behind_a_slow_start_all_succeed() {
    // Starts are slow enough for calls to pile up behind them.
    let server = Server::start(&[("FN_HOT_START_TIMEOUT_MSECS", "4000")]).await;
    let func = with_config(&server, "slow", json!({ "ENABLE_INIT_DELAY_MSEC": "1000" })).await;
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let func = func.clone();
        calls.spawn(async move {
            for _ in 0..4 {
                func.call_json(json!({ "sleepTime": 50 })).await.expect(200);
            }
        });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("every call succeeds");
    }
}

/// SlotErrorRetention: a start that failed is an error of one call, not of the function.
#[tokio::test]
async fn a_function_that_never_started_and_is_mended_starts_at_the_next_call() {
    let server = Server::start(&[("FN_HOT_START_TIMEOUT_MSECS", "4000")]).await;
    let func = with_config(
        &server,
        "slow",
        json!({ "ENABLE_INIT_DELAY_MSEC": "60000" }),
    )
    .await;
    let path = format!("/v2/fns/{}", func.fn_id);
    func.call_json(json!({}))
        .await
        .is_error(504, INIT_TIMED_OUT);
    let mended = json!({ "config": { "ENABLE_INIT_DELAY_MSEC": "1" } });
    server
        .client
        .put(&path, mended.to_string())
        .await
        .expect(200);
    func.call_json(json!({})).await.expect(200);
}

#[tokio::test]
async fn more_than_the_node_has_is_refused_at_once() {
    let server = Server::start(&[("FN_MAX_TOTAL_MEMORY_BYTES", "1073741824")]).await;
    let func = Deployed::test_function(&server.client, "huge", json!({ "memory": 8192 })).await;
    func.call_json(json!({}))
        .await
        .is_error(400, "Requested CPU/Memory cannot be allocated");
    assert_eq!(server.containers(), [""; 0]);
}

/// The answers of socket attacks; the table of what is refused is at the socket's opening.
mod sockets {
    use super::*;

    /// Every kind is a function of one server.
    async fn deploy(server: &Server, app: &Value, attack: &str, target: &str) -> Deployed {
        let config = json!({ "SOCKET_ATTACK": attack, "SOCKET_ATTACK_TARGET": target });
        let settings = json!({ "memory": 64, "config": config });
        Deployed::in_app(
            &server.client,
            app,
            attack,
            &functions::image("test-function"),
            settings,
        )
        .await
    }

    async fn server_and_app() -> (Server, Value) {
        let server = Server::start(&[]).await;
        let app = server
            .client
            .post("/v2/apps", json!({ "name": "sockets" }).to_string())
            .await
            .expect(200)
            .json();
        (server, app)
    }

    #[tokio::test]
    async fn what_is_no_honest_socket_is_never_connected_to() {
        let (server, app) = server_and_app().await;
        let attacks = [
            "absolute",
            "dotdot",
            "twohops",
            "directory",
            "fifo",
            "file",
            "hardlink",
            "link-directory",
            "link-fifo",
            "link-file",
            "dangling",
        ];
        let mut calls = JoinSet::new();
        for attack in attacks {
            let func = deploy(&server, &app, attack, "").await;
            calls.spawn(async move { (attack, func.call_json(json!({})).await) });
        }
        while let Some(call) = calls.join_next().await {
            let (attack, answer) = call.expect("no panic");
            assert_eq!(
                answer.text(),
                format!("{{\"message\":\"{INIT_FAILED}\"}}\n"),
                "{attack}"
            );
            assert_eq!(answer.status, 502, "{attack}");
        }
        nothing_is_left(&server).await;
        assert!(!server.log_text().contains("EVIL"), "somebody connected");
    }

    #[tokio::test]
    async fn another_functions_socket_is_never_connected_to() {
        let (server, app) = server_and_app().await;
        let victim = deploy(&server, &app, "link", "").await;
        victim.call_json(json!({})).await.expect(200);
        let sockets = std::fs::read_dir(server.sockets()).expect("the directory of the sockets");
        let names = sockets.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let directory = names
            .into_iter()
            .find(|name| name.starts_with("iofs"))
            .expect("the victim's directory");
        let target = format!("../{directory}/honest");
        deploy(&server, &app, "elsewhere", &target)
            .await
            .call_json(json!({}))
            .await
            .is_error(502, INIT_FAILED);
        victim.call_json(json!({})).await.expect(200);
    }

    #[tokio::test]
    async fn honest_sockets_are_called() {
        let (server, app) = server_and_app().await;
        for honest in ["link", "rename", "direct"] {
            let answer = deploy(&server, &app, honest, "")
                .await
                .call_json(json!({}))
                .await
                .expect(200);
            assert_eq!(answer.json()["config"]["SOCKET_ATTACK"], honest);
        }
    }

    /// The name is swapped some 10,000 times a second while the server looks at it.
    #[tokio::test]
    async fn a_socket_that_is_swapped_is_the_honest_one_or_none() {
        let (server, app) = server_and_app().await;
        let func = deploy(&server, &app, "swap", "hop").await;
        let path = format!("/v2/fns/{}", func.fn_id);
        for round in 0..8 {
            // Each round is another container.
            let config = json!({ "config": { "ROUND": round.to_string() } }).to_string();
            server.client.put(&path, config).await.expect(200);
            let answer = func.call_json(json!({})).await;
            match answer.status.as_u16() {
                200 => assert_eq!(answer.json()["config"]["ROUND"], round.to_string()),
                _ => answer.is_error(502, INIT_FAILED),
            }
        }
        assert!(!server.log_text().contains("EVIL"), "somebody connected");
    }
}

#[tokio::test]
async fn a_start_that_fails_is_not_waited_for_by_others() {
    let server = Server::start(&[("FN_HOT_START_TIMEOUT_MSECS", "20000")]).await;
    let hung = with_config(&server, "hung", json!({ "SOCKET_ATTACK": "nothing" })).await;
    let good = with_config(&server, "good", json!({})).await;
    let hanging = tokio::spawn(async move { hung.call_json(json!({})).await });
    eventually("a container is being started", async || {
        (!server.containers().is_empty()).then_some(())
    })
    .await;
    let answer = tokio::time::timeout(Duration::from_secs(10), good.call_json(json!({}))).await;
    answer.expect("not held up").expect(200);
    assert!(!hanging.is_finished());
    hanging.abort();
}
