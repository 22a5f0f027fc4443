//! What load balancers are told of a runner's state (DESIGN 5).

use std::collections::HashMap;

use domain::SlotKey;
use futures_util::FutureExt as _;
use proto::runner_extension::{FunctionState, StateUpdate, WatchStateRequest};

use super::*;
use crate::agent::tests::function;
use crate::driver::contract::eventually;

/// A load balancer that follows a runner.
struct Follower {
    updates: Streaming<StateUpdate>,
    table: HashMap<Bytes, FunctionState>,
    last: StateUpdate,
}

impl Follower {
    async fn new(node: &Node, min_interval_ms: u32) -> Self {
        let request = WatchStateRequest { min_interval_ms };
        let updates = soon(node.extension().watch_state(request)).await;
        let mut follower = Self {
            updates: updates.expect("a stream").into_inner(),
            table: HashMap::new(),
            last: StateUpdate::default(),
        };
        assert!(follower.next().await);
        assert!(follower.last.complete);
        follower
    }

    /// Applies the next update; false at the end.
    async fn next(&mut self) -> bool {
        let Some(update) = soon(self.updates.message()).await.expect("no error") else {
            return false;
        };
        if update.complete {
            self.table.clear();
        }
        for function in &update.functions {
            if (function.idle, function.busy, function.waiting) == (0, 0, 0) {
                self.table.remove(&function.slot_key);
            } else {
                self.table
                    .insert(function.slot_key.clone(), function.clone());
            }
        }
        self.last = update;
        true
    }

    fn of(&self, name: &str) -> (u32, u32, u32) {
        let key = Bytes::copy_from_slice(function(name).slot_key.as_bytes());
        self.table
            .get(&key)
            .map_or((0, 0, 0), |state| (state.idle, state.busy, state.waiting))
    }

    async fn until(&mut self, name: &str, expected: (u32, u32, u32)) {
        while self.of(name) != expected {
            assert!(self.next().await, "the stream ended at {:?}", self.of(name));
        }
    }
}

fn direct(node: &Node) -> HashMap<Bytes, FunctionState> {
    let views = node.bench.agent.views();
    let shown = views.into_iter().filter(|(_, view)| !view.is_nothing());
    shown
        .map(|(key, view): (SlotKey, _)| {
            let key = Bytes::copy_from_slice(key.as_bytes());
            let state = FunctionState {
                slot_key: key.clone(),
                idle: view.idle as u32,
                busy: view.busy as u32,
                waiting: view.waiting as u32,
                wait_nanos: view.wait_nanos,
            };
            (key, state)
        })
        .collect()
}

#[tokio::test]
async fn a_call_is_seen_while_it_waits_runs_and_leaves_its_container() {
    let node = Node::new(1).await;
    let mut early = Follower::new(&node, 0).await;
    assert!(early.table.is_empty());
    let mut first = node.begin(try_call("f", "1", "wait")).await;
    first.input(&[]).await;
    early.until("f", (0, 1, 0)).await;
    let mut second = node.begin(try_call("f", "2", "wait")).await;
    second.input(&[]).await;
    early.until("f", (0, 1, 1)).await;
    let load = early.last.load.expect("always");
    assert_eq!((load.running, load.waiting), (1, 1));
    assert_eq!((load.memory_free_bytes, load.cpu_total_millis), (0, 1000));
    assert!(load.memory_total_bytes > 0);

    let late = Follower::new(&node, 0).await;
    assert_eq!(late.of("f"), (0, 1, 1));
    node.bench.world.release_all();
    first.answer().await;
    second.answer().await;
    early.until("f", (1, 0, 0)).await;
    let state = early.table.values().next().expect("the function");
    assert!(state.wait_nanos > 0);

    // A function that needs its room: it goes, and that is told.
    assert!(
        node.call(try_call("g", "3", "echo"), &[])
            .await
            .finished
            .success
    );
    early.until("g", (1, 0, 0)).await;
    early.until("f", (0, 0, 0)).await;
    assert_eq!(early.table.len(), 1);
    drop((early, late));
    node.end().await;
}

