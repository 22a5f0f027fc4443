//! One call: its document, its attempts, its answer and its log.

use domain::call::AttemptOutcome;
use domain::call::Fault;
use http::Method;
use serde_json::{Value, json};

use super::runner::{Node, PATIENCE, plain, result};

#[tokio::test]
async fn a_call_is_shown_from_its_acceptance_to_its_end() {
    let node = Node::start().await;
    let id = node.submit(plain()).await;
    let of_fn = format!("/v2/fns/{}/calls/{id}", node.func);
    let call = node.show(&id).await;
    assert_eq!(
        (&call["status"], call.get("history")),
        (&json!("queued"), None)
    );
    let loaded = node.api.get(&of_fn).await.json();
    assert_eq!(
        loaded,
        json!({"message": "Successfully loaded call", "call": call})
    );
    let attempts = node
        .api
        .get(&format!("/v2/calls/{id}/attempts"))
        .await
        .json();
    assert_eq!(attempts, json!({"items": []}));

    let mut runner = node.runner().await;
    let leased = runner.take().await;
    let call = node.show(&id).await;
    assert_eq!(
        (&call["status"], &call["runner_id"]),
        (&json!("running"), &json!("r1"))
    );
    assert_eq!(call["history"][0]["status"], "running");
    runner.answer(&leased, result(201, &[], "out")).await;
    let call = node.show(&id).await;
    assert_eq!(
        (&call["status"], &call["result_status"]),
        (&json!("success"), &json!(201))
    );
    let attempts = node
        .api
        .get(&format!("/v2/calls/{id}/attempts"))
        .await
        .json();
    assert_eq!(attempts["items"], call["history"]);
    assert_eq!(attempts["items"][0]["status"], "success");
    assert_eq!(attempts["items"][0]["epoch"], 1);

    for path in [
        "/v2/calls/none".to_owned(),
        "/v2/calls/none/attempts".to_owned(),
        format!("/v2/fns/{}/calls/none", node.func),
        format!("/v2/fns/none/calls/{id}"),
        "/v2/calls/none/result".to_owned(),
    ] {
        node.api.get(&path).await.refused(404, "Call not found");
    }
}

#[tokio::test]
async fn the_answer_is_told_as_it_was() {
    let node = Node::start().await;
    let id = node.submit(plain()).await;
    let path = format!("/v2/calls/{id}/result");
    node.api.get(&path).await.refused(404, "Call has no result");
    let mut runner = node.runner().await;
    let leased = runner.take().await;
    let headers = [
        ("content-type", "text/html"),
        ("content-length", "999"),
        ("x-own", "\u{e9}"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ];
    let mut told = result(418, &headers, "output");
    told.truncated = true;
    runner.answer(&leased, told).await;
    let answer = node.api.get(&path).await;
    assert_eq!((answer.status, answer.text.as_str()), (418, "output"));
    assert_eq!(answer.headers["fn-call-id"], id.as_str());
    assert_eq!(answer.headers["fn-result-truncated"], "true");
    assert_eq!(answer.headers["content-type"], "text/html");
    assert_eq!(answer.headers["content-length"], "6");
    assert_eq!(answer.headers["x-own"].as_bytes(), "\u{e9}".as_bytes());
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    // A browser must not take it for a page of this server's.
    assert_eq!(answer.headers["content-security-policy"], "sandbox");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn a_log_has_the_form_that_is_accepted() {
    let node = Node::start().await;
    let id = node.submit(plain()).await;
    let paths = [
        format!("/v2/calls/{id}/log"),
        format!("/v2/fns/{}/calls/{id}/log", node.func),
    ];
    for path in &paths {
        node.api.get(path).await.refused(404, "Call log not found");
    }
    let mut runner = node.runner().await;
    let leased = runner.take().await;
    runner.print(&leased, 0, "one\n").await;
    runner.print(&leased, 4, "two\n").await;
    let document = json!({
        "message": "Successfully loaded log",
        "log": {"call_id": id, "log": "one\ntwo\n"},
    });
    for path in &paths {
        for accept in ["*/*", "application/json", "text/plain, application/json"] {
            let answer = node
                .api
                .send(Method::GET, path, &[("accept", accept)], "")
                .await;
            assert_eq!(answer.json(), document, "{accept}");
        }
        assert_eq!(node.api.get(path).await.json(), document);
        let answer = node
            .api
            .send(Method::GET, path, &[("accept", "text/plain")], "")
            .await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "one\ntwo\n"));
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        node.api
            .send(Method::GET, path, &[("accept", "image/png")], "")
            .await
            .refused(
                406,
                "unable to respond within acceptable response content types",
            );
    }
    for path in [
        "/v2/calls/none/log".to_owned(),
        format!("/v2/fns/none/calls/{id}/log"),
        "/v2/calls/none/log?follow=true".to_owned(),
    ] {
        node.api.get(&path).await.refused(404, "Call log not found");
    }
}

#[tokio::test]
async fn a_log_is_followed_until_the_call_is_over() {
    let node = Node::start().await;
    let id = node.submit(plain()).await;
    let path = format!("/v2/calls/{id}/log?follow=true");
    let following = node.api.get(&path);
    let running = async {
        let mut runner = node.runner().await;
        let leased = runner.take().await;
        runner.print(&leased, 0, "first\n").await;
        let failed = AttemptOutcome::Failed {
            fault: Fault::Function,
            crashed: false,
            retry_after: None,
            error: "function failed".to_owned(),
        };
        runner.finish(&leased, failed).await;
        let leased = runner.take().await;
        assert_eq!(leased.attempt, 2);
        runner.print(&leased, 0, "second\n").await;
        runner.answer(&leased, result(200, &[], "")).await;
    };
    let both = async { tokio::join!(following, running) };
    let (answer, ()) = tokio::time::timeout(PATIENCE, both).await.expect("in time");
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (200, "first\nsecond\n")
    );
    let call: Value = node.show(&id).await;
    assert_eq!(call["attempts"], 1);
}
