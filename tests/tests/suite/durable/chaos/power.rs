//! Loss of power: everything on a machine ends at once, and of what was written to its disk only that is sure to be
//! there again which was synced. No call that was accepted may be lost, whatever else survives.
//!
//! `HEARTH_POWER_CRASHES` says how often, `HEARTH_POWER_STATE` brings back what an earlier run drew by lot
//! (`tests/power-loss` runs the long form).
//!
//! That the test bites is tested too: without syncs it finds lost calls.

mod machine;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hearth_tests::ledger::Ledger;
use hearth_tests::random::Random;
use hearth_tests::{Deployed, engine, eventually_within, random};
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};

use super::books;
use super::clients::{Account, Caller, Told};
use super::judge::{self, Evidence};
use super::natures::FUNCTIONS;
use super::plan::Plan;
use super::table;
use machine::{Count, Machine, Software, Syncs};

const CLIENTS: usize = 16;
/// How long calls may go on after the last loss of power.
const PATIENCE: Duration = Duration::from_secs(600);
/// How soon calls have to be accepted when the machine is there again.
const SOON: Duration = Duration::from_secs(60);

/// What is done.
#[derive(Debug, Clone, Copy)]
struct Scale {
    software: Software,
    syncs: Syncs,
    crashes: u64,
    /// How many calls are accepted between two losses of power, at least.
    calls: (u64, u64),
    /// Of a hundred pages that were not synced, so many survive; one of these.
    survivors: &'static [u64],
}

impl Scale {
    fn of(software: Software) -> Self {
        let crashes = std::env::var("HEARTH_POWER_CRASHES");
        let crashes = crashes.map_or(3, |number| number.parse().expect("a number"));
        Self {
            software,
            syncs: Syncs::Heeded,
            crashes,
            calls: (20, 150),
            survivors: &[0, 30, 90],
        }
    }

