//! When calls run: not before they are due, and not after they were cancelled or have expired.

use domain::{CallRecord, Timestamp};
use serde_json::json;

use super::{all_over, begun, cluster, count, deploy, hand_in_many, ledger};

#[tokio::test(flavor = "multi_thread")]
async fn delayed_calls_that_are_due_together_all_run_and_none_too_early() {
    let cluster = cluster().await;
    let ledger = ledger().await;
    let function = deploy(&cluster, "delayed", json!({ "ledger": ledger.address() })).await;
    let now = cluster.postgres.query(
        &cluster.database,
        "SELECT (extract(epoch FROM now()) * 1000)::bigint",
    );
    let now: i64 = now.parse().expect("a number");
    let due = Timestamp::from_unix_millis((now / 1_000 + 5) * 1_000);
    let together = [("Fn-Call-Run-At", due.to_string())];
    let ids = hand_in_many(&cluster, &function, 500, &together).await;
    // Some of them never are.
    let (cancelled, run) = ids.split_at(50);
    for id in cancelled {
        let path = format!("/v2/calls/{id}");
        cluster.api(0).delete(&path).await.expect(200);
        cluster.api(1).delete(&path).await.expect(200);
    }
    all_over(&cluster, &function).await;
    assert_eq!(count(&cluster, &function, "'success'"), 450);
    assert_eq!(count(&cluster, &function, "'cancelled'"), 50);
    let begun = begun(&ledger);
    assert!(run.iter().all(|id| begun.get(id) == Some(&1)));
    assert!(!cancelled.iter().any(|id| begun.contains_key(id)));
    for id in run {
        let call = cluster.api(0).get(&format!("/v2/calls/{id}")).await;
        let call: CallRecord = serde_json::from_value(call.expect(200).json()).expect("a call");
        assert!(call.started_at >= due, "{call:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_expire_before_there_is_a_runner_are_dead_letters() {
    let mut cluster = cluster().await;
    let ledger = ledger().await;
    let function = deploy(&cluster, "expired", json!({ "ledger": ledger.address() })).await;
    cluster.runners[0].kill();
    let soon = [("Fn-Call-Expiry", "1".to_owned())];
    hand_in_many(&cluster, &function, 50, &soon).await;
    all_over(&cluster, &function).await;
    assert_eq!(count(&cluster, &function, "'dead'"), 50);
    let api = cluster.api(1);
    let dead = api
        .get("/v2/dead-letters?reason=expired&per_page=100")
        .await;
    let dead = dead.expect(200).json();
    assert_eq!(dead["items"].as_array().map(Vec::len), Some(50));
    // The next runner leaves them alone.
    cluster.runners[0].start().await;
    hand_in_many(&cluster, &function, 1, &[]).await;
    all_over(&cluster, &function).await;
    assert_eq!(begun(&ledger).len(), 1);
}
