//! A node of this process, from its settings to its end.

mod admin;
mod agent;
mod api;
mod calls;
mod grpc;
mod in_process;
mod lb;
mod listener;
mod rest;
mod runner;
mod up;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::IdSource;
use nodekit::admin_routes::AdminRoutes;
use nodekit::http_server;
use nodekit::metrics::Metrics;
use nodekit::readiness::Readiness;
use nodekit::request_id::RequestIds;
use nodekit::shutdown::Shutdown;
use nodekit::telemetry;
use tracing::{info, warn};

use crate::configuration::{self, Configuration, ConfigurationArgs, NodeKind};

/// How often the store, or the engine, is asked whether it answers.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// How long it may take.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);

/// What every kind of node is made with.
struct Base {
    configuration: Configuration,
    shutdown: Shutdown,
    ids: Arc<IdSource>,
    metrics: Metrics,
    readiness: Readiness,
}

impl Base {
    /// Names requests in the log, if that is asked for.
    fn request_ids(&self) -> anyhow::Result<Option<RequestIds>> {
        RequestIds::new(&self.configuration.node.rid_header).map_err(anyhow::Error::msg)
    }

    /// A new name for something of this node.
    fn new_id(&self) -> Arc<str> {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock before 1970 costs the ids their order and nothing else.
        let millis = since_epoch.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
        self.ids.next(millis)
    }

    /// The node is ready only while `check` succeeds, and until it is told to stop.
    fn watch<F, E>(&self, name: &'static str, check: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Debug + Send + 'static,
    {
        let stop = self.shutdown.token().clone();
        let condition = self.readiness.condition(name);
        self.shutdown
            .spawn(condition.watch(HEALTH_INTERVAL, HEALTH_PATIENCE, stop, check));
    }

    /// The paths that every node has. From now on nothing registers metrics any more.
    fn admin_routes(&mut self) -> AdminRoutes {
        let (readiness, stop) = (self.readiness.clone(), self.shutdown.token().clone());
        let metrics = Arc::new(std::mem::take(&mut self.metrics));
        AdminRoutes::new(metrics, move || {
            readiness.is_ready() && !stop.is_cancelled()
        })
    }
}

/// A node that serves.
#[async_trait]
trait Running: Send {
    /// Refuses what is new, finishes what runs, and ends.
    async fn stop(self: Box<Self>);
}

/// Runs a node until the process is told to stop.
pub(crate) async fn run(kind: Option<NodeKind>, from: &ConfigurationArgs) -> anyhow::Result<()> {
    let configuration = configuration::load(from)?;
    telemetry::init(&configuration.node)?;
    for name in configuration.effective.ignored() {
        warn!(
            name,
            "the environment has a setting that this version does not know"
        );
    }
    let shutdown = Shutdown::new();
    shutdown.on_signals()?;
    http_server::raise_open_files_limit();
    let kind = kind.unwrap_or(configuration.kind);
    let base = Base {
        configuration,
        shutdown: shutdown.clone(),
        ids: Arc::new(IdSource::new(rand::random())),
        metrics: Metrics::new(),
        readiness: Readiness::new(),
    };
    let starting = async {
        anyhow::Ok(match kind {
            NodeKind::Full => Box::new(up::start(base).await?) as Box<dyn Running>,
            NodeKind::Api => Box::new(api::start(base).await?),
            NodeKind::Runner => Box::new(runner::start(base).await?),
            NodeKind::Lb => Box::new(lb::start(base).await?),
        })
    };
    let node = tokio::select! {
        node = starting => node?,
        // Whatever was started ends with the process.
        () = shutdown.token().cancelled() => return Ok(()),
    };
    shutdown.token().cancelled().await;
    node.stop().await;
    info!("stopped");
    Ok(())
}
