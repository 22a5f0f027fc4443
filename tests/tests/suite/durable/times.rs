//! When calls run: not before they are due, and not after they were cancelled or have expired.

use std::time::Duration;

use domain::Timestamp;
use hearth_tests::Cluster;
use serde_json::json;

use super::{all_over, all_over_within, begun, cluster, count, deploy, hand_in_many, ledger, size};

/// What clients hand in, and the functions of one runner do, in a second, at the least.
const ACCEPTED_PER_SECOND: usize = 100;
const RUN_PER_SECOND: usize = 10;

/// The database's clock, in seconds since 1970.
fn now(cluster: &Cluster) -> i64 {
    let now = "SELECT floor(extract(epoch FROM now()))::bigint";
    let now = cluster.postgres.query(&cluster.database, now);
    now.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_calls_that_are_due_together_all_run_and_none_too_early() {
    let cluster = cluster().await;
    let ledger = ledger().await;
    let function = deploy(&cluster, "delayed", json!({ "ledger": ledger.address() })).await;
    let calls = size("HEARTH_DELAYED_CALLS", 500);
    let until_all_are_there = calls / ACCEPTED_PER_SECOND;
    let due = now(&cluster) + 5 + i64::try_from(until_all_are_there).expect("a size");
    let run_at = Timestamp::from_unix_millis(due * 1_000).to_string();
    let together = [("Fn-Call-Run-At", run_at)];
    let ids = hand_in_many(&cluster, &function, calls + 50, &together).await;
    // Some of them never are.
    let (cancelled, run) = ids.split_at(50);
    for id in cancelled {
        let path = format!("/v2/calls/{id}");
        cluster.api(0).delete(&path).await.expect(200);
        cluster.api(1).delete(&path).await.expect(200);
    }
    assert!(
        now(&cluster) < due,
        "all of them were there before they were due"
    );
    let patience = Duration::from_secs((120 + until_all_are_there + calls / RUN_PER_SECOND) as u64);
    all_over_within(patience, &cluster, &function).await;
    assert_eq!(count(&cluster, &function, "'success'"), calls as u64);
    assert_eq!(count(&cluster, &function, "'cancelled'"), 50);
    let begun = begun(&ledger);
    assert!(run.iter().all(|id| begun.get(id) == Some(&1)));
    assert!(!cancelled.iter().any(|id| begun.contains_key(id)));
    let times = format!(
        "SELECT count(*) FILTER (WHERE started_at < {due}000), \
         (max(completed_at) - {due}000) / 1000.0 FROM calls WHERE state = 'success'"
    );
    let times = cluster.postgres.query(&cluster.database, &times);
    let (early, last) = times.split_once('|').expect("two numbers");
    assert_eq!(early, "0");
    println!("{calls} calls: the last one was over {last} s after they were due");
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
