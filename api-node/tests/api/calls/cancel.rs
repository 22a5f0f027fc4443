//! Cancelling calls: one and many.

use hybrid_client::Work;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::runner::{Node, PATIENCE, plain, result};

#[tokio::test]
async fn a_waiting_call_is_cancelled_and_so_it_stays() {
    let node = Node::start().await;
    for draft in [plain(), json!({"delay_seconds": 60})] {
        let id = node.submit(draft).await;
        let path = format!("/v2/calls/{id}");
        for _ in 0..2 {
            let call = node.api.delete(&path).await.json();
            assert_eq!(
                (&call["id"], &call["status"]),
                (&json!(id), &json!("cancelled"))
            );
        }
    }
    node.api
        .delete("/v2/calls/none")
        .await
        .refused(404, "Call not found");
}

#[tokio::test]
async fn a_running_call_is_cancelled_and_its_runner_is_told() {
    let node = Node::start().await;
    let id = node.submit(plain()).await;
    let mut runner = node.runner().await;
    let leased = runner.take().await;
    let call = node.api.delete(&format!("/v2/calls/{id}")).await.json();
    assert_eq!(call["status"], "cancelled");
    let told = timeout(PATIENCE, runner.dequeue.work.recv()).await;
    assert_eq!(told.expect("in time"), Some(Work::Cancelled(leased.lease)));
}

#[tokio::test]
async fn a_call_that_is_over_cannot_be_cancelled() {
    let node = Node::start().await;
    let id = node.submit(plain()).await;
    let mut runner = node.runner().await;
    let leased = runner.take().await;
    runner.answer(&leased, result(200, &[], "")).await;
    node.api
        .delete(&format!("/v2/calls/{id}"))
        .await
        .refused(409, "Call can not be cancelled");
}

#[tokio::test]
async fn many_calls_are_cancelled_by_name_or_by_a_filter() {
    let node = Node::start().await;
    let cancel =
        async |selection: Value| node.api.post("/v2/calls/cancel", &selection).await.json();
    let dead = node.dead(plain()).await;
    let first = node.submit(plain()).await;
    let told = cancel(json!({"ids": [first, dead, "none", first]})).await;
    assert_eq!(told["cancelled"], json!([first]));
    let mut refused = [json!(dead), json!("none")];
    refused.sort_by_key(ToString::to_string);
    let mut found = told["refused"].as_array().expect("ids").clone();
    found.sort_by_key(ToString::to_string);
    assert_eq!(found, refused);

    let tagged = node
        .submit(json!({"tags": {"a": "1"}, "delay_seconds": 9}))
        .await;
    let mut plains = Vec::new();
    for _ in 0..3 {
        plains.insert(0, node.submit(plain()).await);
    }
    let told = cancel(json!({"tag": "a:1"})).await;
    assert_eq!(told, json!({"cancelled": [tagged], "refused": []}));
    let selection = json!({"fn_id": node.func, "status": ["queued"], "limit": 2});
    let told = cancel(selection.clone()).await;
    assert_eq!(told["cancelled"], json!(plains[..2]));
    let mut selection = selection;
    selection["cursor"] = told["next_cursor"].clone();
    let told = cancel(selection).await;
    assert_eq!(told, json!({"cancelled": plains[2..], "refused": []}));
    let last = node.submit(plain()).await;
    let told = cancel(json!({"all": true})).await;
    assert_eq!(told, json!({"cancelled": [last], "refused": []}));
}

#[tokio::test]
async fn a_selection_must_say_what_it_selects() {
    let node = Node::start().await;
    let kept = node.submit(plain()).await;
    let many: Vec<_> = (0..1001).map(|n| n.to_string()).collect();
    for (selection, message) in [
        (json!({}), "ids, a filter or all must be given"),
        (json!({"ids": []}), "ids, a filter or all must be given"),
        (json!({"all": false}), "ids, a filter or all must be given"),
        (
            json!({"ids": ["a"], "fn_id": "f"}),
            "ids and filters cannot be together",
        ),
        (json!({"ids": many}), "ids must be at most 1000"),
        (
            json!({"all": true, "limit": 0}),
            "limit must be between 1 and 1000",
        ),
        (
            json!({"all": true, "limit": 1001}),
            "limit must be between 1 and 1000",
        ),
        (json!({"tag": "x"}), "tag must be name:value"),
        (
            json!({"from_time": i64::MAX}),
            "from_time is not an epoch time",
        ),
        (json!({"to_time": i64::MAX}), "to_time is not an epoch time"),
        (
            json!({"status": ["x"]}),
            "status must be one of delayed, queued, running, success, error, timeout, cancelled, dead",
        ),
        (json!({"all": true, "cursor": "*"}), "Invalid cursor"),
        (json!({"fnid": "x"}), "Invalid JSON"),
        (json!({"ids": "x"}), "Invalid JSON"),
    ] {
        for path in ["/v2/calls/cancel", "/v2/dead-letters/redrive"] {
            node.api.post(path, &selection).await.refused(400, message);
        }
    }
    assert_eq!(node.show(&kept).await["status"], "queued");
}
