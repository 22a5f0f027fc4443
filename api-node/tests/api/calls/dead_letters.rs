//! Dead letters: handed in again, and deleted.

use serde_json::{Value, json};

use super::runner::{Node, ids, plain};

#[tokio::test]
async fn a_dead_letter_becomes_one_new_call() {
    let node = Node::start().await;
    let dead = node
        .dead(json!({"payload": "in", "tags": {"a": "1"}}))
        .await;
    let shown = node.show(&dead).await;
    assert_eq!(
        (&shown["status"], &shown["reason"]),
        (&json!("dead"), &json!("permanent"))
    );
    assert_eq!(shown["error"], "no such image");
    let redrive = async |selection: Value| {
        let told = node
            .api
            .post("/v2/dead-letters/redrive", &selection)
            .await
            .json();
        let first = told["items"][0].clone();
        assert_eq!(first["id"], json!(dead));
        first["call_id"].as_str().expect("a call").to_owned()
    };
    let made = redrive(json!({"ids": [dead]})).await;
    let call = node.show(&made).await;
    assert_eq!(
        (&call["status"], &call["origin_id"]),
        (&json!("queued"), &json!(dead))
    );
    assert_eq!(redrive(json!({"tag": "a:1"})).await, made);
    assert_eq!(
        node.show(&dead).await["status"],
        "dead",
        "it stays what it is"
    );

    let told = node
        .api
        .post("/v2/dead-letters/redrive", &json!({"ids": [made, "none"]}))
        .await
        .json();
    let mut items = told["items"].as_array().expect("items").clone();
    items.sort_by_key(|item| item["message"].to_string());
    let expected = [
        json!({"id": made, "message": "Call is not a dead letter"}),
        json!({"id": "none", "message": "Call not found"}),
    ];
    assert_eq!(items, expected);
}

#[tokio::test]
async fn dead_letters_are_purged_and_nothing_else_is() {
    let node = Node::start().await;
    let mut dead = Vec::new();
    for _ in 0..4 {
        dead.push(node.dead(plain()).await);
    }
    let living = node.submit(plain()).await;
    let purge = async |query: String| {
        node.api
            .delete(&format!("/v2/dead-letters?{query}"))
            .await
            .json()
    };
    let named = purge(format!("id={},{living}&id=none", dead[0])).await;
    assert_eq!(named, json!({"purged": 1}));
    node.api
        .get(&format!("/v2/calls/{}", dead[0]))
        .await
        .refused(404, "Call not found");
    let told = purge(format!("fn_id={}&limit=2", node.func)).await;
    assert_eq!(told["purged"], 2);
    let cursor = told["next_cursor"].as_str().expect("a cursor");
    assert_eq!(
        purge(format!("all=true&cursor={cursor}")).await,
        json!({"purged": 1})
    );
    let left = node.api.get("/v2/calls").await.json();
    assert_eq!(ids(&left), [living]);
    for (query, message) in [
        ("", "ids, a filter or all must be given"),
        ("all=false", "ids, a filter or all must be given"),
        ("id=a&fn_id=f", "ids and filters cannot be together"),
        ("all=true&limit=0", "limit must be between 1 and 1000"),
        ("all=true&limit=x", "limit must be between 1 and 1000"),
        ("tag=x", "tag must be name:value"),
        ("all=true&cursor=*", "Invalid cursor"),
    ] {
        node.api
            .delete(&format!("/v2/dead-letters?{query}"))
            .await
            .refused(400, message);
    }
}
