//! What happens to the cluster: one trouble after the other with its processes, and beside that one
//! after the other between them. Which, to whom, when and for how long is decided by the state alone.

use std::collections::BTreeMap;
use std::time::Duration;

use hearth_tests::Cluster;
use hearth_tests::broker::Broker;
use hearth_tests::netns::{Cut, Host, Network};
use hearth_tests::postgres::Cluster as Postgres;
use hearth_tests::process::Process;
use hearth_tests::random::Random;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::timeout;

/// How often each trouble happened, by its name.
pub(super) type Count = BTreeMap<&'static str, u32>;

/// Ends troubles before their time.
#[derive(Debug, Clone, Default)]
pub(super) struct Control(watch::Sender<bool>);

impl Control {
    pub(super) fn end(&self) {
        self.0.send_replace(true);
    }

    /// Waits for the end.
    pub(super) async fn over(&self) {
        // Whoever waits has a sender itself.
        let _ = self.0.subscribe().wait_for(|over| *over).await;
    }

    /// Waits so long, or until the end; whether it is the end.
    pub(super) async fn pause(&self, time: Duration) -> bool {
        let mut over = self.0.subscribe();
        timeout(time, over.wait_for(|over| *over)).await.is_ok()
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Severity {
    /// What happens to processes; what is there twice happens twice as often.
    pub(super) troubles: &'static [(Victim, Trouble)],
    /// Whether links are cut, too.
    pub(super) links: bool,
    /// Milliseconds between two troubles with processes.
    pub(super) pause: (u64, u64),
    /// No process stands still for longer, in milliseconds; more than a lease.
    pub(super) longest_halt: u64,
    /// No process that was killed stays away for longer, in milliseconds.
    pub(super) longest_absence: u64,
}

/// Who is in trouble; of nodes, one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Victim {
    Api,
    Lb,
    Runner,
    Postgres,
    Broker,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// `kill -9`.
    Dies,
    /// It stands still, and goes on.
    Halts,
    /// It stands still, and then it is killed: what it was sent meanwhile is lost.
    Drowns,
    /// The broker takes no messages.
    Blocks,
}

/// Everything, and most often what is most often in the middle of something.
pub(super) const EVERYTHING: &[(Victim, Trouble)] = &[
    (Victim::Api, Trouble::Dies),
    (Victim::Api, Trouble::Dies),
    (Victim::Api, Trouble::Dies),
    (Victim::Api, Trouble::Halts),
    (Victim::Lb, Trouble::Dies),
    (Victim::Lb, Trouble::Halts),
    (Victim::Runner, Trouble::Dies),
    (Victim::Runner, Trouble::Dies),
    (Victim::Runner, Trouble::Dies),
    (Victim::Runner, Trouble::Halts),
    (Victim::Runner, Trouble::Halts),
    (Victim::Postgres, Trouble::Dies),
    (Victim::Postgres, Trouble::Halts),
    (Victim::Postgres, Trouble::Drowns),
    (Victim::Broker, Trouble::Dies),
    (Victim::Broker, Trouble::Drowns),
    (Victim::Broker, Trouble::Halts),
    (Victim::Broker, Trouble::Blocks),
];

/// The processes of a cluster.
pub(super) struct Processes<'a> {
    pub(super) apis: &'a mut [Process],
    pub(super) lbs: &'a mut [Process],
    pub(super) runners: &'a mut [Process],
    pub(super) postgres: &'a Postgres,
    pub(super) broker: &'a Broker,
}

/// Troubles with processes; all run at the end. Ends when `control` says so, and not before
/// `kills` processes have died.
pub(super) async fn process_troubles(
    mut processes: Processes<'_>,
    severity: Severity,
    kills: u32,
    state: u64,
    control: Control,
) -> Count {
    let mut random = Random::of(state, u64::MAX - 1);
    let mut count = Count::new();
    loop {
        let pause = random.millis(severity.pause.0, severity.pause.1);
        let &(victim, trouble) = random.one_of(severity.troubles);
        let at = usize::from(random.within(0, 2) == 1);
        let lasts = match trouble {
            Trouble::Dies => random.millis(0, severity.longest_absence),
            Trouble::Halts | Trouble::Drowns | Trouble::Blocks => {
                random.millis(100, severity.longest_halt)
            }
        };
        let deaths = count.get("killed").copied().unwrap_or_default();
        let is_over = control.pause(pause).await;
        let own = processes.revive().await;
        *count.entry("died at a step").or_default() += own;
        if is_over && deaths >= kills {
            return count;
        }
        let name = match trouble {
            Trouble::Dies | Trouble::Drowns => "killed",
            Trouble::Halts => "halted",
            Trouble::Blocks => "blocked",
        };
        println!("{victim:?} {at}: {trouble:?} for {lasts:?}");
        *count.entry(name).or_default() += 1;
        processes.suffer(victim, at, trouble, lasts).await;
    }
}

