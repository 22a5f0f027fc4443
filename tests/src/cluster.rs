//! A cluster of processes: API nodes on one PostgreSQL, load balancers, runners; on loopback, or each
//! in a host of its own.

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;

use crate::authority::Authority;
use crate::broker::Broker;
use crate::eventually::eventually;
use crate::netns::{Host, Network};
use crate::postgres::Cluster as Postgres;
use crate::process::Process;
use crate::relay::Relay;
use crate::{Client, engine};

/// How many nodes of each kind there are, and what they are told.
#[derive(Debug, Clone)]
pub struct Shape {
    /// API nodes.
    pub apis: usize,
    /// Load balancers.
    pub lbs: usize,
    /// Runners.
    pub runners: usize,
    /// Settings of every node.
    pub settings: Vec<(String, String)>,
    /// Settings of some API nodes, by their places.
    pub api_settings: Vec<(usize, String, String)>,
    /// Where each node gets a host and an address of its own; without it all are on loopback.
    pub network: Option<Network>,
    /// Who signs the nodes' certificates; without one they speak no TLS.
    pub authority: Option<Arc<Authority>>,
    /// Whether there is a RabbitMQ for the doorbells of durable calls, and the database writes to
    /// its disk.
    pub durable: bool,
    /// Where the data of the database and of the broker are, if not beside everything else; only if
    /// it is durable.
    pub data: Option<PathBuf>,
    /// Whether a durable database writes to its disk nevertheless.
    pub fsync: bool,
    /// What the nodes run, if it is not the usual binary.
    pub program: Option<PathBuf>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            apis: 2,
            lbs: 2,
            runners: 3,
            settings: Vec::new(),
            api_settings: Vec::new(),
            network: None,
            authority: None,
            durable: false,
            data: None,
            fsync: true,
            program: None,
        }
    }
}

/// A running cluster.
pub struct Cluster {
    // Dropped in this order: whoever asks goes before whoever answers, and the files at the end.
    /// The load balancers.
    pub lbs: Vec<Process>,
    /// The runners.
    pub runners: Vec<Process>,
    /// The API nodes.
    pub apis: Vec<Process>,
    /// The hosts of the nodes, by the names of their places, if there is a network.
    pub hosts: HashMap<String, Host>,
    /// The labels of the runners' containers.
    pub tags: Vec<String>,
    /// The database server of the API nodes.
    pub postgres: Postgres,
    /// Their database, by the address that it has for the test itself.
    pub database: String,
    /// Their broker.
    pub broker: Option<Broker>,
    /// Where in the network the servers are that are no nodes: `postgres` and `broker`.
    pub servers: HashMap<&'static str, Ipv4Addr>,
    /// The ways from the network to those servers, which are on loopback.
    _relays: Vec<Relay>,
    /// Where everything is.
    pub directory: TempDir,
}

impl Cluster {
    /// Starts a cluster with an empty store, and waits until every load balancer knows every runner.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(shape: Shape) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (durable, fsync) = (shape.durable, shape.fsync);
        let data = |of: &str| -> Option<PathBuf> {
            let data = shape.data.as_ref()?.join(of);
            fs::create_dir(&data).expect("a directory for data");
            Some(data)
        };
        let (of_broker, of_postgres) = (data("broker"), data("postgres"));
        let broker = tokio::task::spawn_blocking(move || match of_broker {
            Some(data) => Some(Broker::start_on(&data)),
            None => durable.then(Broker::start),
        });
        let postgres = tokio::task::spawn_blocking(move || match of_postgres {
            Some(data) => Postgres::start_on(&data, fsync),
            None if durable => Postgres::start_durable(),
            None => Postgres::start(),
        });
        let postgres = postgres.await.expect("a database server");
        let broker = broker.await.expect("a broker");
        let database = postgres.create_database();
        let mut servers = HashMap::new();
        let mut relays = Vec::new();
        let mut place_server = async |name, number, setting: &str, url: String| {
            let mut url = url;
            if let Some(network) = &shape.network {
                let (_, server) = url.split_once('@').expect("a URL");
                let server = server.split('/').next().expect("an address").to_owned();
                let address = network.another_outside(number);
                let relay = Relay::start((address, 0).into(), &server).await;
                url = url.replace(&server, &relay.address().to_string());
                servers.insert(name, address);
                relays.push(relay);
            }
            (setting.to_owned(), url)
        };
        let mut of_apis = vec![place_server("postgres", 2, "FN_DB_URL", database.clone()).await];
        if let Some(broker) = &broker {
            of_apis.push(place_server("broker", 3, "FN_MQ_URL", broker.url()).await);
        }
        let mut hosts = HashMap::new();
        let place = |name: String| -> PathBuf {
            let place = directory.path().join(name);
            fs::create_dir(&place).expect("a directory for a node");
            place
        };
        let mut node = |kind, place: &PathBuf, settings: &[(&str, &str)]| {
            let settings = settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let mut settings: Vec<_> = settings.chain(shape.settings.clone()).collect();
            if let Some(authority) = &shape.authority {
                let name = place.file_name().expect("a node has a name");
                authority.equip(place, &name.to_string_lossy(), &[authority]);
                settings.extend(Authority::settings(place));
            }
            let mut process = Process::new(kind, place, settings).keep_addresses();
            if let Some(program) = &shape.program {
                process = process.with_program(program);
            }
            let Some(network) = &shape.network else {
                return process;
            };
            let name = place.file_name().expect("a node has a name");
            let name = name.to_string_lossy().into_owned();
            let host = network.host(&name);
            let process = process.in_host(&host);
            hosts.insert(name, host);
            process
        };

