//! An API node with the calls service alone, in a runtime of its own, so that it can be killed with
//! all its connections; and clients of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api_node::hybrid::calls_service;
use domain::call::new_call::DEFAULT_MAX_BODY;
use hybrid_client::{ApiNode, ApiNodes, RemoteCalls, RemoteCallsSettings, RemoteSettings};
use proto::calls::calls_client::CallsClient;
use proto::calls::calls_server::{Calls, CallsServer};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};

use super::super::node::channel;
use super::script::Script;

/// An API node, on a port of its own.
pub(super) struct CallsNode {
    pub(super) address: SocketAddr,
    stop: CancellationToken,
    runtime: Option<Runtime>,
}

impl CallsNode {
    pub(super) async fn start(script: &Arc<Script>) -> Self {
        Self::start_with(script, DEFAULT_MAX_BODY).await
    }

    pub(super) async fn start_with(script: &Arc<Script>, max_body: usize) -> Self {
        let stop = CancellationToken::new();
        let service =
            calls_service::service(script.clone(), script.clone(), max_body, stop.clone());
        Self::serve(service, stop).await
    }

    /// A node that is not ours.
    pub(super) async fn strange(calls: impl Calls) -> Self {
        Self::serve(CallsServer::new(calls), CancellationToken::new()).await
    }

    async fn serve<T: Calls>(service: CallsServer<T>, stop: CancellationToken) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let token = stop.clone();
        let starting = runtime.spawn(async move {
            let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a port");
            let address = incoming.local_addr().expect("its address");
            let serving = Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(incoming, token.cancelled_owned());
            tokio::spawn(serving);
            address
        });
        Self {
            address: starting.await.expect("the node starts"),
            stop,
            runtime: Some(runtime),
        }
    }

    /// Ends it at once: connections are reset, nobody is told.
    pub(super) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Tells it to stop, as a rolling restart does.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) fn client(&self) -> CallsClient<Channel> {
        CallsClient::new(channel(self.address))
    }
}

impl Drop for CallsNode {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Calls of the nodes at `addresses`, beginning with the first.
pub(super) fn calls_of(addresses: &[SocketAddr]) -> RemoteCalls {
    calls_with(addresses, RemoteCallsSettings::default())
}

pub(super) fn calls_with(addresses: &[SocketAddr], settings: RemoteCallsSettings) -> RemoteCalls {
    let nodes = addresses.iter().map(|address| ApiNode {
        name: address.to_string(),
        channel: channel(*address),
    });
    let nodes = ApiNodes::new(nodes.collect(), RemoteSettings::default(), || 0).expect("nodes");
    RemoteCalls::new(nodes, settings)
}

/// One that does not wait long for an answer.
pub(super) fn hasty() -> RemoteCallsSettings {
    RemoteCallsSettings {
        attempt_timeout: Duration::from_millis(300),
        ..RemoteCallsSettings::default()
    }
}
