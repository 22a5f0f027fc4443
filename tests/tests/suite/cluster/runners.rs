//! Runners that die, hang, and come back.

use std::time::Duration;

use hearth_tests::cluster::Shape;
use hearth_tests::{Cluster, Deployed, engine, eventually, eventually_within};
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;

/// Where a function's containers are: on these runners.
fn runners_with_containers(cluster: &Cluster) -> Vec<usize> {
    let has = |at: &usize| !engine::containers_of(&cluster.tags[*at]).is_empty();
    (0..cluster.runners.len()).filter(has).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_killed_runner_fail_at_once_and_nothing_goes_there_any_more() {
    let mut cluster = Cluster::start(Shape::default()).await;
    let func = Deployed::test_function(&cluster.api(0), "killed", json!({ "timeout": 120 })).await;
    let func = func.through(&cluster.lb(0));
    func.call_json(json!({})).await.expect(200);
    let [runner] = runners_with_containers(&cluster)[..] else {
        panic!("one call has one container");
    };
    let running = {
        let func = func.clone();
        tokio::spawn(async move { func.call_json(json!({ "sleepTime": 100_000 })).await })
    };
    eventually("the call runs", async || {
        let running = cluster.runners[runner].client().metric("fn_running").await;
        (running == Some(1.0)).then_some(())
    })
    .await;
    cluster.runners[runner].kill();
    let answer = tokio::time::timeout(Duration::from_secs(10), running).await;
    let answer = answer.expect("long before its deadline").expect("a client");
    assert!([502, 503].contains(&answer.status.as_u16()), "{answer:?}");
    for lb in 0..2 {
        for _ in 0..20 {
            func.through(&cluster.lb(lb))
                .call_json(json!({}))
                .await
                .expect(200);
        }
    }
    let left = engine::containers_of(&cluster.tags[runner]);
    assert!(!left.is_empty(), "a killed runner cannot clear up");
    cluster.runners[runner].start().await;
    eventually_within(
        Duration::from_secs(10),
        "its containers are gone",
        async || {
            let now = engine::containers_of(&cluster.tags[runner]);
            left.iter()
                .all(|container| !now.contains(container))
                .then_some(())
        },
    )
    .await;
    for lb in &cluster.lbs {
        cluster.all_runners_known(lb).await;
    }
}

/// A runner that is stopped answers nothing, but its connections stay open.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_hangs_costs_no_call_its_time_out_twice() {
    let cluster = Cluster::start(Shape::default()).await;
    let func = Deployed::test_function(&cluster.api(0), "hangs", json!({ "timeout": 5 })).await;
    let func = func.through(&cluster.lb(0));
    func.call_json(json!({})).await.expect(200);
    let [runner] = runners_with_containers(&cluster)[..] else {
        panic!("one call has one container");
    };
    cluster.runners[runner].signal(Signal::STOP);
    let mut calls = JoinSet::new();
    for call in 0..40 {
        let func = func.through(&cluster.lb(call % 2));
        calls.spawn(async move {
            let knobs = json!({ "postErrGarbage": format!("ledger {call}\n") });
            func.call_json(knobs).await
        });
    }
    let answers = tokio::time::timeout(Duration::from_secs(60), calls.join_all()).await;
    let answers = answers.expect("no call hangs");
    assert!(
        answers.iter().any(|answer| answer.status == 200),
        "{answers:?}"
    );
    eventually("calls go elsewhere", async || {
        let answer = func.call_json(json!({})).await;
        (answer.status == 200).then_some(())
    })
    .await;
    cluster.runners[runner].signal(Signal::CONT);
    for lb in &cluster.lbs {
        cluster.all_runners_known(lb).await;
    }
    // What the functions say is the ledger: nothing ran twice.
    let said: String = cluster
        .runners
        .iter()
        .map(|runner| runner.log_text())
        .collect();
    for call in 0..40 {
        let runs = said.matches(&format!("\"ledger {call}\"")).count();
        assert!(runs <= 1, "call {call} ran {runs} times");
    }
}
