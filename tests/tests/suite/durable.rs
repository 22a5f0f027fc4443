//! Durable calls on a cluster with PostgreSQL and RabbitMQ: each promise has its test, and all of them
//! together the chaos.

mod acceptance;
mod chaos;
mod dead_letters;
mod fairness;
mod keys;
mod times;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hearth_tests::cluster::Shape;
use hearth_tests::ledger::Ledger;
use hearth_tests::{Answer, Client, Cluster, Deployed, engine, eventually_within};
use http::Request;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How long accepted calls may take until they are over, when nothing is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many clients hand in calls at a time.
const CLIENTS: usize = 32;

/// Two API nodes, two load balancers, a runner.
async fn cluster() -> Cluster {
    cluster_with(&[]).await
}

/// The same with settings.
async fn cluster_with(settings: &[(&str, &str)]) -> Cluster {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Cluster::start(Shape {
        runners: 1,
        durable: true,
        settings: settings.iter().map(own).collect(),
        ..Shape::default()
    })
    .await
}

/// A ledger that the functions reach.
async fn ledger() -> Ledger {
    Ledger::start(engine::outside()).await
}

/// The test function with knobs that hold for all calls.
async fn deploy(cluster: &Cluster, name: &str, knobs: Value) -> Deployed {
    let settings = json!({ "config": { "TEST_KNOBS": knobs.to_string() } });
    Deployed::test_function(&cluster.api(0), name, settings).await
}

/// Hands in a call at a load balancer.
async fn hand_in(lb: &Client, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::post(path).header("Fn-Invoke-Type", "detached");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.to_owned().into());
    lb.send(request.expect("a valid request")).await
}

/// The id of a call that was accepted.
#[track_caller]
fn accepted(answer: Answer) -> String {
    let answer = answer.expect(202);
    answer.header("Fn-Call-Id").expect("an id").to_owned()
}

/// Hands in so many calls, through all load balancers; returns their ids. On a slow machine a client may
/// be told that it is not known whether its call was accepted: it asks again with the same key.
async fn hand_in_many(
    cluster: &Cluster,
    function: &Deployed,
    count: usize,
    headers: &[(&'static str, String)],
) -> Vec<String> {
    static KEYS: AtomicUsize = AtomicUsize::new(0);
    let first_key = KEYS.fetch_add(count, Ordering::Relaxed);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let lb = cluster.lb(client % cluster.lbs.len());
        let (path, headers) = (function.path.clone(), headers.to_vec());
        clients.spawn(async move {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let mut ids = Vec::new();
            for number in (client..count).step_by(CLIENTS) {
                let (key, body) = ((first_key + number).to_string(), number.to_string());
                let headers = [&[("Idempotency-Key", key.as_str())], &headers[..]].concat();
                let until = Instant::now() + PATIENCE;
                let answer = loop {
                    let answer = hand_in(&lb, &path, &headers, &body).await;
                    if answer.status != 503 || Instant::now() > until {
                        break answer;
                    }
                };
                ids.push(accepted(answer));
            }
            ids
        });
    }
    clients.join_all().await.into_iter().flatten().collect()
}

/// A number from the environment, for the long form of a test.
fn size(variable: &str, default: usize) -> usize {
    match std::env::var(variable) {
        Ok(size) => size.parse().expect("a number"),
        Err(_) => default,
    }
}

/// Calls of a function, by the database.
fn count(cluster: &Cluster, function: &Deployed, states: &str) -> u64 {
    let query = format!(
        "SELECT count(*) FROM calls WHERE fn_id = '{}' AND kind = 'async' AND state IN ({states})",
        function.fn_id
    );
    let count = cluster.postgres.query(&cluster.database, &query);
    count.parse().expect("a number")
}

/// Waits until no call of the function is in flight.
async fn all_over(cluster: &Cluster, function: &Deployed) {
    all_over_within(PATIENCE, cluster, function).await;
}

/// The same with another patience.
async fn all_over_within(patience: Duration, cluster: &Cluster, function: &Deployed) {
    eventually_within(patience, "all calls are over", async || {
        let in_flight = count(cluster, function, "'delayed', 'queued', 'running'");
        (in_flight == 0).then_some(())
    })
    .await;
}

/// How often each call began to run, by the word of its function.
fn begun(ledger: &Ledger) -> std::collections::BTreeMap<String, usize> {
    let mut begun = std::collections::BTreeMap::new();
    for line in ledger.lines() {
        let mut words = line.split(' ');
        if words.next() == Some("begin") {
            let call = words.next().expect("a call");
            *begun.entry(call.to_owned()).or_default() += 1;
        }
    }
    begun
}
