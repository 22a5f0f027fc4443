//! A node's HTTP listener.

use anyhow::Context as _;
use nodekit::config::NodeConfig;
use nodekit::http_server::{self, HttpServer, HttpService};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A listener that serves.
pub(super) struct Listener {
    end: CancellationToken,
    serving: JoinHandle<http_server::Drained>,
}

impl Listener {
    /// Serves `service` where the settings say.
    pub(super) async fn start<S: HttpService>(
        node: &NodeConfig,
        service: S,
    ) -> anyhow::Result<Self> {
        let server = HttpServer::bind(
            (node.bind_address, node.port).into(),
            http_server::Limits::new(node),
        )
        .await
        .with_context(|| format!("cannot listen on {}:{}", node.bind_address, node.port))?;
        info!(address = %server.local_addr(), "listening");
        let end = CancellationToken::new();
        let serving = tokio::spawn(server.serve(service, end.clone()));
        Ok(Self { end, serving })
    }

    /// Accepts nothing more, and finishes the requests that there are.
    pub(super) async fn stop(self) {
        self.end.cancel();
        match self.serving.await {
            Ok(drained) if drained.aborted > 0 => {
                warn!(drained.aborted, "connections were cut off");
            }
            Ok(_) => {}
            Err(error) => warn!(%error, "the listener failed"),
        }
    }
}
