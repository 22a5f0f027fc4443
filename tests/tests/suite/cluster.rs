//! A cluster of processes: API nodes, load balancers and runners (docs/operations.md says what each
//! of these tests shows to an operator).

mod chaos;
mod control_plane;
mod grey;
mod half_open;
mod restarts;
mod runners;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hearth_tests::cluster::Shape;
use hearth_tests::{Cluster, Deployed, functions};
use serde_json::json;
use tokio::task::JoinSet;

async fn hello(cluster: &Cluster) -> Deployed {
    let image = functions::image("hello");
    let hello = Deployed::new(&cluster.api(0), "hello", &image, json!({ "memory": 64 })).await;
    hello.through(&cluster.lb(0))
}

/// Clients that call through all load balancers until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<usize>,
}

impl Load {
    /// Every answer must be a success.
    fn start(cluster: &Cluster, function: &Deployed, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut running = JoinSet::new();
        for client in 0..clients {
            let function = function.through(&cluster.lb(client % cluster.lbs.len()));
            let stop = Arc::clone(&stop);
            running.spawn(async move {
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    let answer = function.call(r#"{"name":"load"}"#).await;
                    assert_eq!(answer.status, 200, "call {calls} of {client}: {answer:?}");
                    calls += 1;
                }
                calls
            });
        }
        Self {
            stop,
            clients: running,
        }
    }

    /// Ends the load; how many calls there were.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let calls = self.clients.join_all().await.into_iter().sum();
        assert!(calls > 0, "nobody called");
        calls
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_load_balancer_calls_what_any_api_node_was_given() {
    let cluster = Cluster::start(Shape::default()).await;
    let hello = hello(&cluster).await;
    for lb in 0..cluster.lbs.len() {
        let answer = hello.through(&cluster.lb(lb)).call("").await.expect(200);
        assert_eq!(answer.json()["message"], "Hello World");
    }
    for api in 0..cluster.apis.len() {
        let shown = cluster
            .api(api)
            .get(&format!("/v2/fns/{}", hello.fn_id))
            .await;
        assert_eq!(shown.expect(200).json()["name"], "hello");
    }
    // What does not exist is what it is on one node.
    let missing = cluster.lb(1).post("/invoke/nothing", "").await;
    missing.is_error(404, "Fn not found");
    let missing = cluster.lb(0).get("/t/nothing/here").await;
    missing.is_error(404, "App not found");
}

/// Twelve calls at a time for a function whose calls take a while need more than one runner.
#[tokio::test(flavor = "multi_thread")]
async fn calls_spread_over_runners() {
    let settings = vec![(
        "FN_MAX_TOTAL_MEMORY_BYTES".to_owned(),
        "400000000".to_owned(),
    )];
    let cluster = Cluster::start(Shape {
        settings,
        ..Shape::default()
    })
    .await;
    let func = Deployed::test_function(&cluster.api(0), "busy", json!({})).await;
    let mut calls = JoinSet::new();
    for call in 0..6 {
        let func = func.through(&cluster.lb(call % 2));
        calls.spawn(async move { func.call_json(json!({ "sleepTime": 3000 })).await });
    }
    for answer in calls.join_all().await {
        answer.expect(200);
    }
    let used = cluster
        .tags
        .iter()
        .filter(|tag| !hearth_tests::engine::containers_of(tag).is_empty());
    assert!(used.count() > 1, "all calls went to one runner");
}
