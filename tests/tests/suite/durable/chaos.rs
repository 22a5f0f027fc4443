//! Chaos: thousands of durable calls of functions that succeed, fail, crash, hang and run out of memory,
//! while processes of every kind are killed at random and at named steps, halted and cut off; and
//! four ledgers that must agree in the end.
//!
//! `HEARTH_CHAOS_CALLS` and `HEARTH_CHAOS_KILLS` say how much of it, `HEARTH_CHAOS_STATE` brings back
//! the calls and the troubles of an earlier run (`tests/chaos` runs the long form).
//!
//! That the suite bites is tested too: see [`bugs`].

#![expect(clippy::print_stdout, reason = "what happened is told")]

mod books;
mod bugs;
mod clients;
mod judge;
mod natures;
mod plan;
mod power;
mod sleepwalker;
mod table;
mod troubles;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hearth_tests::cluster::Shape;
use hearth_tests::ledger::Ledger;
use hearth_tests::netns::Network;
use hearth_tests::{Client, Cluster, Deployed, binary, eventually_within, functions, random};
use serde_json::json;
use tokio::task::JoinSet;

use clients::{Account, Caller, Told};
use judge::Evidence;
use natures::FUNCTIONS;
use plan::Plan;
use sleepwalker::Sleepwalker;
use troubles::{Control, Count, EVERYTHING, Links, Processes, Severity};

/// Longer than every pause and every delay: when nothing has moved for so long, nothing will.
const STUCK: Duration = Duration::from_secs(30);

/// How much of everything.
#[derive(Debug, Clone)]
struct Scale {
    calls: u64,
    clients: usize,
    /// How long a client rests at most between two calls, in milliseconds.
    longest_pause: u64,
    kills: u32,
    severity: Severity,
    /// Steps at which processes die, with probabilities.
    abort_at: &'static str,
    bug: Option<&'static str>,
    /// How long nothing may happen to a call before its doorbell is rung again.
    silence: &'static str,
    /// How long calls may go on after the last trouble.
    patience: Duration,
}

/// How long a runner that gives no sign keeps its calls. Troubles last longer.
const LEASE: Duration = Duration::from_secs(3);

