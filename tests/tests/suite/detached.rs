//! Detached calls: answered when they start (spec/01 1.8, spec/A).

use hearth_tests::{Deployed, Server, eventually};
use serde_json::json;

const DETACHED: &[(&str, &str)] = &[("fn-invoke-type", "detached")];

#[tokio::test]
async fn a_detached_call_is_answered_at_its_start_and_runs_to_its_end() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "detached", json!({})).await;
    let knobs = json!({ "sleepTime": 2000, "postErrGarbage": "it really ran\n" });
    let answer = func
        .call_with(DETACHED, knobs.to_string())
        .await
        .expect(202);
    assert!(answer.body.is_empty());
    assert_eq!(answer.header("fn-call-id").map(str::len), Some(26));
    assert!(
        !server.log_text().contains("\"it really ran\""),
        "the answer came after the run"
    );
    assert_eq!(server.metric("fn_running").await, Some(1.0));
    eventually("the function has run", async || {
        server
            .log_text()
            .contains("\"it really ran\"")
            .then_some(())
    })
    .await;
    eventually("the call is over", async || {
        (server.metric("fn_running").await == Some(0.0)).then_some(())
    })
    .await;
    assert_eq!(server.metric("fn_completed").await, Some(1.0));
    func.call_json(json!({})).await.expect(200);
    assert_eq!(server.containers().len(), 1);
}

#[tokio::test]
async fn a_detached_call_that_cannot_start_is_told_so() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(
        &server.client,
        "fails",
        json!({ "config": { "ENABLE_INIT_EXIT": "1" } }),
    )
    .await;
    let answer = func.call_with(DETACHED, "").await;
    answer.is_error(502, "Container failed to initialize, please ensure you are using the latest fdk and check the logs");
    let small = Server::start(&[("FN_MAX_TOTAL_MEMORY_BYTES", "300000000")]).await;
    let on_small = Deployed::test_function(&small.client, "huge", json!({ "memory": 8192 })).await;
    on_small
        .call_with(DETACHED, "")
        .await
        .is_error(400, "Requested CPU/Memory cannot be allocated");
}
