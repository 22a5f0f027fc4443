//! Accepting: what was answered 202 is there and runs, whatever is away; and nothing is answered 202
//! that is not there.

use std::time::Duration;

use hearth_tests::{Cluster, eventually};
use serde_json::json;
use tokio::time::timeout;

use super::{
    accepted, all_over, begun, cluster, cluster_with, count, deploy, hand_in, hand_in_many, ledger,
    size,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_call_is_there_at_once_on_every_api_node() {
    let cluster = cluster().await;
    let function = deploy(&cluster, "there", json!({})).await;
    for number in 0..100 {
        let lb = cluster.lb(number % 2);
        let id = accepted(hand_in(&lb, &function.path, &[], "").await);
        for api in 0..cluster.apis.len() {
            let shown = cluster.api(api).get(&format!("/v2/calls/{id}")).await;
            assert_eq!(shown.expect(200).json()["id"], id.as_str());
        }
    }
    all_over(&cluster, &function).await;
    assert_eq!(count(&cluster, &function, "'success'"), 100);
}

/// The database's clock, in milliseconds since 1970.
fn clock(cluster: &Cluster) -> i64 {
    let now = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let now = cluster.postgres.query(&cluster.database, now);
    now.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_accepted_without_the_broker_and_run_when_it_is_back() {
    // Else those that find room would run at once.
    let cluster = cluster_with(&[("FN_CALL_DIRECT", "false")]).await;
    let ledger = ledger().await;
    let function = deploy(&cluster, "broker", json!({ "ledger": ledger.address() })).await;
    let broker = cluster.broker.as_ref().expect("a broker");
    // It has its queue.
    hand_in_many(&cluster, &function, 1, &[]).await;
    all_over(&cluster, &function).await;
    tokio::task::block_in_place(|| broker.note_queues());
    broker.kill();
    let mut ids = hand_in_many(&cluster, &function, 10, &[]).await;
    let away = size("HEARTH_BROKER_AWAY", 2) as u64;
    // It is away for so long: that is what is tested.
    tokio::time::sleep(Duration::from_secs(away)).await;
    ids.extend(hand_in_many(&cluster, &function, 10, &[]).await);
    tokio::task::block_in_place(|| broker.resume());
    let back = clock(&cluster);
    all_over(&cluster, &function).await;
    assert_eq!(count(&cluster, &function, "'success'"), 21);
    let begun = begun(&ledger);
    assert!(ids.iter().all(|id| begun.get(id) == Some(&1)), "{begun:?}");
    let times = format!(
        "SELECT min(claimed_at) - {back}, min(started_at) - {back}, max(claimed_at) - {back}, \
         max(started_at) - {back} FROM call_attempts WHERE claimed_at > {back}"
    );
    let times = cluster.postgres.query(&cluster.database, &times);
    println!(
        "after {away} s without a broker, in ms after its return: the first call was claimed, the \
         first one began, the last one was claimed, the last one began: {times}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_nothing_is_accepted_and_clients_that_wait_are_served() {
    let cluster = cluster().await;
    let ledger = ledger().await;
    let function = deploy(&cluster, "database", json!({ "ledger": ledger.address() })).await;
    for lb in 0..2 {
        let lb = cluster.lb(lb);
        function.through(&lb).call("").await.expect(200);
        accepted(hand_in(&lb, &function.path, &[], "").await);
    }
    all_over(&cluster, &function).await;
    cluster.postgres.stop();
    for number in 0..20 {
        let lb = cluster.lb(number % 2);
        let refused = hand_in(&lb, &function.path, &[], "");
        let refused = timeout(Duration::from_secs(2), refused).await;
        refused.expect("an answer within two seconds").expect(503);
        function.through(&lb).call("").await.expect(200);
    }
    cluster.postgres.resume();
    eventually("calls are accepted again", async || {
        let answer = hand_in(&cluster.lb(0), &function.path, &[], "").await;
        (answer.status == 202).then_some(())
    })
    .await;
    all_over(&cluster, &function).await;
    // What was refused was not accepted.
    assert_eq!(count(&cluster, &function, "'success'"), 3);
    let durable = begun(&ledger).len() - 2 - 20;
    assert_eq!(durable, 3);
}

/// As much input as a call may have gets there whole; more is refused.
#[tokio::test(flavor = "multi_thread")]
async fn inputs_arrive_whole_up_to_six_mebibytes() {
    let cluster = cluster().await;
    let function = deploy(&cluster, "large", json!({})).await;
    let most = ".".repeat(6 << 20);
    let id = accepted(hand_in(&cluster.lb(0), &function.path, &[], &most).await);
    all_over(&cluster, &function).await;
    let result = cluster.api(1).get(&format!("/v2/calls/{id}/result")).await;
    let length = &result.expect(200).json()["data"]["bodyLength"];
    assert_eq!(*length, most.len().to_string());
    let more = most + ".";
    hand_in(&cluster.lb(0), &function.path, &[], &more)
        .await
        .expect(413);
}
