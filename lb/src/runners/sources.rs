//! Where runners are found: a list, DNS, their registration, and the nodes that an operator added.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{ApiError, HostPort, RegisteredRunner};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::table::Shared;

/// How often names are resolved, and the stored nodes are read.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The longest time for one look.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// The registered runners as they change: the whole list each time, none before it is known. The
/// last list stays when nobody can be asked.
pub type DirectoryWatch = watch::Receiver<Option<Arc<[RegisteredRunner]>>>;

/// Knows which runners are registered.
pub trait RunnerDirectory: Send + Sync + 'static {
    /// The list, from now on.
    fn runners(&self) -> DirectoryWatch;
}

/// Keeps the nodes that operators add through the management API.
#[async_trait]
pub trait NodeStore: Send + Sync + 'static {
    /// All of them.
    async fn list(&self) -> Result<Vec<HostPort>, ApiError>;
    /// Adds one; one that is there stays.
    async fn add(&self, node: &HostPort) -> Result<(), ApiError>;
    /// Removes one; one that is not there is gone.
    async fn remove(&self, node: &HostPort) -> Result<(), ApiError>;
}

/// All places where runners are found.
#[derive(Default)]
pub struct Sources {
    /// Runners that are always there.
    pub addresses: Vec<HostPort>,
    /// Names of which each address is a runner.
    pub names: Vec<HostPort>,
    /// Where runners register.
    pub directory: Option<Arc<dyn RunnerDirectory>>,
    /// Where operators add them.
    pub nodes: Option<Arc<dyn NodeStore>>,
}

/// Names a source in the roster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    List,
    Name(HostPort),
    Nodes,
    Directory,
}

/// Runners of one source: by address, the name of the process if it is known.
pub(super) type Found = BTreeMap<HostPort, Option<Arc<str>>>;

fn unnamed(addresses: impl IntoIterator<Item = HostPort>) -> Found {
    addresses
        .into_iter()
        .map(|address| (address, None))
        .collect()
}

impl Sources {
    /// Starts to tell `shared` what is found, until its end.
    pub(super) fn start(self, shared: &Arc<Shared>) {
        shared.found(Source::List, unnamed(self.addresses));
        for name in self.names {
            let shared = Arc::clone(shared);
            let tasks = shared.tasks.clone();
            tasks.spawn(async move {
                let stop = shared.stop.clone();
                stop.run_until_cancelled(follow_name(&shared, name)).await
            });
        }
        if let Some(directory) = self.directory {
            let shared = Arc::clone(shared);
            let tasks = shared.tasks.clone();
            tasks.spawn(async move {
                let stop = shared.stop.clone();
                stop.run_until_cancelled(follow_directory(&shared, directory.runners()))
                    .await
            });
        }
        if let Some(nodes) = self.nodes {
            let shared = Arc::clone(shared);
            let tasks = shared.tasks.clone();
            let stop: CancellationToken = shared.stop.clone();
            tasks.spawn(async move {
                stop.run_until_cancelled(follow_nodes(&shared, &*nodes))
                    .await
            });
        }
    }
}

/// Resolves a name again and again. What it was last stays when it cannot be resolved.
async fn follow_name(shared: &Arc<Shared>, name: HostPort) {
    loop {
        match timeout(LOOK_TIMEOUT, shared.resolver.resolve(&name)).await {
            Ok(Ok(addresses)) => shared.found(Source::Name(name.clone()), unnamed(addresses)),
            Ok(Err(error)) => shared.look_failed(&format_args!("{name}: {error}")),
            Err(_) => shared.look_failed(&format_args!("{name}: no answer in time")),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn follow_directory(shared: &Arc<Shared>, mut list: DirectoryWatch) {
    loop {
        let runners = list.borrow_and_update().clone();
        if let Some(runners) = runners {
            // One that takes no calls is none to place calls on; those that it has go on.
            let takes_calls = runners.iter().filter(|runner| !runner.draining);
            let found = takes_calls.map(|runner| (runner.address.clone(), Some(runner.id.clone())));
            shared.found(Source::Directory, found.collect());
        }
        if list.changed().await.is_err() {
            // Whoever told is gone: the last list stays.
            return;
        }
    }
}

async fn follow_nodes(shared: &Arc<Shared>, nodes: &dyn NodeStore) {
    loop {
        match timeout(LOOK_TIMEOUT, nodes.list()).await {
            Ok(Ok(nodes)) => shared.found(Source::Nodes, unnamed(nodes)),
            Ok(Err(error)) => shared.look_failed(&format_args!("nodes: {error:?}")),
            Err(_) => shared.look_failed(&"nodes: no answer in time"),
        }
        // Whoever has just changed them wants to see it.
        let _ = timeout(LOOK_EVERY, shared.nodes_changed.notified()).await;
    }
}

/// Resolves names.
#[async_trait]
pub(super) trait Resolver: Send + Sync + 'static {
    async fn resolve(&self, name: &HostPort) -> io::Result<Vec<HostPort>>;
}

/// As the system does.
pub(super) struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &HostPort) -> io::Result<Vec<HostPort>> {
        let addresses = tokio::net::lookup_host(name.as_str()).await?;
        let parsed = addresses.filter_map(|address| HostPort::parse(&address.to_string()).ok());
        Ok(parsed.collect())
    }
}
