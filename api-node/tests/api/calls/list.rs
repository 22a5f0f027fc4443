//! Lists of calls: filters, paging and their errors, over both databases.

use std::collections::BTreeMap;

use api_node::calls::CallsSettings;
use domain::{CallId, CallKind, CallRecord, CallState, IdSource, Timestamp};
use hybrid_client::CallPlane as _;
use serde_json::json;

use super::runner::{Node, ids, plain};
use crate::postgres::Cluster;

/// A sync call of `node`'s function that was made so many seconds after 1970.
fn sync_call(node: &Node, id: &str, at: i64) -> CallRecord {
    let at = Timestamp::from_unix_millis(at * 1000);
    CallRecord {
        id: CallId::from(id),
        status: CallState::Success,
        kind: CallKind::Sync,
        app_id: node.app.as_str().into(),
        fn_id: node.func.as_str().into(),
        trigger_id: None,
        path: "/s".to_owned(),
        method: "POST".to_owned(),
        url: String::new(),
        image: "x/y:1".to_owned(),
        priority: 0,
        tags: BTreeMap::new(),
        attempts: 0,
        max_attempts: 1,
        epoch: 0,
        reason: None,
        error: None,
        origin_id: None,
        callback_url: None,
        runner_id: None,
        result_status: Some(200),
        created_at: at,
        due_at: Timestamp::UNSET,
        expires_at: Timestamp::UNSET,
        started_at: at,
        completed_at: at,
    }
}

#[tokio::test]
async fn calls_are_found_by_what_they_are() {
    let postgres = Cluster::shared().create_database();
    for url in [None, Some(postgres.as_str())] {
        let node = Node::start_with(url, CallsSettings::default()).await;
        let other_app = node.api.app("b").await;
        let other = node.api.func(&other_app, "g").await;
        let old = sync_call(&node, &IdSource::first_at(1_000_000), 1000);
        node.api
            .calls()
            .record(vec![old.clone()])
            .await
            .expect("recorded");
        let dead = node.dead(plain()).await;
        let tagged = node.submit(json!({"tags": {"customer": "47:11"}})).await;
        let late = node.submit(json!({"delay_seconds": 60})).await;
        let foreign = node.submit_to(&other, plain()).await;
        let sync = old.id.to_string();
        let (app, func) = (&node.app, &node.func);
        let all = [&foreign, &late, &tagged, &dead, &sync];
        for (query, expected) in [
            (String::new(), &all[..]),
            (format!("app_id={app}"), &all[1..]),
            (format!("app_id={other_app}"), &all[..1]),
            (format!("fn_id={func}"), &all[1..]),
            ("fn_id=none".to_owned(), &[]),
            ("status=dead".to_owned(), &[&dead]),
            ("status=delayed,dead".to_owned(), &[&late, &dead]),
            (
                "status=queued&status=dead".to_owned(),
                &[&foreign, &tagged, &dead],
            ),
            ("reason=permanent".to_owned(), &[&dead]),
            ("reason=poison".to_owned(), &[]),
            ("type=sync".to_owned(), &[&sync]),
            (format!("type=async&app_id={app}"), &all[1..4]),
            ("path=/s".to_owned(), &[&sync]),
            (format!("path=/invoke/{other}"), &[&foreign]),
            ("from_time=999&to_time=1001".to_owned(), &[&sync]),
            ("from_time=1000&to_time=1001".to_owned(), &[]),
            ("to_time=1000".to_owned(), &[]),
            ("tag=customer:47:11".to_owned(), &[&tagged]),
            ("tag=customer:47".to_owned(), &[]),
            ("app_id=%00".to_owned(), &[]),
        ] {
            let list = node.api.get(&format!("/v2/calls?{query}")).await.json();
            assert_eq!(
                ids(&list),
                expected.iter().map(|id| (*id).clone()).collect::<Vec<_>>(),
                "{query}"
            );
            assert_eq!(list.get("next_cursor"), None, "{query}");
        }
        let of_fn = node
            .api
            .get(&format!("/v2/fns/{func}/calls?fn_id={other}"))
            .await
            .json();
        assert_eq!(ids(&of_fn).len(), 4, "the path names the function");
        let none = node.api.get("/v2/fns/none/calls").await.json();
        assert_eq!(none["items"], json!([]));
        let dead_letters = node.api.get("/v2/dead-letters?status=queued").await.json();
        assert_eq!(ids(&dead_letters), [dead]);
    }
}

#[tokio::test]
async fn pages_follow_each_other_newest_first() {
    let node = Node::start().await;
    let mut calls = Vec::new();
    for _ in 0..5 {
        calls.insert(0, node.submit(plain()).await);
    }
    for base in [
        "/v2/calls".to_owned(),
        format!("/v2/fns/{}/calls", node.func),
    ] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        for expected in [2, 2, 1] {
            let page = node
                .api
                .get(&format!("{base}?per_page=2&cursor={cursor}"))
                .await
                .json();
            assert_eq!(ids(&page).len(), expected);
            seen.extend(ids(&page));
            cursor = page["next_cursor"].as_str().unwrap_or_default().to_owned();
        }
        assert_eq!((seen, cursor.as_str()), (calls.clone(), ""));
    }
}

#[tokio::test]
async fn a_filter_that_is_none_is_refused() {
    let node = Node::start().await;
    for (query, message) in [
        ("from_time=x", "from_time is not an epoch time"),
        ("from_time=1.5", "from_time is not an epoch time"),
        (
            "from_time=9223372036854775807",
            "from_time is not an epoch time",
        ),
        ("to_time=yesterday", "to_time is not an epoch time"),
        (
            "status=killed",
            "status must be one of delayed, queued, running, success, error, timeout, cancelled, dead",
        ),
        (
            "reason=bad",
            "reason must be one of retries_exhausted, expired, permanent, poison, function_deleted",
        ),
        ("type=x", "type must be one of sync, async"),
        ("tag=x", "tag must be name:value"),
        ("tag=:x", "tag must be name:value"),
        ("cursor=***", "Invalid cursor"),
        ("cursor=AA", "Invalid cursor"),
    ] {
        for path in [
            "/v2/calls".to_owned(),
            format!("/v2/fns/{}/calls", node.func),
            "/v2/dead-letters".to_owned(),
        ] {
            node.api
                .get(&format!("{path}?{query}"))
                .await
                .refused(400, message);
        }
    }
    for query in ["from_time=-5", "per_page=x", "status=", "unknown=1"] {
        node.api.get(&format!("/v2/calls?{query}")).await.json();
    }
}
