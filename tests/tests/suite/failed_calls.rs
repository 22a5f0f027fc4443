//! Durable calls that cannot succeed: each ends with the status, the text, the attempts and the log that
//! tell why, and none is tried for ever.

use std::time::Duration;

use hearth_tests::registry::Registry;
use hearth_tests::{Deployed, Server, eventually_within};
use serde_json::{Value, json};

/// Longer than the pauses between three attempts.
const PATIENCE: Duration = Duration::from_secs(120);

/// Hands in a call that may be tried so often, and waits until it is over.
async fn outcome(server: &Server, function: &Deployed, max_attempts: &str) -> Value {
    let headers = [
        ("Fn-Invoke-Type", "detached"),
        ("Fn-Call-Max-Attempts", max_attempts),
    ];
    let accepted = function.call_with(&headers, "").await.expect(202).json();
    let path = format!("/v2/calls/{}", accepted["call_id"].as_str().expect("an id"));
    eventually_within(PATIENCE, "the call is over", async || {
        let call = server.client.get(&path).await.expect(200).json();
        call.get("completed_at").is_some().then_some(call)
    })
    .await
}

/// The outcomes of a call's attempts, and why they failed.
fn attempts(call: &Value) -> Vec<(&str, &str)> {
    let history = call["history"].as_array().expect("a list");
    let told = history.iter().map(|attempt| {
        let text = |name: &str| attempt[name].as_str().unwrap_or_default();
        (text("status"), text("error"))
    });
    told.collect()
}

/// What the functions of a call have printed.
async fn log(server: &Server, call: &Value) -> String {
    let path = format!("/v2/calls/{}/log", call["id"].as_str().expect("an id"));
    let log = server.client.get(&path).await.expect(200).json();
    log["log"]["log"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn a_missing_image_ends_its_call_at_once_and_has_no_log() {
    let registry = Registry::start().await;
    let image = format!("{}/no-such-image:1", registry.address);
    let server = Server::start(&[("FN_DOCKER_AUTH", &registry.auth())]).await;
    let function = Deployed::new(&server.client, "missing", &image, json!({ "memory": 64 })).await;
    let call = outcome(&server, &function, "100").await;
    assert_eq!(
        (&call["status"], &call["reason"]),
        (&json!("dead"), &json!("permanent"))
    );
    let error = call["error"].as_str().expect("a text");
    let start = format!("Failed to pull image '{image}': ");
    assert!(
        error.starts_with(&start) && error.contains("not found"),
        "{error}"
    );
    assert_eq!(attempts(&call), [("error", error)]);
    let path = format!("/v2/calls/{}/log", call["id"].as_str().expect("an id"));
    server.client.get(&path).await.expect(404);
}

#[tokio::test]
async fn a_function_that_does_not_start_uses_up_its_attempts_and_says_why_in_the_log() {
    let server = Server::start(&[]).await;
    let settings = json!({ "config": { "ENABLE_HEADER": "1", "ENABLE_INIT_EXIT": "3" } });
    let function = Deployed::test_function(&server.client, "init", settings).await;
    let call = outcome(&server, &function, "2").await;
    assert_eq!(
        (&call["status"], &call["reason"]),
        (&json!("dead"), &json!("retries_exhausted"))
    );
    let error = "Container failed to initialize, please ensure you are using the latest fdk and check the logs";
    assert_eq!(call["error"], error);
    assert_eq!(attempts(&call), [("error", error); 2]);
    let words = "Container starting\nContainer exits before it listens, with code 3\n";
    assert_eq!(log(&server, &call).await, words.repeat(2));
}

#[tokio::test]
async fn a_function_that_never_listens_uses_up_its_attempts_and_says_why_in_the_log() {
    let server = Server::start(&[("FN_HOT_START_TIMEOUT_MSECS", "2000")]).await;
    let settings =
        json!({ "config": { "ENABLE_HEADER": "1", "ENABLE_INIT_DELAY_MSEC": "600000" } });
    let function = Deployed::test_function(&server.client, "hangs", settings).await;
    let call = outcome(&server, &function, "1").await;
    let error = "Container initialization timed out, please ensure you are using the latest fdk and check the logs";
    assert_eq!(
        (&call["status"], &call["error"]),
        (&json!("error"), &json!(error))
    );
    assert_eq!(attempts(&call).len(), 1);
    assert_eq!(log(&server, &call).await, "Container starting\n");
}

#[tokio::test]
async fn a_function_that_runs_out_of_memory_three_times_is_given_up_and_keeps_its_log() {
    let server = Server::start(&[]).await;
    let knobs = json!({ "allocateUntilKilled": true }).to_string();
    let settings = json!({ "config": { "TEST_KNOBS": knobs } });
    let function = Deployed::test_function(&server.client, "memory", settings).await;
    let call = outcome(&server, &function, "100").await;
    assert_eq!(
        (&call["status"], &call["reason"]),
        (&json!("dead"), &json!("poison"))
    );
    let error = "container out of memory, you may want to raise fn.memory for this function (default: 128MB)";
    assert_eq!(call["error"], error);
    assert_eq!(attempts(&call), [("error", error); 3]);
    assert_eq!(log(&server, &call).await, "BeginOfLogs\n".repeat(3));
}
