//! Calls that nobody waits for: they are durable, and looked after on the command line (docs/async.md).

use std::process::Output;

use hearth_tests::{Deployed, Server, binary, eventually};
use serde_json::{Value, json};

const DETACHED: &[(&str, &str)] = &[("fn-invoke-type", "detached")];

/// Waits until the call that was accepted is over.
async fn ended(server: &Server, accepted: &Value) -> Value {
    let id = accepted["call_id"].as_str().expect("an id");
    eventually("the call is over", async || {
        let call = server.client.get(&format!("/v2/calls/{id}")).await.json();
        call.get("completed_at").is_some().then_some(call)
    })
    .await
}

#[tokio::test]
async fn a_detached_call_is_accepted_and_runs_to_its_end() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "detached", json!({})).await;
    let knobs = json!({ "postErrGarbage": "it really ran\n" });
    let answer = func
        .call_with(DETACHED, knobs.to_string())
        .await
        .expect(202);
    let accepted = answer.json();
    assert_eq!(answer.header("fn-call-id"), accepted["call_id"].as_str());
    let call = ended(&server, &accepted).await;
    assert_eq!(
        (&call["status"], &call["type"]),
        (&json!("success"), &json!("async"))
    );
    let path = answer.header("location").expect("where it is").to_owned();
    let result = server.client.get(&format!("{path}/result")).await;
    assert_eq!(result.status, 200);
    eventually("the function has run", async || {
        server
            .log_text()
            .contains("\"it really ran\"")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_detached_call_that_cannot_run_is_given_up_and_says_why() {
    let server = Server::start(&[("FN_MAX_TOTAL_MEMORY_BYTES", "300000000")]).await;
    let settings = json!({ "config": { "ENABLE_INIT_EXIT": "1" } });
    let fails = Deployed::test_function(&server.client, "fails", settings).await;
    let once = [DETACHED[0], ("fn-call-max-attempts", "1")];
    let accepted = fails.call_with(&once, "").await.expect(202).json();
    let call = ended(&server, &accepted).await;
    assert_eq!(call["status"], "error");
    let error = call["error"].as_str().expect("a text");
    assert!(
        error.starts_with("Container failed to initialize"),
        "{error}"
    );

    let huge = Deployed::test_function(&server.client, "huge", json!({ "memory": 8192 })).await;
    let accepted = huge.call_with(DETACHED, "").await.expect(202).json();
    let call = ended(&server, &accepted).await;
    assert_eq!(
        (&call["status"], &call["reason"], &call["error"]),
        (
            &json!("dead"),
            &json!("permanent"),
            &json!("Requested CPU/Memory cannot be allocated")
        )
    );
}

/// What a command prints, and whether it succeeded.
async fn hearth(server: &Server, arguments: &[&str]) -> (String, String, bool) {
    let told: Output = tokio::process::Command::new(binary::hearth())
        .args(["--url", server.client.base()])
        .args(arguments)
        .output()
        .await
        .expect("the binary");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (text(told.stdout), text(told.stderr), told.status.success())
}

#[tokio::test]
async fn durable_calls_are_looked_after_on_the_command_line() {
    let server = Server::start(&[]).await;
    let func = Deployed::test_function(&server.client, "cli", json!({ "timeout": 1 })).await;
    let run = async |arguments: &[&str]| {
        let (out, err, success) = hearth(&server, arguments).await;
        assert!(success, "{arguments:?}: {err}");
        out
    };
    let call = ["call", "cli", "cli", "--async"];
    let with = |more: &[&'static str]| [&call[..], more].concat();

    let data = r#"{"echoContent":"hello"}"#;
    let answer = run(&with(&["--wait", "--data", data])).await;
    assert!(answer.contains("hello"), "{answer}");
    let late = run(&with(&["--delay", "3600", "--tag", "who=me"])).await;
    let late = late.trim();
    assert!(run(&["calls", "get", late]).await.contains("who=me"));
    let list = run(&["calls", "list", "--app", "cli", "--status", "delayed"]).await;
    assert!(
        list.starts_with(late) && list.lines().count() == 1,
        "{list}"
    );
    assert_eq!(
        run(&["calls", "cancel", late]).await,
        format!("{late} cancelled\n")
    );

    let slow = r#"{"sleepTime":5000}"#;
    let failed = with(&["--wait", "--max-attempts", "1", "--data", slow]);
    let (_, err, success) = hearth(&server, &failed).await;
    assert!(!success && err.contains("ended: timeout"), "{err}");

    let path = format!("/v2/fns/{}", func.fn_id);
    let gone = json!({ "image": "127.0.0.1:1/none:1" });
    server.client.put(&path, gone.to_string()).await.expect(200);
    let dead = run(&with(&["--expiry", "1", "--tag", "dead=yes"])).await;
    let dead = dead.trim();
    eventually("it is given up", async || {
        let list = run(&["dead-letters", "list", "--tag", "dead:yes"]).await;
        list.starts_with(dead).then_some(())
    })
    .await;
    let redriven = run(&["dead-letters", "redrive", dead]).await;
    assert!(redriven.starts_with(&format!("{dead} -> ")), "{redriven}");
    assert_eq!(run(&["dead-letters", "purge", dead]).await, "1 purged\n");
    let (_, err, success) = hearth(&server, &["calls", "get", dead]).await;
    assert!(!success && err.contains("Call not found"), "{err}");
}