#[tokio::test]
async fn a_container_that_is_the_first_idle_one_is_told_without_delay() {
    let node = Node::with(
        1,
        Settings {
            // Nothing else is told in this time.
            state_interval: NEVER,
            ..settings()
        },
    )
    .await;
    let mut follower = Follower::new(&node, 0).await;
    node.call(try_call("f", "1", "echo"), &[]).await;
    follower.until("f", (1, 0, 0)).await;
    node.end().await;
}

#[tokio::test]
async fn a_heartbeat_comes_when_nothing_happens() {
    let node = Node::with(
        1,
        Settings {
            state_heartbeat: Duration::from_millis(5),
            ..settings()
        },
    )
    .await;
    let mut follower = Follower::new(&node, 0).await;
    for _ in 0..3 {
        assert!(follower.next().await);
        assert!(!follower.last.complete && follower.last.functions.is_empty());
        assert_eq!(follower.last.heartbeat_ms, 5);
    }
    node.end().await;
}

#[tokio::test]
async fn draining_is_told_at_once_and_the_stream_lasts_as_long_as_calls_do() {
    let node = Node::with(
        1,
        Settings {
            state_interval: NEVER,
            ..settings()
        },
    )
    .await;
    let mut follower = Follower::new(&node, 0).await;
    let mut call = node.begin(try_call("f", "1", "wait")).await;
    call.input(&[]).await;
    node.bench.seen("1").await;
    assert!(!follower.last.draining);
    node.bench.agent.drain();
    while !follower.last.draining {
        assert!(follower.next().await);
    }
    node.bench.world.release("1");
    assert!(call.answer().await.finished.success);
    while follower.next().await {}
    node.end().await;
}

/// Whoever applies all updates has the table of the agent, whatever happened and however slowly it
/// read.
#[tokio::test]
async fn followers_end_with_the_table_of_the_agent() {
    let node: SharedNode = Arc::new(Node::new(3).await);
    let mut followers = Vec::new();
    for interval in [0, 1, 30] {
        followers.push(Follower::new(&node, interval).await);
    }
    for round in 0..4u32 {
        let calls = (0..25u32).map(|n| {
            let node = Arc::clone(&node);
            tokio::spawn(async move {
                let choice = rand::random::<u32>();
                let function = format!("f{}", choice % 5);
                let what = ["echo", "nap", "fail", "crash", "die", "wait"][choice as usize / 5 % 6];
                let mut peer = node
                    .begin(try_call(&function, &format!("{round}-{n}"), what))
                    .await;
                let whole = !choice.is_multiple_of(3);
                peer.data("x", whole).await;
                // Some go away, anywhere.
                if whole && what != "wait" {
                    peer.answer().await;
                }
            })
        });
        // Followers read between the rounds, or during them.
        for (at, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
            soon(call).await.expect("no panic");
            if at % 7 == 0 {
                // Whatever is there by now, if anything.
                let _ = followers[at % 2].next().now_or_never();
            }
        }
    }
    eventually("no call is left", async || {
        let metrics = &node.bench.metrics;
        metrics.running.get() == 0 && metrics.queued.get() == 0
    })
    .await;
    for follower in &mut followers {
        while follower.table != direct(&node) {
            assert!(follower.next().await);
        }
    }
    drop(followers);
    let node = Arc::into_inner(node).expect("nobody else");
    node.end().await;
}

/// Who reads slowly gets the last state of each function, not all that were.
#[tokio::test]
async fn a_watcher_that_stays_away_gets_one_state_for_each_function() {
    let node = Node::new(3).await;
    let mut watcher = node.bench.agent.watch(Duration::ZERO, NEVER);
    let first = watcher.next().await.expect("not far behind");
    assert!(first.expect("an update").functions.is_empty());
    let names = ["f", "g", "h"];
    for n in 0..60 {
        let name = names[n % 3];
        node.call(try_call(name, &n.to_string(), "echo"), &[]).await;
    }
    let (mut updates, mut table) = (0, HashMap::new());
    while names
        .iter()
        .any(|name| table.get(&function(name).slot_key) != Some(&(1, 0, 0)))
    {
        let update = soon(watcher.next()).await.expect("not far behind");
        let functions = update.expect("an update").functions;
        assert!(functions.len() <= 3, "{functions:?}");
        updates += 1;
        for (key, view) in functions {
            table.insert(key, (view.idle, view.busy, view.waiting));
        }
    }
    assert!(updates <= 3, "{updates}");
    node.end().await;
}
