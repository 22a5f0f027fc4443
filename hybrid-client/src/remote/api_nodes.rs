//! The API nodes that a node knows, and one request to them.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use domain::ApiError;
use proto::hybrid::hybrid_client::HybridClient;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::RemoteSettings;
use super::failover::{Failover, Patience};

/// One API node.
#[derive(Debug, Clone)]
pub struct ApiNode {
    /// Its address, for the log.
    pub name: String,
    /// The channel to it, which connects when it is used and again when the connection broke. It
    /// must ask the other side every second or so whether it is still there (HTTP/2 keep-alive):
    /// a watch of a link that was cut would wait for ever.
    pub channel: Channel,
}

/// The API nodes of a cluster; any of them will do. Clones share which one works.
#[derive(Clone)]
pub struct ApiNodes(Arc<Shared>);

struct Shared {
    nodes: Box<[ApiNode]>,
    failover: Failover,
}

/// There is nobody to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no API node is given")]
pub struct NoApiNode;

impl ApiNodes {
    /// All of `nodes`; `random` spreads pauses, and clients over nodes.
    ///
    /// # Errors
    /// There are none.
    pub fn new(
        nodes: Vec<ApiNode>,
        settings: RemoteSettings,
        random: fn() -> u64,
    ) -> Result<Self, NoApiNode> {
        if nodes.is_empty() {
            return Err(NoApiNode);
        }
        let failover = Failover::new(nodes.len(), settings, random);
        let nodes = nodes.into_boxed_slice();
        Ok(Self(Arc::new(Shared { nodes, failover })))
    }

    pub(super) fn failover(&self) -> &Failover {
        &self.0.failover
    }

    pub(super) fn name(&self, node: usize) -> &str {
        &self.0.nodes[node].name
    }

    pub(super) fn client(&self, node: usize) -> HybridClient<Channel> {
        HybridClient::new(self.channel(node))
    }

    pub(super) fn channel(&self, node: usize) -> Channel {
        self.0.nodes[node].channel.clone()
    }

    /// Asks the hybrid service for something short; see [`Self::ask`].
    pub(super) async fn call<Q, R, F>(
        &self,
        request: Q,
        method: impl Fn(HybridClient<Channel>, Request<Q>) -> F + Send + Sync,
    ) -> Result<R, ApiError>
    where
        Q: Clone + Send + Sync,
        F: Future<Output = Result<Response<R>, Status>> + Send,
    {
        let patience = self.failover().patience();
        self.ask(patience, HybridClient::new, request, method).await
    }

    /// Sends `request` by `method` of the client that `client` makes, until a node answers; see
    /// [`Failover::run`].
    pub(super) async fn ask<C, Q, R, F>(
        &self,
        patience: Patience,
        client: impl Fn(Channel) -> C + Send + Sync,
        request: Q,
        method: impl Fn(C, Request<Q>) -> F + Send + Sync,
    ) -> Result<R, ApiError>
    where
        Q: Clone + Send + Sync,
        F: Future<Output = Result<Response<R>, Status>> + Send,
    {
        let attempt = |node, limit| {
            let mut request = Request::new(request.clone());
            request.set_timeout(limit);
            let answering = method(client(self.channel(node)), request);
            async move {
                let answer = answering.await;
                if let Err(status) = &answer {
                    tracing::debug!(node = self.name(node), %status, "an API node refused");
                }
                answer.map(Response::into_inner)
            }
        };
        self.failover().run(patience, attempt).await
    }
}

impl fmt::Debug for ApiNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.nodes.iter().map(|node| &node.name);
        f.debug_list().entries(names).finish()
    }
}
