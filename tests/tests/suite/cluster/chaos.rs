//! Chaos: links that are cut in one direction, connections that are reset or half open, runners that
//! hang and die, functions and clients that stall; and a ledger outside the system that counts what
//! was executed.
//!
//! `HEARTH_CHAOS_CALLS` is the number of calls, `HEARTH_CHAOS_STATE` brings back the troubles and the
//! calls of an earlier run.
//!
//! That the test bites was tried by hand: the load balancer was made to take every stream that breaks
//! before the head of the answer for a call that was never sent (`cut` in `lb/src/remote`), so that
//! `lb/src/placed_runner.rs` tried the next runner. [`calls_that_are_sent_again_are_found`] shows the
//! same with a client that sends a lost call again.

#![expect(clippy::print_stdout, reason = "what happened is told with a failure")]

mod clients;
mod ledger;
mod plan;
mod troubles;
mod verdict;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hearth_tests::cluster::Shape;
use hearth_tests::netns::Network;
use hearth_tests::{Cluster, Deployed, engine, eventually, eventually_within, random};
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;

use clients::{Client, Outcome};
use ledger::Ledger;
use plan::Plan;
use troubles::{Control, link_troubles, runner_troubles};

const CALLS: u64 = 1_500;
const CLIENTS: usize = 24;
const RUNNERS: usize = 3;
const LBS: usize = 2;

/// How long a call may wait, and how long it may run.
const PLACEMENT: Duration = Duration::from_secs(4);
const FUNCTION: Duration = Duration::from_secs(3);
/// When each client must have a final answer: its deadline and a second.
const LIMIT: Duration = Duration::from_secs(4 + 3 + 1);

async fn start(network: &Network, lbs: usize, runners: usize) -> Cluster {
    let settings = [
        (
            "FN_PLACEMENT_TIMEOUT",
            PLACEMENT.as_millis().to_string() + "ms",
        ),
        // When a runner is given up that is not done in time.
        ("FN_EXECUTION_HEADROOM", "200ms".to_owned()),
        // Ten containers for each runner.
        ("FN_MAX_TOTAL_MEMORY_BYTES", "700000000".to_owned()),
    ];
    Cluster::start(Shape {
        lbs,
        runners,
        network: Some(network.clone()),
        settings: settings
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        ..Shape::default()
    })
    .await
}

async fn deploy(cluster: &Cluster) -> Deployed {
    let settings = json!({ "timeout": FUNCTION.as_secs() });
    Deployed::test_function(&cluster.api(0), "chaos", settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_runs_twice_or_hangs_whatever_happens_to_links_and_runners() {
    let state = random::state("HEARTH_CHAOS_STATE");
    println!("HEARTH_CHAOS_STATE={state}");
    let calls = match std::env::var("HEARTH_CHAOS_CALLS") {
        Ok(calls) => calls.parse().expect("a number of calls"),
        Err(_) => CALLS,
    };
    let network = Network::new();
    let mut cluster = start(&network, LBS, RUNNERS).await;
    let func = deploy(&cluster).await;
    let ledger = Ledger::start(network.outside()).await;
    let bases: Vec<_> = cluster
        .lbs
        .iter()
        .map(|lb| lb.client().base().to_owned())
        .collect();
    for base in &bases {
        let first = Client::new(base, &func, &ledger)
            .call(&Plan::plain(0))
            .await;
        assert!(first.is_success(), "{first:?}");
        ledger.forget();
    }

    let control = Control::default();
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = Client::new(&bases[number % LBS], &func, &ledger);
        clients.spawn(run(client, state, Arc::clone(&next), calls));
    }
    let load = async {
        let outcomes: Vec<Outcome> = clients.join_all().await.into_iter().flatten().collect();
        control.end();
        outcomes
    };
    let hardships = runner_troubles(&mut cluster.runners, state, control.clone());
    let troubles = link_troubles(&network, &cluster.hosts, state, control.clone());
    let (outcomes, (), ()) = tokio::join!(load, hardships, troubles);

    verdict::print(&outcomes);
    let violations = verdict::violations(&outcomes, &ledger.executions(), LIMIT);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
    // Else nothing was tried.
    let good = outcomes
        .iter()
        .filter(|outcome| outcome.is_success())
        .count();
    assert!(good > outcomes.len() / 3, "{good} of {}", outcomes.len());

    all_is_well_again(&cluster, &func, &ledger).await;
    nothing_is_left(cluster, network).await;
}

/// One client: its next call comes a while after the last one's end.
async fn run(client: Client, state: u64, next: Arc<AtomicU64>, calls: u64) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= calls {
            return outcomes;
        }
        let plan = Plan::of(state, number);
        outcomes.push(client.call(&plan).await);
        tokio::time::sleep(plan.pause).await;
    }
}

