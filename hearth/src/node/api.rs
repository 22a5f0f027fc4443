//! `hearth api`: the REST API over HTTP, and what load balancers and runners ask over gRPC.

use std::sync::Arc;

use api_node::calls::Calls;
use api_node::hybrid::{self, HybridSettings, calls_service};
use api_node::rest::{self, FrontDoor};
use async_trait::async_trait;
use nodekit::api_metrics::ApiMetrics;
use nodekit::http_server;
use nodekit::tls::Role;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::calls::{self, CallsRegistrations};
use super::grpc::{self, GrpcListener, GrpcServing};
use super::listener::Listener;
use super::rest as api;
use super::{Base, Running};

/// A running API node.
pub(super) struct Api {
    listener: Listener,
    grpc: GrpcServing,
    end_watches: CancellationToken,
    calls: Calls,
}

/// Starts an API node.
pub(super) async fn start(mut base: Base) -> anyhow::Result<Api> {
    let metrics = ApiMetrics::new(&mut base.metrics);
    let calls_registrations = CallsRegistrations::new(&mut base.metrics);
    let request_ids = base.request_ids()?;
    let (node, grpc) = (&base.configuration.node, &base.configuration.grpc);
    let tls = grpc::tls(grpc, Role::Api, &base.shutdown)?;
    let grpc_listener = GrpcListener::bind(node, grpc, tls).await?;
    let store = api::open_store(&base).await?;
    let calls = calls::start(&base, &store, calls_registrations).await?;

    let end_watches = CancellationToken::new();
    let hybrid = hybrid::service(
        Arc::clone(&store),
        HybridSettings::default(),
        end_watches.clone(),
    );
    let calls_service = calls_service::service(
        Arc::new(calls.clone()),
        Arc::new(calls.clone()),
        calls::limits(&base).max_body,
        end_watches.clone(),
    );
    let grpc = grpc_listener.serve(
        Routes::new(hybrid).add_service(calls_service),
        hybrid::ACCESS,
    );
    let admin = base.admin_routes();
    let state = api::state(
        &base,
        store,
        metrics,
        admin,
        request_ids,
        Some(calls.clone()),
        FrontDoor::Elsewhere,
    );
    let service = http_server::tower(rest::router(state));
    let node = &base.configuration.node;
    Ok(Api {
        listener: Listener::start(node, service).await?,
        grpc,
        end_watches,
        calls,
    })
}

#[async_trait]
impl Running for Api {
    async fn stop(self: Box<Self>) {
        // Whoever watches goes to another API node.
        self.end_watches.cancel();
        tokio::join!(self.grpc.stop(), self.listener.stop());
        self.calls.close().await;
    }
}