impl Processes<'_> {
    async fn suffer(&mut self, victim: Victim, at: usize, trouble: Trouble, lasts: Duration) {
        let wait = tokio::time::sleep(lasts);
        match (victim, trouble) {
            (Victim::Api, _) => node(&mut self.apis[at], trouble, lasts).await,
            (Victim::Lb, _) => node(&mut self.lbs[at], trouble, lasts).await,
            (Victim::Runner, _) => node(&mut self.runners[at], trouble, lasts).await,
            (Victim::Postgres, Trouble::Dies) => {
                block_in_place(|| self.postgres.kill());
                wait.await;
                block_in_place(|| self.postgres.resume());
            }
            (Victim::Postgres, Trouble::Drowns) => {
                self.postgres.freeze();
                wait.await;
                block_in_place(|| self.postgres.kill());
                block_in_place(|| self.postgres.resume());
            }
            (Victim::Postgres, _) => {
                self.postgres.freeze();
                wait.await;
                self.postgres.thaw();
            }
            (Victim::Broker, Trouble::Dies) => {
                self.broker.kill();
                wait.await;
                block_in_place(|| self.broker.resume());
            }
            (Victim::Broker, Trouble::Drowns) => {
                self.broker.freeze();
                wait.await;
                self.broker.kill();
                block_in_place(|| self.broker.resume());
            }
            (Victim::Broker, Trouble::Halts) => {
                self.broker.freeze();
                wait.await;
                self.broker.thaw();
            }
            (Victim::Broker, Trouble::Blocks) => {
                let memory = |limit: &[&str]| {
                    let command = [&["set_vm_memory_high_watermark"], limit].concat();
                    block_in_place(|| self.broker.control(&command));
                };
                memory(&["0.0000001"]);
                wait.await;
                memory(&["absolute", "4GB"]);
            }
        }
    }

    /// Starts the nodes that have ended by themselves; returns how many.
    pub(super) async fn revive(&mut self) -> u32 {
        let mut revived = 0;
        let nodes = self.apis.iter_mut().chain(&mut *self.lbs);
        for node in nodes.chain(&mut *self.runners) {
            if node.has_ended() {
                println!("a {} has died, and is started", node.kind());
                node.start_somehow().await;
                revived += 1;
            }
        }
        revived
    }
}

async fn node(node: &mut Process, trouble: Trouble, lasts: Duration) {
    // It may have died by itself.
    if node.has_ended() {
        return node.start_somehow().await;
    }
    if trouble == Trouble::Dies {
        node.kill();
        tokio::time::sleep(lasts).await;
        return node.start_somehow().await;
    }
    node.signal(Signal::STOP);
    tokio::time::sleep(lasts).await;
    node.signal(Signal::CONT);
}

/// What can be wrong between two places.
#[derive(Debug, Clone, Copy)]
enum LinkTrouble {
    /// Nothing gets there, but back.
    CutOneWay,
    CutBothWays,
    /// The connections of one side end.
    Reset,
}

/// The places of a cluster with addresses.
pub(super) struct Links {
    network: Network,
    hosts: std::collections::HashMap<String, Host>,
    servers: std::collections::HashMap<&'static str, std::net::Ipv4Addr>,
}

impl Links {
    pub(super) fn of(cluster: &Cluster, network: &Network) -> Self {
        Self {
            network: network.clone(),
            hosts: cluster.hosts.clone(),
            servers: cluster.servers.clone(),
        }
    }

    fn address(&self, place: &str) -> std::net::Ipv4Addr {
        match self.servers.get(place) {
            Some(address) => *address,
            None => self.hosts[place].address(),
        }
    }

    /// Troubles between places.
    pub(super) async fn troubles(&self, state: u64, control: Control) -> Count {
        let mut random = Random::of(state, u64::MAX);
        let mut count = Count::new();
        loop {
            let pause = random.millis(300, 2_500);
            let mut numbered = |kind: &str| format!("{kind}-{}", random.within(0, 2));
            let (api, lb, runner) = (numbered("api"), numbered("lb"), numbered("runner"));
            // A call's whole way leads through these; the first place is a node's.
            let (from, to) = random
                .one_of(&[
                    (lb.as_str(), api.as_str()),
                    (&runner, &api),
                    (&runner, &api),
                    (&api, "postgres"),
                    (&api, "broker"),
                ])
                .to_owned();
            let trouble = *random.one_of(&[
                LinkTrouble::CutOneWay,
                LinkTrouble::CutBothWays,
                LinkTrouble::Reset,
            ]);
            let turned = random.within(0, 2) == 0;
            let lasts = match trouble {
                LinkTrouble::Reset => Duration::ZERO,
                LinkTrouble::CutOneWay | LinkTrouble::CutBothWays => random.millis(100, 4_000),
            };
            if control.pause(pause).await {
                return count;
            }
            println!("{trouble:?} between {from} and {to} for {lasts:?}");
            let name = match trouble {
                LinkTrouble::CutOneWay => "cut one way",
                LinkTrouble::CutBothWays => "cut",
                LinkTrouble::Reset => "reset",
            };
            *count.entry(name).or_default() += 1;
            let (one, other) = (self.address(from), self.address(to));
            let cuts: Vec<Cut> = match trouble {
                LinkTrouble::CutOneWay if turned => vec![self.network.cut(other, one)],
                LinkTrouble::CutOneWay => vec![self.network.cut(one, other)],
                LinkTrouble::CutBothWays => {
                    vec![self.network.cut(one, other), self.network.cut(other, one)]
                }
                LinkTrouble::Reset => {
                    self.hosts[from].reset_connections(other);
                    Vec::new()
                }
            };
            control.pause(lasts).await;
            drop(cuts);
        }
    }
}
