//! Random interleavings of whatever may happen to an agent: calls of several functions for too
//! little room, clients that go away at any point, crashes, failing and slow starts, freezes that
//! fail, idle time-outs.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::driver::ContainerSpec;

/// When a client goes away.
#[derive(Debug, Clone, Copy)]
enum Patience {
    /// Never.
    Endless,
    /// After this many wake-ups of its call.
    Wakes(usize),
    /// With the head of the answer.
    Head,
}

#[derive(Debug, Clone)]
struct Arrival {
    function: usize,
    what: &'static str,
    patience: Patience,
    detached: bool,
    /// The wait for a container may not take longer.
    wait: Duration,
    /// Before the next one.
    pause: Duration,
}

#[derive(Debug, Clone)]
struct Plan {
    arrivals: Vec<Arrival>,
    freeze_idle: Option<Duration>,
    non_blocking: bool,
    /// Decides which steps of the driver fail or take long.
    seed: u64,
    /// Closes the agent while calls run.
    cut_off: bool,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let patience = prop_oneof![
        6 => Just(Patience::Endless),
        3 => (0usize..6).prop_map(Patience::Wakes),
        1 => Just(Patience::Head),
    ];
    let what = prop_oneof![
        8 => select(vec!["echo", "nap", "stream"]),
        2 => select(vec!["fail", "invalid", "crash", "die"]),
    ];
    let wait = prop_oneof![1 => 0u64..5, 4 => Just(20_000)].prop_map(Duration::from_millis);
    let pause = prop_oneof![4 => Just(0u64), 1 => 0u64..3000].prop_map(Duration::from_micros);
    (
        0usize..4,
        what,
        patience,
        prop::bool::weighted(0.1),
        wait,
        pause,
    )
        .prop_map(
            |(function, what, patience, detached, wait, pause)| Arrival {
                function,
                what,
                patience,
                detached,
                wait,
                pause,
            },
        )
}

fn plan() -> impl Strategy<Value = Plan> {
    let freeze = prop_oneof![Just(None), Just(Some(Duration::ZERO))];
    (
        prop::collection::vec(arrival(), 1..80),
        freeze,
        any::<bool>(),
        any::<u64>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(arrivals, freeze_idle, non_blocking, seed, cut_off)| Plan {
                arrivals,
                freeze_idle,
                non_blocking,
                seed,
                cut_off,
            },
        )
}

/// The same choices for the same seed, if they are made in the same order.
struct Choices(AtomicU64);

impl Choices {
    fn next(&self) -> u64 {
        // SplitMix64.
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Most steps succeed at once.
    fn step(&self) -> Step {
        match self.next() % 12 {
            0 => Step::Fail(Duration::ZERO, ErrorCode::Internal.into()),
            1 => Step::Fail(Duration::from_millis(2), ErrorCode::Internal.into()),
            2 | 3 => Step::Succeed(Duration::from_millis(2)),
            _ => Step::OK,
        }
    }
}

/// A client of one call. Answers whether it stayed to the end.
async fn client(agent: Agent, call: CallRequest, patience: Patience) -> bool {
    let mut submit = std::pin::pin!(agent.submit(call));
    let mut wakes = 0;
    let ended = std::future::poll_fn(|cx| {
        let polled = submit.as_mut().poll(cx).map(Some);
        wakes += 1;
        match (polled, patience) {
            (std::task::Poll::Pending, Patience::Wakes(most)) if wakes > most => {
                std::task::Poll::Ready(None)
            }
            (polled, _) => polled,
        }
    });
    match (ended.await, patience) {
        (None, _) | (Some(Ok(_)), Patience::Head) => false,
        (Some(Ok(response)), _) => {
            // It may break, but it ends.
            let _ = response.body.collect().await;
            true
        }
        (Some(Err(_)), _) => true,
    }
}

async fn play(plan: Plan) {
    let bench = Bench::with(
        3,
        Settings {
            freeze_idle: plan.freeze_idle,
            non_blocking_resources: plan.non_blocking,
            hot_poll: Duration::from_millis(5),
            hot_start_timeout: Some(Duration::from_millis(50)),
            hot_launcher_timeout: Some(Duration::ZERO),
            ..settings()
        },
    );
    // Streams flow to their end at once.
    bench.world.release_all();
    let choices = Arc::new(Choices(AtomicU64::new(plan.seed)));
    bench.script(|script| {
        let of_container = || {
            let choices = Arc::clone(&choices);
            Arc::new(move |_: &ContainerSpec| choices.step())
        };
        (script.create, script.start) = (of_container(), of_container());
        (script.freeze, script.thaw) = (of_container(), of_container());
        script.prepare_image = Arc::new(move |_| choices.step());
    });
    // The last two need more room, idle out at once, or start badly.
    let functions = [
        function("f0"),
        starting("f1", "slow"),
        Target::new(FnSpec {
            memory_mb: 2 * MEMORY_MB,
            idle_timeout: Duration::from_millis(1),
            ..spec("f2")
        }),
        starting("f3", "moody"),
    ];
    let mut calls = Vec::new();
    for (n, arrival) in plan.arrivals.iter().enumerate() {
        let call = CallRequest {
            detached: arrival.detached,
            wait_deadline: Some(Instant::now() + arrival.wait),
            ..call(&functions[arrival.function], &n.to_string(), arrival.what)
        };
        calls.push(tokio::spawn(client(
            bench.agent.clone(),
            call,
            arrival.patience,
        )));
        if arrival.pause.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(arrival.pause).await;
        }
        if n % 16 == 15 {
            bench.agent.shared.retire_functions();
        }
    }
    if plan.cut_off {
        soon(bench.agent.close()).await;
    }
    let mut stayed = 0;
    for call in calls {
        stayed += u64::from(soon(call).await.expect("no panic"));
    }
    let metrics = &bench.metrics;
    soon(async {
        bench.agent.drain();
        bench.agent.drained().await
    })
    .await;
    // Each call has one outcome.
    let outcomes = [
        &metrics.completed,
        &metrics.canceled,
        &metrics.timeouts,
        &metrics.errors,
        &metrics.server_busy,
    ];
    let outcomes: u64 = outcomes.into_iter().map(|counter| counter.get()).sum();
    assert_eq!(
        (metrics.calls.get(), outcomes),
        (plan.arrivals.len() as u64, plan.arrivals.len() as u64)
    );
    assert!(metrics.canceled.get() <= plan.arrivals.len() as u64 - stayed);
    bench.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// Nothing hangs, no container has two calls, and nothing is left at the end.
    #[test]
    fn whatever_happens_nothing_is_lost_and_nothing_is_left(plan in plan(), threads in 1usize..3) {
        let runtime = match threads {
            1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
            threads => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
        };
        runtime.expect("a runtime").block_on(play(plan));
    }
}