impl Scale {
    /// The form that always runs.
    fn short() -> Self {
        Self {
            calls: 600,
            clients: 16,
            longest_pause: 1_500,
            kills: 15,
            severity: Severity {
                troubles: EVERYTHING,
                links: true,
                pause: (200, 1_500),
                longest_halt: 6_000,
                longest_absence: 1_500,
            },
            abort_at: "accept-after-commit:0.005,publish-before-confirm:0.003,\
                       confirm-before-forget:0.003,delivery-before-claim:0.003,\
                       claim-before-ack:0.003,ack-before-push:0.003,start-before-send:0.01,\
                       answer-before-finish:0.01,finish-before-reply:0.003",
            bug: None,
            silence: "20s",
            patience: Duration::from_secs(300),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_accepted_call_is_lost_or_has_two_ends_whatever_dies() {
    let number = |variable, default: u64| match std::env::var(variable) {
        Ok(number) => number.parse().expect("a number"),
        Err(_) => default,
    };
    let short = Scale::short();
    let calls = number("HEARTH_CHAOS_CALLS", short.calls);
    let kills = number("HEARTH_CHAOS_KILLS", u64::from(short.kills));
    let scale = Scale {
        calls,
        kills: u32::try_from(kills).expect("a number of kills"),
        // Everything that waits has to come to its end.
        patience: short.patience + Duration::from_millis(20 * calls),
        ..short
    };
    let (evidence, count) = run(&scale).await;
    println!("{}", table::table(&evidence, &count));
    let faults = evidence.faults();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // Else nothing was tried.
    let accepted = |account: &&Account| matches!(account.told, Told::Accepted(_));
    let accepted = evidence.accounts.iter().filter(accepted).count();
    assert!(
        accepted > evidence.accounts.len() / 2,
        "{accepted} of {} were accepted",
        evidence.accounts.len()
    );
    assert!(count["killed"] >= scale.kills, "{count:?}");
    assert!(count["died at a step"] > 0, "{count:?}");
}

/// Runs everything, and gathers what there is to know in the end.
async fn run(scale: &Scale) -> (Evidence, Count) {
    let state = random::state("HEARTH_CHAOS_STATE");
    println!("HEARTH_CHAOS_STATE={state}");
    let began = Instant::now();
    let network = Network::new();
    let deadly = tempfile::NamedTempFile::new().expect("a file");
    let mut cluster = start(&network, scale, deadly.path()).await;
    let ledger = Ledger::start(network.outside()).await;
    let functions = deploy(&cluster.api(0), &ledger).await;
    let broker = cluster.broker.as_ref().expect("a durable cluster");
    tokio::task::block_in_place(|| broker.note_queues());
    println!("all is there after {:?}", began.elapsed());

    let control = Control::default();
    let grpc: Vec<_> = cluster
        .apis
        .iter()
        .map(|api| api.grpc_address().to_owned())
        .collect();
    let links = Links::of(&cluster, &network);
    let clients = clients(&cluster, &functions, scale, state);
    let load = async {
        let accounts: Vec<Account> = clients.join_all().await.into_iter().flatten().collect();
        println!("all calls are handed in after {:?}", began.elapsed());
        control.end();
        accounts
    };
    let link_troubles = async {
        match scale.severity.links {
            true => links.troubles(state, control.clone()).await,
            false => Count::new(),
        }
    };
    let sleepwalker = Sleepwalker {
        source: sleepwalker::source(&grpc),
        natures: judge::natures(&functions, &FUNCTIONS),
        ledger: &ledger,
    };
    let processes = processes(&mut cluster);
    let hardships = troubles::process_troubles(
        processes,
        scale.severity,
        scale.kills,
        state,
        control.clone(),
    );
    let (accounts, mut count, cuts, walks) = tokio::join!(
        load,
        hardships,
        link_troubles,
        sleepwalker.walk(state, control.clone())
    );
    count.extend(cuts.into_iter().chain(walks));
    // From now on no step is deadly.
    drop(deadly);

    let revived = calm(&mut cluster, scale.patience).await;
    *count.entry("died at a step").or_default() += revived;
    println!("all is calm after {:?}", began.elapsed());
    let apis: Vec<_> = cluster.apis.iter().map(|api| api.client()).collect();
    let first = books::read(&apis, &functions).await;
    runners_are_idle(&cluster).await;
    let second = books::read(&apis, &functions).await;
    let evidence = Evidence {
        accounts,
        first,
        second,
        executions: judge::executions(&ledger.lines()),
        left: left(&cluster).await,
        natures: judge::natures(&functions, &FUNCTIONS),
    };
    println!("all is known after {:?}", began.elapsed());
    (evidence, count)
}

async fn start(network: &Network, scale: &Scale, deadly: &Path) -> Cluster {
    let settings = [
        ("FN_CALL_LEASE", format!("{}s", LEASE.as_secs())),
        ("FN_CALL_SILENCE", scale.silence.to_owned()),
        // A runner that hangs while a container starts does not make the function late.
        ("FN_HOT_START_TIMEOUT_MSECS", "60000".to_owned()),
        // Some fifteen containers for each runner.
        ("FN_MAX_TOTAL_MEMORY_BYTES", "1000000000".to_owned()),
        ("HEARTH_ABORT_AT", scale.abort_at.to_owned()),
        ("HEARTH_ABORT_WHILE", deadly.display().to_string()),
        (
            "HEARTH_PLANTED_BUG",
            scale.bug.unwrap_or_default().to_owned(),
        ),
    ];
    // Both ways to a runner are tried; a planted bug is one of the way through the queue.
    let through_the_queue = if scale.bug.is_some() { 0..2 } else { 1..2 };
    let not_direct = |at| (at, "FN_CALL_DIRECT".to_owned(), "false".to_owned());
    Cluster::start(Shape {
        runners: 2,
        network: Some(network.clone()),
        durable: true,
        api_settings: through_the_queue.map(not_direct).collect(),
        program: Some(binary::breakable_hearth().to_owned()),
        settings: settings
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        ..Shape::default()
    })
    .await
}

async fn deploy(api: &Client, ledger: &Ledger) -> Vec<Deployed> {
    let image = functions::image("test-function");
    let app = api.post("/v2/apps", json!({ "name": "chaos" }).to_string());
    let app = app.await.expect(200).json();
    let mut deployed = Vec::new();
    for (number, nature) in FUNCTIONS.iter().enumerate() {
        let knobs = nature.knobs(ledger.address(), LEASE).to_string();
        let settings = json!({
            "memory": 64,
            "timeout": nature.timeout().as_secs(),
            "config": { "TEST_KNOBS": knobs },
        });
        let name = format!("chaos-{number}");
        deployed.push(Deployed::in_app(api, &app, &name, &image, settings).await);
    }
    deployed
}

fn processes(cluster: &mut Cluster) -> Processes<'_> {
    Processes {
        apis: &mut cluster.apis,
        lbs: &mut cluster.lbs,
        runners: &mut cluster.runners,
        postgres: &cluster.postgres,
        broker: cluster.broker.as_ref().expect("a durable cluster"),
    }
}

/// The clients, at work: each takes the next call a while after the last one.
fn clients(
    cluster: &Cluster,
    functions: &[Deployed],
    scale: &Scale,
    state: u64,
) -> JoinSet<Vec<Account>> {
    let paths: Arc<[String]> = functions.iter().map(|func| func.path.clone()).collect();
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for number in 0..scale.clients {
        let caller = Caller {
            lb: cluster.lb(number % cluster.lbs.len()),
            api: cluster.api((number / 2) % cluster.apis.len()),
            paths: Arc::clone(&paths),
        };
        let (next, calls, longest_pause) = (Arc::clone(&next), scale.calls, scale.longest_pause);
        clients.spawn(async move {
            let mut accounts = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= calls {
                    return accounts;
                }
                let plan = Plan::of(state, number, longest_pause);
                let pause = plan.pause;
                accounts.push(caller.follow(plan).await);
                tokio::time::sleep(pause).await;
            }
        });
    }
    clients
}

/// After the last trouble: everything runs, and nothing is in flight any more, or nothing moves, or
/// the time is up. Returns how many nodes died meanwhile at a step.
async fn calm(cluster: &mut Cluster, patience: Duration) -> u32 {
    let began = Instant::now();
    let (mut revived, mut before, mut moved) = (0, String::new(), began);
    loop {
        // A step may have been deadly a moment ago.
        revived += processes(cluster).revive().await;
        let query = "SELECT (SELECT count(*) FROM calls \
             WHERE state IN ('delayed', 'queued', 'running')), \
             (SELECT count(*) FROM call_attempts), \
             (SELECT count(*) FROM call_attempts WHERE ended_at IS NULL)";
        let now = cluster.postgres.query(&cluster.database, query);
        if now.starts_with("0|") || began.elapsed() > patience || moved.elapsed() > STUCK {
            break;
        }
        if now != before {
            (before, moved) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for node in cluster.apis.iter().chain(&cluster.runners) {
        node.ready().await;
    }
    runners_are_idle(cluster).await;
    revived
}

/// Nobody has anything left to report.
async fn runners_are_idle(cluster: &Cluster) {
    for runner in &cluster.runners {
        let client = runner.client();
        eventually_within(
            Duration::from_secs(60),
            "a runner has no calls",
            async || {
                let running = client.metric("fn_running").await.unwrap_or_default();
                (running == 0.0).then_some(())
            },
        )
        .await;
    }
}

/// What is left in the store and in the broker when nothing is in flight: nothing, soon.
async fn left(cluster: &Cluster) -> Vec<(&'static str, u64)> {
    let broker = cluster.broker.as_ref().expect("a durable cluster");
    let count = || {
        let doorbells = cluster
            .postgres
            .query(&cluster.database, "SELECT count(*) FROM doorbells");
        let messages = broker.control(&["list_queues", "--no-table-headers", "messages"]);
        let messages = messages.lines().map(|line| line.trim().parse::<u64>());
        let messages: Result<u64, _> = messages.sum();
        [
            ("doorbells", doorbells.parse().expect("a number")),
            ("messages", messages.expect("numbers")),
        ]
    };
    let began = Instant::now();
    loop {
        let left = count();
        if left.iter().all(|(_, count)| *count == 0) || began.elapsed() > Duration::from_secs(20) {
            return left.into();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
