//! A node's gRPC listener, and its way to other nodes.

use anyhow::Context as _;
use hybrid_client::config::HybridConfig;
use hybrid_client::{ApiNode, ApiNodes, RemoteSettings};
use nodekit::config::{GrpcConfig, NodeConfig};
use nodekit::grpc_channel::{GrpcChannels, PeerKind};
use nodekit::grpc_server::{Access, GrpcLimits, GrpcServer};
use nodekit::http_server::Drained;
use nodekit::shutdown::Shutdown;
use nodekit::tls::{NodeTls, Role};
use std::net::SocketAddr;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{info, warn};

/// Loads the certificates of a node of the kind `role`, if there are some, and keeps them fresh.
pub(super) fn tls(
    grpc: &GrpcConfig,
    role: Role,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<NodeTls>> {
    let tls = NodeTls::load(grpc)?;
    if let Some(tls) = &tls {
        let roles = tls.roles();
        anyhow::ensure!(
            roles.contain(role),
            "FN_NODE_CERT: the certificate is for {roles}, and not for {role}: other nodes would refuse this one"
        );
        shutdown.spawn(tls.clone().reload(shutdown.token().clone()));
    }
    Ok(tls)
}

/// The API nodes that the settings name; none if they name none.
pub(super) fn api_nodes(
    hybrid: &HybridConfig,
    grpc: &GrpcConfig,
    tls: Option<NodeTls>,
) -> anyhow::Result<Option<ApiNodes>> {
    if hybrid.runner_api_url.is_empty() {
        return Ok(None);
    }
    let channels = GrpcChannels::new(grpc, tls, Role::Api);
    let node = |url: &String| {
        let peer = channels.connect(channels.address(url)?, PeerKind::Hearth)?;
        anyhow::Ok(ApiNode {
            name: peer.address().to_string(),
            channel: peer.channel(),
        })
    };
    let nodes = hybrid
        .runner_api_url
        .iter()
        .map(node)
        .collect::<Result<_, _>>();
    let nodes = nodes.context("FN_RUNNER_API_URL")?;
    Ok(Some(ApiNodes::new(
        nodes,
        RemoteSettings::default(),
        rand::random,
    )?))
}

/// A bound listener.
pub(super) struct GrpcListener {
    server: GrpcServer,
}

impl GrpcListener {
    /// Binds where the settings say.
    pub(super) async fn bind(
        node: &NodeConfig,
        grpc: &GrpcConfig,
        tls: Option<NodeTls>,
    ) -> anyhow::Result<Self> {
        let address = SocketAddr::from((node.bind_address, grpc.grpc_port));
        let server = GrpcServer::bind(address, GrpcLimits::new(node, grpc), tls)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        Ok(Self { server })
    }

    /// The address that is bound.
    pub(super) fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Serves of `routes` what `access` lets in.
    pub(super) fn serve(self, routes: Routes, access: Access) -> GrpcServing {
        info!(grpc_address = %self.address(), "listening");
        let end = CancellationToken::new();
        GrpcServing {
            serving: tokio::spawn(self.server.serve(routes, access, end.clone())),
            end,
        }
    }
}

/// A listener that serves.
pub(super) struct GrpcServing {
    end: CancellationToken,
    serving: JoinHandle<Drained>,
}

impl GrpcServing {
    /// Sends the peers elsewhere, and finishes the calls that there are.
    pub(super) async fn stop(self) {
        self.end.cancel();
        match self.serving.await {
            Ok(drained) if drained.aborted > 0 => {
                warn!(drained.aborted, "gRPC connections were cut off");
            }
            Ok(_) => {}
            Err(error) => warn!(%error, "the gRPC listener failed"),
        }
    }
}
