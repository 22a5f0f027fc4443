//! Dead letters: they are handed in again once, however often and by however many that is asked for.

use std::collections::{BTreeMap, BTreeSet};

use hearth_tests::Client;
use serde_json::json;
use tokio::task::JoinSet;

use super::{all_over, begun, cluster, count, deploy, hand_in_many, ledger};

/// Redrives all dead letters of a function; the new calls, by the old ones.
async fn redrive(api: Client, fn_id: String) -> BTreeMap<String, String> {
    let mut made = BTreeMap::new();
    let mut cursor = json!(null);
    loop {
        let mut wish = json!({ "fn_id": fn_id, "limit": 200 });
        if cursor.is_string() {
            wish["cursor"] = cursor;
        }
        let answer = api.post("/v2/dead-letters/redrive", wish.to_string()).await;
        let answer = answer.expect(200).json();
        for item in answer["items"].as_array().expect("a list") {
            let id = |name: &str| item[name].as_str().map(str::to_owned);
            let new = id("call_id").unwrap_or_else(|| item.to_string());
            made.insert(id("id").expect("an id"), new);
        }
        cursor = answer["next_cursor"].clone();
        if !cursor.is_string() {
            return made;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_dead_calls_become_a_thousand_calls_and_none_twice() {
    let cluster = cluster().await;
    let ledger = ledger().await;
    let function = deploy(&cluster, "dead", json!({ "wireStatus": 502 })).await;
    let twice = [("Fn-Call-Max-Attempts", "2".to_owned())];
    let dead = hand_in_many(&cluster, &function, 1_000, &twice).await;
    all_over(&cluster, &function).await;
    assert_eq!(count(&cluster, &function, "'dead'"), 1_000);

    // They are redriven with the function as it is now.
    let mended = json!({ "ledger": ledger.address() }).to_string();
    let path = format!("/v2/fns/{}", function.fn_id);
    let mended = json!({ "config": { "TEST_KNOBS": mended } }).to_string();
    cluster.api(0).put(&path, mended).await.expect(200);
    let mut clients = JoinSet::new();
    for client in 0..4 {
        let api = cluster.api(client % 2);
        clients.spawn(redrive(api, function.fn_id.clone()));
    }
    let answers = clients.join_all().await;
    assert_eq!(
        answers[0].keys().collect::<BTreeSet<_>>(),
        dead.iter().collect()
    );
    assert!(answers.iter().all(|other| *other == answers[0]));
    let new: BTreeSet<_> = answers[0].values().collect();
    assert_eq!(new.len(), 1_000);

    all_over(&cluster, &function).await;
    assert_eq!(count(&cluster, &function, "'dead'"), 1_000);
    assert_eq!(count(&cluster, &function, "'success'"), 1_000);
    let begun = begun(&ledger);
    assert!(new.iter().all(|id| begun.get(*id) == Some(&1)));
    assert_eq!(begun.len(), 1_000);
}
