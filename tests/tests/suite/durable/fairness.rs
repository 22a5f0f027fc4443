//! Fairness: a function with many calls does not keep those of others waiting.

use hearth_tests::{Cluster, Deployed, eventually};
use serde_json::json;

use super::{accepted, all_over, cluster_with, count, deploy, hand_in, hand_in_many, size};

/// Ten containers.
const ROOM: (&str, &str) = ("FN_MAX_TOTAL_MEMORY_BYTES", "700000000");
const WAITING: &str = "'queued', 'running'";

/// From acceptance to start, in milliseconds, of the calls that were made since then; the least first.
fn waits(cluster: &Cluster, functions: &[Deployed], since: i64) -> Vec<i64> {
    let ids = functions
        .iter()
        .map(|function| format!("'{}'", function.fn_id));
    let query = format!(
        "SELECT started_at - created_at FROM calls \
         WHERE fn_id IN ({}) AND state = 'success' AND created_at >= {since} ORDER BY 1",
        ids.collect::<Vec<_>>().join(", ")
    );
    let waits = cluster.postgres.query(&cluster.database, &query);
    let waits = waits.lines().map(|wait| wait.parse().expect("a number"));
    waits.collect()
}

/// What most and what nearly all of them have waited at most.
fn quantiles(waits: &[i64]) -> (i64, i64) {
    let at = |percent: usize| waits[(waits.len() * percent).div_ceil(100) - 1];
    (at(50), at(99))
}

fn clock(cluster: &Cluster) -> i64 {
    let now = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let now = cluster.postgres.query(&cluster.database, now);
    now.parse().expect("a number")
}

/// Calls, each of which is handed in when the one before it is over; how long they have waited.
async fn one_by_one(cluster: &Cluster, function: &Deployed, calls: usize) -> Vec<i64> {
    let since = clock(cluster);
    for number in 0..calls {
        let lb = cluster.lb(number % cluster.lbs.len());
        let id = accepted(hand_in(&lb, &function.path, &[], "").await);
        let path = format!("/v2/calls/{id}");
        eventually("the call is over", async || {
            let call = cluster.api(0).get(&path).await.expect(200).json();
            (call["status"] == "success").then_some(())
        })
        .await;
    }
    waits(cluster, std::slice::from_ref(function), since)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_slow_calls_of_one_function_keep_no_other_one_from_starting() {
    let cluster = cluster_with(&[ROOM]).await;
    let (calls, takes) = (
        size("HEARTH_SLOW_CALLS", 200),
        size("HEARTH_SLOW_MS", 5_000),
    );
    let other = deploy(&cluster, "other", json!({})).await;
    let settings = json!({
        "timeout": 120,
        "config": { "TEST_KNOBS": json!({ "sleepTime": takes }).to_string() },
    });
    let hog = Deployed::test_function(&cluster.api(0), "hog", settings).await;
    one_by_one(&cluster, &other, 5).await;
    let alone = one_by_one(&cluster, &other, 100).await;
    // Far more than the runner has room for, and more than are published at a time.
    hand_in_many(&cluster, &hog, calls, &[]).await;
    eventually("the slow ones run", async || {
        (count(&cluster, &hog, "'running'") >= 5).then_some(())
    })
    .await;
    let beside = one_by_one(&cluster, &other, 100).await;
    let waiting = count(&cluster, &hog, WAITING);
    assert!(
        waiting > calls as u64 / 4,
        "only {waiting} calls of the other one were left"
    );
    let (alone, beside) = (quantiles(&alone), quantiles(&beside));
    println!(
        "from acceptance to start, p50 and p99 in ms: alone {alone:?}, beside {waiting} calls of {takes} ms {beside:?}"
    );
}

/// Makes copies of the function's only waiting call, as if each had been accepted.
fn multiply(cluster: &Cluster, function: &Deployed, calls: usize) {
    let copy = |table: &str, id: &str, more: &str| {
        // The columns are those of the table, whichever they are.
        format!(
            "INSERT INTO {table} SELECT (jsonb_populate_record(t, \
             jsonb_build_object('{id}', t.{id} || '-' || n{more}))).* \
             FROM {table} t, generate_series(1, {calls}) n WHERE {{}};"
        )
    };
    let of_call = "t.call_id = (SELECT id FROM calls WHERE fn_id = '{fn}' ORDER BY id LIMIT 1)";
    let fn_id = &function.fn_id;
    let of_call = of_call.replace("{fn}", fn_id);
    let statements = [
        copy("call_requests", "call_id", "").replace("{}", &of_call),
        copy("doorbells", "call_id", ", 'rung_at', null").replace("{}", &of_call),
        copy("calls", "id", "").replace("{}", &format!("t.fn_id = '{fn_id}'")),
    ];
    let statements = format!(
        "BEGIN; {} COMMIT; ANALYZE calls, call_requests, doorbells",
        statements.concat()
    );
    cluster.postgres.query(&cluster.database, &statements);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hog_with_a_long_queue_does_not_starve_twenty_small_tenants() {
    let mut cluster = cluster_with(&[ROOM]).await;
    let calls = size("HEARTH_HOG_CALLS", 10_000);
    let hog = deploy(&cluster, "hog", json!({ "sleepTime": 200 })).await;
    let mut tenants = vec![];
    for number in 0..20 {
        tenants.push(deploy(&cluster, &format!("tenant-{number}"), json!({})).await);
    }
    let round = async |cluster: &Cluster| {
        let since = clock(cluster);
        for tenant in &tenants {
            hand_in_many(cluster, tenant, 5, &[]).await;
        }
        for tenant in &tenants {
            all_over(cluster, tenant).await;
        }
        waits(cluster, &tenants, since)
    };
    round(&cluster).await;
    let alone = round(&cluster).await;
    // The calls of the hog are there before anybody takes one.
    cluster.runners[0].kill();
    hand_in_many(&cluster, &hog, 1, &[]).await;
    multiply(&cluster, &hog, calls);
    cluster.runners[0].start().await;
    eventually("the hog's calls run", async || {
        (count(&cluster, &hog, "'success'") > 0).then_some(())
    })
    .await;
    let beside = round(&cluster).await;
    let waiting = count(&cluster, &hog, WAITING);
    assert!(
        waiting > calls as u64 / 2,
        "only {waiting} calls of the hog were left"
    );
    assert_eq!((alone.len(), beside.len()), (100, 100));
    let (alone, beside) = (quantiles(&alone), quantiles(&beside));
    println!(
        "twenty tenants, from acceptance to start, p50 and p99 in ms: alone {alone:?}, beside {waiting} calls {beside:?}"
    );
}
