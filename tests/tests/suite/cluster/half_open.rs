//! Connections of which only one side knows.

use hearth_tests::cluster::Shape;
use hearth_tests::netns::Network;
use hearth_tests::{Cluster, eventually};

use super::hello;

/// How many connections a load balancer keeps to a runner (`FN_GRPC_CONNECTIONS`).
const CONNECTIONS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_are_replaced_before_a_call_is_lost_on_one() {
    let network = Network::new();
    let cluster = Cluster::start(Shape {
        network: Some(network.clone()),
        lbs: 1,
        runners: 1,
        ..Shape::default()
    })
    .await;
    let hello = hello(&cluster).await;
    hello.call("").await.expect(200);
    let (lb, runner) = (cluster.host("lb-0"), cluster.host("runner-0"));
    let connections = async || {
        eventually("all connections are open", async || {
            let connections = lb.connections(runner.address());
            (connections.len() == CONNECTIONS).then_some(connections)
        })
        .await
    };
    let before = connections().await;
    let cut = network.cut(runner.address(), lb.address());
    runner.reset_connections(lb.address());
    let unaware = lb.connections(runner.address());
    cut.heal();
    assert_eq!(unaware.len(), CONNECTIONS, "the load balancer was told");
    // Nothing is sent but what nodes tell each other.
    eventually("the connections are replaced", async || {
        let now = lb.connections(runner.address());
        (!now.iter().any(|end| before.contains(end))).then_some(())
    })
    .await;
    connections().await;
    cluster.all_runners_known(&cluster.lbs[0]).await;
    for _ in 0..10 * CONNECTIONS {
        hello.call("").await.expect(200);
    }
}