        let mut apis = Vec::new();
        for at in 0..shape.apis {
            let of_all = of_apis.iter().map(|(name, value)| (name, value));
            let own = shape.api_settings.iter().filter(|(place, ..)| *place == at);
            let own = own.map(|(_, name, value)| (name, value));
            let settings: Vec<_> = of_all
                .chain(own)
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let mut api = node("api", &place(format!("api-{at}")), &settings);
            api.start().await;
            apis.push(api);
        }
        let api_url = apis
            .iter()
            .map(|api: &Process| api.grpc_address().to_owned())
            .collect::<Vec<_>>()
            .join(",");

        let (mut runners, mut tags) = (Vec::new(), Vec::new());
        for at in 0..shape.runners {
            let place = place(format!("runner-{at}"));
            let tag = format!("{}-{at}", engine::new_tag(directory.path()));
            let sockets = place.join("iofs");
            fs::create_dir(&sockets).expect("a directory for sockets");
            let mut runner = node(
                "runner",
                &place,
                &[
                    ("FN_RUNNER_API_URL", &api_url),
                    ("FN_CONTAINER_LABEL_TAG", &tag),
                    ("FN_IOFS_PATH", &sockets.display().to_string()),
                ],
            );
            runner.start().await;
            runners.push(runner);
            tags.push(tag);
        }

        let mut lbs = Vec::new();
        for at in 0..shape.lbs {
            let mut lb = node(
                "lb",
                &place(format!("lb-{at}")),
                &[("FN_RUNNER_API_URL", &api_url)],
            );
            lb.start().await;
            lbs.push(lb);
        }
        let cluster = Self {
            lbs,
            runners,
            apis,
            hosts,
            tags,
            postgres,
            database,
            broker,
            servers,
            _relays: relays,
            directory,
        };
        for node in cluster
            .apis
            .iter()
            .chain(&cluster.runners)
            .chain(&cluster.lbs)
        {
            node.ready().await;
        }
        for lb in &cluster.lbs {
            cluster.all_runners_known(lb).await;
        }
        cluster
    }

    /// Waits until a load balancer knows every runner as healthy.
    pub async fn all_runners_known(&self, lb: &Process) {
        let client = lb.client();
        eventually("the load balancer knows every runner", async || {
            let nodes = client.get("/1/lb/nodes").await.json();
            let online = nodes["nodes"].as_object()?.values();
            (online.filter(|state| *state == "online").count() == self.runners.len()).then_some(())
        })
        .await;
    }

    /// The host of the node that has this name, such as `runner-0`.
    ///
    /// # Panics
    /// Without such a node, or without a network.
    pub fn host(&self, node: &str) -> &Host {
        &self.hosts[node]
    }

    /// The address of a node or of a server, by its name.
    ///
    /// # Panics
    /// Without such a node or server, or without a network.
    pub fn address(&self, name: &str) -> Ipv4Addr {
        let server = self.servers.get(name).copied();
        server.unwrap_or_else(|| self.host(name).address())
    }

    /// Where a node keeps its files.
    pub fn place(&self, node: &str) -> PathBuf {
        self.directory.path().join(node)
    }

    /// A client of an API node.
    pub fn api(&self, at: usize) -> Client {
        self.apis[at].client()
    }

    /// A client of a load balancer.
    pub fn lb(&self, at: usize) -> Client {
        self.lbs[at].client()
    }

    /// The containers that the runners have made.
    pub fn containers(&self) -> Vec<String> {
        self.tags
            .iter()
            .flat_map(|tag| engine::containers_of(tag))
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let nodes = self
            .lbs
            .iter_mut()
            .chain(&mut self.runners)
            .chain(&mut self.apis);
        nodes.for_each(Process::stop_at_once);
        engine::remove(&self.containers());
    }
}