/// Each load balancer gets answers from each runner, and only good ones.
async fn all_is_well_again(cluster: &Cluster, func: &Deployed, ledger: &Ledger) {
    for lb in &cluster.lbs {
        cluster.all_runners_known(lb).await;
        eventually("each runner serves calls again", async || {
            let before = completed(cluster).await;
            let mut calls = JoinSet::new();
            // More at a time than all but one runner have containers for.
            for number in 0..24 {
                let client = Client::new(lb.client().base(), func, ledger);
                let plan = Plan::sleeping(number, Duration::from_millis(300));
                calls.spawn(async move { client.call(&plan).await });
            }
            // Connections that broke a moment ago may be found out by a call.
            let outcomes = calls.join_all().await;
            if !outcomes.iter().all(Outcome::is_success) {
                return None;
            }
            let after = completed(cluster).await;
            let grown = before
                .iter()
                .zip(&after)
                .all(|(before, after)| after > before);
            grown.then_some(())
        })
        .await;
    }
}

async fn completed(cluster: &Cluster) -> Vec<f64> {
    let mut completed = Vec::new();
    for runner in &cluster.runners {
        let metric = runner.client().metric("fn_completed").await;
        completed.push(metric.unwrap_or_default());
    }
    completed
}

/// Nothing runs on, and nothing outlives the nodes.
async fn nothing_is_left(mut cluster: Cluster, network: Network) {
    for runner in &cluster.runners {
        for gauge in ["fn_running", "fn_queued"] {
            eventually("a runner has no calls", async || {
                let value = runner.client().metric(gauge).await;
                (value.unwrap_or_default() == 0.0).then_some(())
            })
            .await;
        }
    }
    let patience = Duration::from_secs(60);
    let Cluster {
        lbs, runners, apis, ..
    } = &mut cluster;
    for node in lbs.iter_mut().chain(runners).chain(apis) {
        node.signal(Signal::TERM);
        assert!(
            node.ended(patience).await.success(),
            "a {} ends badly",
            node.kind()
        );
    }
    assert_eq!(cluster.containers(), [""; 0]);
    for at in 0..RUNNERS {
        let sockets = cluster.place(&format!("runner-{at}")).join("iofs");
        // It keeps who it is, and what is left of its starts: nothing.
        let inside = [sockets.join("instances"), sockets];
        let entries = inside
            .iter()
            .flat_map(|place| fs::read_dir(place).expect("a directory"));
        let left: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .filter(|name| name != "instances" && name != "id")
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let namespaces: Vec<_> = cluster
        .hosts
        .values()
        .map(|host| Path::new("/run/netns").join(host.namespace()))
        .collect();
    assert!(namespaces.iter().all(|namespace| namespace.exists()));
    drop((cluster, network));
    assert!(!namespaces.iter().any(|namespace| namespace.exists()));
}

/// The test of the test: this is what the system must never do.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_sent_again_are_found() {
    let network = Network::new();
    let mut cluster = start(&network, 1, 2).await;
    let func = deploy(&cluster).await;
    let ledger = Ledger::start(network.outside()).await;
    let client = Client::new(cluster.lb(0).base(), &func, &ledger);
    let plan = Plan::sleeping(7, FUNCTION - Duration::from_millis(500));
    let call = tokio::spawn({
        let (client, plan) = (client.clone(), plan.clone());
        async move { client.call(&plan).await }
    });
    eventually("the call runs", async || {
        (ledger.executions().get(&7) == Some(&1)).then_some(())
    })
    .await;
    let has_it = |tag: &String| !engine::containers_of(tag).is_empty();
    let runner = cluster
        .tags
        .iter()
        .position(has_it)
        .expect("a runner has it");
    cluster.runners[runner].kill();
    let lost = call.await.expect("a client");
    assert!(!lost.is_success(), "{lost:?}");
    let fair = verdict::violations(&[lost], &ledger.executions(), LIMIT);
    assert_eq!(fair, [""; 0]);

    let again = eventually_within(LIMIT * 2, "another runner takes it", async || {
        let again = client.call(&plan).await;
        again.is_success().then_some(again)
    })
    .await;
    let found = verdict::violations(&[again], &ledger.executions(), LIMIT);
    assert_eq!(found, ["call 7 ran 2 times"]);
}
