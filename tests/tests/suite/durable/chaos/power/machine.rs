//! A machine with Hearth on it, whose disk loses what was not synced when its power is gone.

use std::collections::BTreeMap;

use hearth_tests::cluster::Shape;
use hearth_tests::disk::Disk;
use hearth_tests::random::Random;
use hearth_tests::{Client, Cluster, Server, engine};
use tokio::task::block_in_place;

use super::super::LEASE;

/// What runs on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Software {
    /// An API node, a load balancer and a runner, on PostgreSQL and RabbitMQ.
    Cluster,
    /// `hearth up`, with its store in a file.
    Single,
}

/// What becomes of syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syncs {
    Heeded,
    /// PostgreSQL is told not to sync (`fsync=off`).
    Omitted,
    /// The disk does as if.
    Ignored,
}

/// How soon a call is rung for again of which nothing is heard.
const SILENCE: &str = "5s";

/// The machine.
pub(super) struct Machine {
    // Dropped in this order: the disk goes when nobody uses it.
    nodes: Nodes,
    pub(super) disk: Disk,
}

enum Nodes {
    Cluster(Box<Cluster>),
    Single(Box<Server>),
}

/// What happened to it, by name.
pub(super) type Count = BTreeMap<&'static str, u32>;

impl Machine {
    pub(super) async fn start(software: Software, syncs: Syncs) -> Self {
        let disk = Disk::new();
        let lease = format!("{}s", LEASE.as_secs());
        let store = format!("sqlite3://{}/data/fn.db", disk.path().display());
        let mut settings = vec![
            ("FN_CALL_LEASE", lease.as_str()),
            ("FN_CALL_SILENCE", SILENCE),
            // Containers for all functions, so that none has to go for another.
            ("FN_MAX_TOTAL_MEMORY_BYTES", "3000000000"),
        ];
        let nodes = match software {
            Software::Single => {
                settings.push(("FN_DB_URL", &store));
                Nodes::Single(Box::new(Server::start_single(&settings).await))
            }
            Software::Cluster => {
                let settings = settings.into_iter();
                let cluster = Cluster::start(Shape {
                    apis: 1,
                    lbs: 1,
                    runners: 1,
                    durable: true,
                    data: Some(disk.path().to_owned()),
                    fsync: syncs != Syncs::Omitted,
                    settings: settings
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .collect(),
                    ..Shape::default()
                });
                let cluster = cluster.await;
                // Whoever connects from now on and does not ask for more gets no more.
                let lax = "ALTER DATABASE test_0 SET synchronous_commit = off";
                cluster.postgres.query(&cluster.database, lax);
                Nodes::Cluster(Box::new(cluster))
            }
        };
        Self { nodes, disk }
    }

    pub(super) fn lb(&self) -> Client {
        match &self.nodes {
            Nodes::Cluster(cluster) => cluster.lb(0),
            Nodes::Single(server) => server.client.clone(),
        }
    }

    pub(super) fn api(&self) -> Client {
        match &self.nodes {
            Nodes::Cluster(cluster) => cluster.api(0),
            Nodes::Single(server) => server.client.clone(),
        }
    }

    pub(super) fn cluster(&self) -> Option<&Cluster> {
        match &self.nodes {
            Nodes::Cluster(cluster) => Some(cluster),
            Nodes::Single(_) => None,
        }
    }

    /// The machine has no power any more; nothing of it runs.
    pub(super) fn stop(&mut self) {
        let containers = match &mut self.nodes {
            Nodes::Cluster(cluster) => {
                cluster.postgres.kill();
                cluster.broker.as_ref().expect("it is durable").kill();
                let nodes = cluster.apis.iter_mut().chain(&mut cluster.lbs);
                for node in nodes.chain(&mut cluster.runners) {
                    node.stop_at_once();
                }
                cluster.containers()
            }
            Nodes::Single(server) => {
                server.kill();
                server.containers()
            }
        };
        engine::remove(&containers);
    }

    /// Power is back: the machine starts with what its disk has kept. Sometimes the broker is a new one.
    pub(super) async fn resume(&mut self, random: &mut Random, survivors: u64, count: &mut Count) {
        block_in_place(|| self.disk.lose_power(random, survivors));
        let cluster = match &mut self.nodes {
            Nodes::Single(server) => return server.restart().await,
            Nodes::Cluster(cluster) => cluster,
        };
        let is_replaced = random.within(0, 4) == 0;
        block_in_place(|| {
            cluster.postgres.resume_after_power_loss();
            resume_broker(cluster, is_replaced, count);
        });
        let nodes = cluster.apis.iter_mut().chain(&mut cluster.runners);
        for node in nodes.chain(&mut cluster.lbs) {
            node.start_somehow().await;
        }
        for node in cluster.apis.iter().chain(&cluster.runners) {
            node.ready().await;
        }
        for lb in &cluster.lbs {
            lb.ready().await;
            cluster.all_runners_known(lb).await;
        }
    }

    /// Whether all calls are over.
    pub(super) async fn is_calm(&self) -> bool {
        let list = "/v2/calls?status=delayed,queued,running&per_page=1";
        let page = self.api().get(list).await.expect(200).json();
        page["items"].as_array().expect("a list").is_empty()
    }

    /// How many calls the runner has.
    pub(super) async fn running(&self) -> f64 {
        let runner = match &self.nodes {
            Nodes::Cluster(cluster) => cluster.runners[0].client(),
            Nodes::Single(server) => server.client.clone(),
        };
        runner.metric("fn_running").await.unwrap_or_default()
    }
}

/// Starts the broker with what its disk has kept, or with nothing: it does not sync all of its files, and
/// may not bear to lose what it did not.
fn resume_broker(cluster: &Cluster, is_replaced: bool, count: &mut Count) {
    let broker = cluster.broker.as_ref().expect("it is durable");
    let why = if is_replaced {
        "broker was replaced by an empty one"
    } else if let Err(said) = broker.resume_if_possible() {
        let last = said.lines().rfind(|line| line.contains("Kernel pid"));
        println!("the broker does not start: {}", last.unwrap_or(&said));
        "broker did not start, and was replaced by an empty one"
    } else {
        return;
    };
    *count.entry(why).or_default() += 1;
    let rung = "SELECT count(*) FROM doorbells WHERE rung_at IS NOT NULL";
    let rung = cluster.postgres.query(&cluster.database, rung);
    let rung: u32 = rung.parse().expect("a number");
    *count.entry("messages lost with a broker").or_default() += rung;
    broker.forget_all();
    broker.resume();
}
