//! Every node is restarted, one by one, under load.

use std::time::Duration;

use hearth_tests::Cluster;
use hearth_tests::cluster::Shape;
use rustix::process::Signal;

use super::{Load, hello};

/// Load balancers are behind something that stops sending to one that is not ready; here that is
/// the client, which calls through the other one meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_api_nodes_and_runners_fails_no_call() {
    let mut cluster = Cluster::start(Shape::default()).await;
    let hello = hello(&cluster).await;
    for lb in 0..2 {
        hello.through(&cluster.lb(lb)).call("").await.expect(200);
    }
    let load = Load::start(&cluster, &hello, 8);
    let patience = Duration::from_secs(60);
    for at in 0..cluster.apis.len() {
        cluster.apis[at].signal(Signal::TERM);
        assert!(cluster.apis[at].ended(patience).await.success());
        cluster.apis[at].start().await;
        cluster.apis[at].ready().await;
    }
    for at in 0..cluster.runners.len() {
        cluster.runners[at].signal(Signal::TERM);
        assert!(cluster.runners[at].ended(patience).await.success());
        cluster.runners[at].start().await;
        cluster.runners[at].ready().await;
        for lb in &cluster.lbs {
            cluster.all_runners_known(lb).await;
        }
    }
    load.stop().await;
    for at in 0..cluster.lbs.len() {
        let others = Load::start_through(&cluster, &hello, 4, &[(at + 1) % cluster.lbs.len()]);
        cluster.lbs[at].signal(Signal::TERM);
        assert!(cluster.lbs[at].ended(patience).await.success());
        cluster.lbs[at].start().await;
        cluster.lbs[at].ready().await;
        others.stop().await;
        hello.through(&cluster.lb(at)).call("").await.expect(200);
    }
}
