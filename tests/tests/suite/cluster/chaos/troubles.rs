//! What happens to the cluster: one trouble after the other between its nodes, and beside that one
//! after the other with its runners. Which, to whom, when and for how long is decided by the state
//! alone.

use std::collections::HashMap;
use std::time::Duration;

use hearth_tests::netns::{Cut, Host, Network};
use hearth_tests::process::Process;
use hearth_tests::random::Random;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{LBS, RUNNERS};

/// Ends troubles before their time.
#[derive(Debug, Clone, Default)]
pub(super) struct Control(watch::Sender<bool>);

impl Control {
    pub(super) fn end(&self) {
        self.0.send_replace(true);
    }

    /// Waits so long, or until the end; whether it is the end.
    async fn pause(&self, time: Duration) -> bool {
        let mut over = self.0.subscribe();
        timeout(time, over.wait_for(|over| *over)).await.is_ok()
    }
}

/// What can be wrong between two nodes.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// Nothing gets there, but back.
    CutOneWay,
    CutBothWays,
    /// Both sides see their connections end.
    Reset,
    /// One side sees them end, and the other hears nothing of it.
    HalfOpen,
}

const TROUBLES: [Trouble; 4] = [
    Trouble::CutOneWay,
    Trouble::CutBothWays,
    Trouble::Reset,
    Trouble::HalfOpen,
];

/// Troubles between nodes.
pub(super) async fn link_troubles(
    network: &Network,
    hosts: &HashMap<String, Host>,
    state: u64,
    control: Control,
) {
    let mut random = Random::of(state, u64::MAX);
    loop {
        let pause = random.millis(200, 1_200);
        let lb = format!("lb-{}", random.within(0, LBS as u64));
        let runner = format!("runner-{}", random.within(0, RUNNERS as u64));
        let api = format!("api-{}", random.within(0, 2));
        // Calls go between load balancers and runners.
        let pairs = [
            (&lb, &runner),
            (&lb, &runner),
            (&lb, &runner),
            (&lb, &api),
            (&runner, &api),
        ];
        let &(one, other) = random.one_of(&pairs);
        let (from, to) = *random.one_of(&[(one, other), (other, one)]);
        let trouble = *random.one_of(&TROUBLES);
        let lasts = match trouble {
            Trouble::Reset => Duration::ZERO,
            Trouble::HalfOpen => random.millis(100, 400),
            Trouble::CutOneWay | Trouble::CutBothWays => random.millis(100, 4_000),
        };
        if control.pause(pause).await {
            return;
        }
        println!("{trouble:?} from {from} to {to} for {lasts:?}");
        let (from, to) = (&hosts[from], &hosts[to]);
        let cut = |from: &Host, to: &Host| network.cut(from.address(), to.address());
        let cuts: Vec<Cut> = match trouble {
            Trouble::CutOneWay => vec![cut(from, to)],
            Trouble::CutBothWays => vec![cut(from, to), cut(to, from)],
            Trouble::Reset => {
                from.reset_connections(to.address());
                Vec::new()
            }
            Trouble::HalfOpen => {
                let cut = cut(from, to);
                from.reset_connections(to.address());
                vec![cut]
            }
        };
        control.pause(lasts).await;
        drop(cuts);
    }
}

/// Troubles with runners. All run at the end.
pub(super) async fn runner_troubles(runners: &mut [Process], state: u64, control: Control) {
    let mut random = Random::of(state, u64::MAX - 1);
    loop {
        let pause = random.millis(1_000, 4_000);
        let at = usize::try_from(random.within(0, runners.len() as u64)).expect("a place");
        let dies = random.within(0, 3) == 0;
        let lasts = match dies {
            true => random.millis(0, 2_000),
            false => random.millis(50, 6_000),
        };
        if control.pause(pause).await {
            return;
        }
        let runner = &mut runners[at];
        if dies {
            println!("runner-{at} is killed, and started after {lasts:?}");
            runner.kill();
            control.pause(lasts).await;
            runner.start().await;
        } else {
            println!("runner-{at} hangs for {lasts:?}");
            runner.signal(Signal::STOP);
            control.pause(lasts).await;
            runner.signal(Signal::CONT);
        }
    }
}
