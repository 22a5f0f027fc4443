//! Starts a cluster of processes on this machine, calls a function through each load balancer, and
//! keeps it running until it is told to stop.

#![allow(clippy::print_stdout, reason = "it tells people what it does")]

use hearth_tests::cluster::Shape;
use hearth_tests::{Cluster, Deployed, functions};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let once = std::env::args().any(|argument| argument == "--once");
    let shape = Shape::default();
    println!(
        "Starting {} API nodes on one PostgreSQL, {} runners, {} load balancers ...",
        shape.apis, shape.runners, shape.lbs
    );
    let cluster = Cluster::start(shape).await;
    let function = Deployed::new(
        &cluster.api(0),
        "hello",
        &functions::image("hello"),
        json!({}),
    )
    .await;
    for lb in &cluster.lbs {
        let answer = lb.client().post(&function.path, r#"{"name":"you"}"#).await;
        println!("{}{}", lb.client().base(), function.path);
        println!("  {} {}", answer.status, answer.text().trim_end());
        anyhow::ensure!(answer.status == 200, "the call failed");
    }
    for (name, nodes) in [
        ("API nodes", &cluster.apis),
        ("load balancers", &cluster.lbs),
        ("runners", &cluster.runners),
    ] {
        let addresses: Vec<_> = nodes
            .iter()
            .map(|node| format!("http://{}", node.address()))
            .collect();
        println!("{name}: {}", addresses.join(" "));
    }
    if !once {
        println!("Ctrl-C stops everything.");
        tokio::signal::ctrl_c().await?;
    }
    Ok(())
}
