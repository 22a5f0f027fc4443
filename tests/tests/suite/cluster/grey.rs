//! A grey node: a runner that answers, and slowly.

use std::net::Ipv4Addr;
use std::time::Duration;

use hearth_tests::cluster::Shape;
use hearth_tests::process::Process;
use hearth_tests::relay::Relay;
use hearth_tests::{Cluster, Deployed, eventually};
use rustix::process::Signal;
use serde_json::json;

use super::Load;

const RUNNERS: usize = 4;

/// What each call of the slow runner takes more, there and back; calls take some milliseconds.
const SLOW_MILLIS: u64 = 150;

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_becomes_slow_is_left_alone_until_it_has_recovered() {
    let mut cluster = Cluster::start(Shape {
        runners: RUNNERS,
        // Few containers each, so that calls spread.
        settings: vec![(
            "FN_MAX_TOTAL_MEMORY_BYTES".to_owned(),
            "320000000".to_owned(),
        )],
        ..Shape::default()
    })
    .await;
    // Load balancers reach the first runner over a relay.
    let relay = Relay::start(
        (Ipv4Addr::LOCALHOST, 0).into(),
        cluster.runners[0].grpc_address(),
    )
    .await;
    let address = relay.address().to_string();
    let grey = &mut cluster.runners[0];
    grey.signal(Signal::TERM);
    assert!(grey.ended(Duration::from_secs(60)).await.success());
    grey.set("FN_RUNNER_ADVERTISE_ADDRESS", &address);
    grey.start().await;
    grey.ready().await;
    for lb in &cluster.lbs {
        cluster.all_runners_known(lb).await;
        assert_eq!(state(lb, &address).await, "online");
    }

    let func = Deployed::test_function(
        &cluster.api(0),
        "grey",
        json!({ "config": { "TEST_KNOBS": r#"{"sleepTime": 10}"# } }),
    )
    .await;
    let load = Load::start(&cluster, &func, 16);
    let served = async |least: f64| {
        let before = completed(&cluster, 0).await;
        eventually("the runner has its share of the calls", async || {
            (completed(&cluster, 0).await >= before + least).then_some(())
        })
        .await;
    };
    served(50.0).await;

    relay.delay(SLOW_MILLIS);
    for lb in &cluster.lbs {
        eventually("the slow runner is ejected", async || {
            (state(lb, &address).await == "offline").then_some(())
        })
        .await;
    }
    // From time to time it is tried, and most calls go elsewhere.
    let (grey, all) = (completed(&cluster, 0).await, all_completed(&cluster).await);
    eventually("other runners serve", async || {
        (all_completed(&cluster).await >= all + 1_000.0).then_some(())
    })
    .await;
    let grey = completed(&cluster, 0).await - grey;
    let all = all_completed(&cluster).await - all;
    assert!(
        grey < all / 10.0,
        "the slow runner had {grey} of {all} calls"
    );

    relay.delay(0);
    for lb in &cluster.lbs {
        eventually("the runner is back", async || {
            (state(lb, &address).await == "online").then_some(())
        })
        .await;
    }
    served(200.0).await;
    load.stop().await;
}

/// What a load balancer thinks of a runner.
async fn state(lb: &Process, runner: &str) -> String {
    let nodes = lb.client().get("/1/lb/nodes").await.json();
    nodes["nodes"][runner]
        .as_str()
        .unwrap_or("unknown")
        .to_owned()
}

async fn completed(cluster: &Cluster, runner: usize) -> f64 {
    let client = cluster.runners[runner].client();
    client.metric("fn_completed").await.unwrap_or_default()
}

async fn all_completed(cluster: &Cluster) -> f64 {
    let mut all = 0.0;
    for runner in 0..RUNNERS {
        all += completed(cluster, runner).await;
    }
    all
}
