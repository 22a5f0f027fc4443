//! A node of this process, from its settings to its end.

mod agent;
mod in_process;
mod listener;
mod up;

use std::sync::Arc;

use async_trait::async_trait;
use domain::IdSource;
use nodekit::http_server;
use nodekit::metrics::Metrics;
use nodekit::readiness::Readiness;
use nodekit::request_id::RequestIds;
use nodekit::shutdown::Shutdown;
use nodekit::telemetry;
use tracing::{info, warn};

use crate::configuration::{self, Configuration, ConfigurationArgs, NodeKind};

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
