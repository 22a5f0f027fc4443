//! A machine with Hearth on it, whose disk loses what was not synced when its power is gone.

use std::collections::BTreeMap;

use hearth_tests::cluster::Shape;
use hearth_tests::disk::Disk;
use hearth_tests::random::Random;
use hearth_tests::{Client, Cluster, Deployed, Server, engine};
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
            ("FN_MAX_TOTAL_MEMORY_BYTES", "1000000000"),
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
                Nodes::Cluster(Box::new(cluster.await))
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

    /// Power is back: the machine starts with what its disk has kept. Sometimes the broker has lost
    /// everything.
    pub(super) async fn resume(&mut self, random: &mut Random, survivors: u64, count: &mut Count) {
        block_in_place(|| self.disk.lose_power(random, survivors));
        let cluster = match &mut self.nodes {
            Nodes::Single(server) => return server.restart().await,
            Nodes::Cluster(cluster) => cluster,
        };
        let broker = cluster.broker.as_ref().expect("it is durable");
        let is_new = random.within(0, 4) == 0;
        block_in_place(|| {
            cluster.postgres.resume_after_power_loss();
            if is_new {
                *count.entry("broker was replaced").or_default() += 1;
                broker.forget_all();
                broker.resume();
            } else if let Err(said) = broker.resume_if_possible() {
                println!("the broker does not bear what it has on disk:\n{said}");
                *count.entry("broker was broken, and replaced").or_default() += 1;
                broker.forget_all();
                broker.resume();
            }
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

    /// How many calls are not over.
    pub(super) async fn in_flight(&self, functions: &[Deployed]) -> usize {
        let mut in_flight = 0;
        for function in functions {
            let list = format!(
                "/v2/fns/{}/calls?status=delayed,queued,running&per_page=100",
                function.fn_id
            );
            let page = self.api().get(&list).await.expect(200).json();
            in_flight += page["items"].as_array().expect("a list").len();
        }
        in_flight
    }

    /// How many attempts there were, or calls that began.
    pub(super) async fn running(&self) -> f64 {
        let runner = match &self.nodes {
            Nodes::Cluster(cluster) => cluster.runners[0].client(),
            Nodes::Single(server) => server.client.clone(),
        };
        runner.metric("fn_running").await.unwrap_or_default()
    }
}