    /// As the others, but that a loss of power takes all with it which was not synced: what is left is
    /// old, and not broken.
    fn without(syncs: Syncs, software: Software) -> Self {
        Self {
            syncs,
            crashes: 1,
            survivors: &[0],
            ..Self::of(software)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_accepted_call_is_lost_when_power_is() {
    holds(Scale::of(Software::Cluster)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_accepted_call_of_a_single_node_is_lost_when_power_is() {
    holds(Scale::of(Software::Single)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_fsync_is_found() {
    bites(Scale::without(Syncs::Omitted, Software::Cluster)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_ignores_syncs_is_found() {
    bites(Scale::without(Syncs::Ignored, Software::Single)).await;
}

async fn holds(scale: Scale) {
    let (evidence, count) = run(scale).await;
    println!("{}", table::table(&evidence, &count));
    let faults = evidence.faults();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // Else nothing was tried.
    let accepted = accepted(&evidence.accounts);
    assert!(accepted >= scale.crashes * scale.calls.0, "{accepted}");
}

async fn bites(scale: Scale) {
    let (evidence, _) = run(scale).await;
    let faults = evidence.faults();
    let lost = faults.iter().filter(|fault| fault.contains("is lost"));
    let (lost, accepted) = (lost.count(), accepted(&evidence.accounts));
    println!("{lost} of {accepted} accepted calls are lost");
    assert!(lost > 0, "{}", faults.join("\n"));
}

fn accepted(accounts: &[Account]) -> u64 {
    let accepted = |account: &&Account| matches!(account.told, Told::Accepted(_));
    accounts.iter().filter(accepted).count() as u64
}

/// What clients are told about the machine, and tell about their calls.
#[derive(Debug, Clone)]
struct Board {
    /// Whether there is a machine, or none for ever.
    power: watch::Sender<Power>,
    /// How many calls were accepted.
    accepted: watch::Sender<u64>,
    next: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    Off,
    Over,
}

/// Runs everything, and gathers what there is to know in the end.
async fn run(scale: Scale) -> (Evidence, Count) {
    let state = random::state("HEARTH_POWER_STATE");
    println!("HEARTH_POWER_STATE={state}");
    let mut random = Random::of(state, u64::MAX);
    let began = Instant::now();
    let mut machine = Machine::start(scale.software, scale.syncs).await;
    if let Some(cluster) = machine.cluster() {
        let broker = cluster.broker.as_ref().expect("it is durable");
        block_in_place(|| broker.note_queues());
        // The database was made without syncs, so that it is made fast.
        machine.disk.settle();
    }
    let ledger = Ledger::start(engine::outside()).await;
    let functions = super::deploy(&machine.api(), &ledger).await;
    if scale.syncs != Syncs::Heeded {
        // The functions are there; it is calls that are lost.
        machine.disk.settle();
    }
    if scale.syncs == Syncs::Ignored {
        machine.disk.lie();
    }

    println!("{:?}: all is there", began.elapsed());
    let board = Board {
        power: watch::Sender::new(Power::On),
        accepted: watch::Sender::new(0),
        next: Arc::default(),
    };
    let clients = clients(&machine, &functions, &board, state);
    let mut count = Count::new();
    for number in 1..=scale.crashes {
        some_are_accepted(&board, random.within(scale.calls.0, scale.calls.1)).await;
        // In the middle of whatever it is.
        tokio::time::sleep(random.millis(0, 300)).await;
        board.power.send_replace(Power::Off);
        let accepted = *board.accepted.borrow();
        let survivors = *random.one_of(scale.survivors);
        println!(
            "power is lost for the {number}. time, after {accepted} calls; {survivors} % survive"
        );
        block_in_place(|| machine.stop());
        machine.resume(&mut random, survivors, &mut count).await;
        *count.entry("power was lost").or_default() += 1;
        println!("{:?}: the machine is there again", began.elapsed());
        board.power.send_replace(Power::On);
    }
    some_are_accepted(&board, scale.calls.0).await;
    board.power.send_replace(Power::Over);
    let accounts: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    println!("{:?}: all calls are handed in", began.elapsed());
    eventually_within(PATIENCE, "all calls are over", async || {
        machine.is_calm().await.then_some(())
    })
    .await;
    println!("{:?}: all calls are over", began.elapsed());
    let first = books::read(&[machine.api()], &functions).await;
    eventually_within(SOON, "nothing is left to report", async || {
        (machine.running().await == 0.0).then_some(())
    })
    .await;
    let second = books::read(&[machine.api()], &functions).await;
    let left = match machine.cluster() {
        Some(cluster) => super::left(cluster).await,
        None => Vec::new(),
    };
    let evidence = Evidence {
        accounts,
        first,
        second,
        executions: judge::executions(&ledger.lines()),
        left,
        natures: judge::natures(&functions, &FUNCTIONS),
    };
    (evidence, count)
}

/// Waits until so many more calls are accepted.
async fn some_are_accepted(board: &Board, calls: u64) {
    let mut accepted = board.accepted.subscribe();
    let enough = *accepted.borrow() + calls;
    let reached = accepted.wait_for(|accepted| *accepted >= enough);
    let reached = tokio::time::timeout(SOON, reached).await;
    reached.expect("calls are accepted").expect("a board");
}

/// The clients, at work: each takes the next call as soon as the last one is answered, while
/// there is a machine.
fn clients(
    machine: &Machine,
    functions: &[Deployed],
    board: &Board,
    state: u64,
) -> JoinSet<Vec<Account>> {
    let caller = Caller {
        lb: machine.lb(),
        api: machine.api(),
        paths: functions.iter().map(|func| func.path.clone()).collect(),
    };
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (caller, board) = (caller.clone(), board.clone());
        clients.spawn(async move {
            let mut accounts = Vec::new();
            let mut power = board.power.subscribe();
            loop {
                let there = power.wait_for(|power| *power != Power::Off).await;
                if *there.expect("a board") == Power::Over {
                    return accounts;
                }
                let number = board.next.fetch_add(1, Ordering::Relaxed);
                let account = caller.follow(Plan::of(state, number, 1).light()).await;
                if matches!(account.told, Told::Accepted(_)) {
                    board.accepted.send_modify(|accepted| *accepted += 1);
                }
                accounts.push(account);
            }
        });
    }
    clients
}
