//! `hearth lb`: the front door over many runners.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use domain::{ApiError, HostPort};
use hybrid_client::{ApiNodes, CachedControlPlane, RegisteredRunners, RemoteControlPlane};
use lb::management::Management;
use lb::remote::NodeConnector;
use lb::runners::{DirectoryWatch, NodeStore, RunnerDirectory, Runners, RunnersParts, Sources};
use lb::{FrontDoor, FrontDoorMetrics, FrontDoorParts, PlacedRunner, PlacerMetrics};
use nodekit::api_metrics::ApiMetrics;
use nodekit::tls::Role;

use super::calls::{self, FrontDoorCalls};
use super::listener::Listener;
use super::{Base, Running, admin, grpc};

/// How long calls whose client is gone, or was answered, may hold up the end.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// A running load balancer.
pub(super) struct Lb {
    listener: Listener,
    calls: FrontDoorCalls,
    shutdown_timeout: Option<Duration>,
    runners: Arc<Runners>,
}

/// Starts a load balancer.
pub(super) async fn start(mut base: Base) -> anyhow::Result<Lb> {
    let api_metrics = ApiMetrics::new(&mut base.metrics);
    let front_door_metrics = FrontDoorMetrics::new(&mut base.metrics, api_metrics);
    let placer_metrics = PlacerMetrics::new(&mut base.metrics);
    let request_ids = base.request_ids()?;
    let configuration = &base.configuration;
    let tls = grpc::tls(&configuration.grpc, Role::Lb, &base.shutdown)?;
    let nodes = grpc::api_nodes(&configuration.hybrid, &configuration.grpc, tls.clone())?
        .context("FN_RUNNER_API_URL must name the API nodes")?;

    let remote = calls::remote(&base, nodes.clone());
    let calls = FrontDoorCalls::start(&mut base, remote.clone());
    let configuration = &base.configuration;
    let lb = &configuration.lb;
    let directory = RegisteredRunners::watch(nodes.clone());
    let mut listed = directory.list();
    let condition = base.readiness.condition("runners listed");
    base.shutdown.spawn({
        let stop = base.shutdown.token().clone();
        async move {
            let known = listed.wait_for(Option::is_some);
            if let Some(Ok(_)) = stop.run_until_cancelled(known).await {
                condition.set(true);
            }
        }
    });
    let stored = Arc::new(StoredNodes(nodes.clone()));
    let runners = Arc::new(Runners::start(
        RunnersParts {
            connector: Arc::new(NodeConnector::new(tls, lb.tcp_timeout())),
            metrics: Arc::new(placer_metrics),
        },
        lb.runners_settings(&configuration.grpc, rand::random),
        Sources {
            addresses: lb.runner_addresses.clone(),
            names: lb.runner_dns_names.clone(),
            directory: Some(Arc::new(Directory(directory))),
            nodes: Some(stored.clone()),
        },
    ));
    let placed = PlacedRunner::new(
        Arc::clone(&runners),
        lb.placer.placer(),
        lb.placing_settings(),
    );
    let parts = FrontDoorParts {
        targets: CachedControlPlane::new(
            Arc::new(RemoteControlPlane::new(nodes)),
            lb.cache_settings(),
        ),
        runner: Arc::new(placed),
        ids: Arc::clone(&base.ids),
        random: rand::random,
        request_ids,
        metrics: Arc::new(front_door_metrics),
        calls: Some(remote),
        recorder: calls.recorder(),
        tasks: calls.tasks(),
        limits: calls::limits(&base),
    };
    let admin = base.admin_routes();
    let management = Management::new(Arc::clone(&runners), stored, admin::service(admin));
    let configuration = &base.configuration;
    let service = FrontDoor::new(parts, &configuration.lb, management);
    Ok(Lb {
        listener: Listener::start(&configuration.node, service).await?,
        runners,
        calls,
        shutdown_timeout: configuration.node.shutdown_timeout,
    })
}

#[async_trait]
impl Running for Lb {
    /// Accepts nothing more, and finishes the requests that there are.
    async fn stop(self: Box<Self>) {
        self.listener.stop().await;
        self.calls
            .stop(self.shutdown_timeout.unwrap_or(LAST_CALLS))
            .await;
        self.runners.shutdown(LAST_CALLS).await;
    }
}

/// The registered runners, as the API nodes list them.
struct Directory(RegisteredRunners);

impl RunnerDirectory for Directory {
    fn runners(&self) -> DirectoryWatch {
        self.0.list()
    }
}

/// The nodes that operators add, as the API nodes keep them.
struct StoredNodes(ApiNodes);

#[async_trait]
impl NodeStore for StoredNodes {
    async fn list(&self) -> Result<Vec<HostPort>, ApiError> {
        let listed = self.0.listed_nodes().await?;
        let parsed = listed.iter().map(|node| HostPort::parse(node));
        parsed
            .collect::<Result<_, _>>()
            .map_err(|error| ApiError::internal(format_args!("a stored node: {error}")))
    }

    async fn add(&self, node: &HostPort) -> Result<(), ApiError> {
        self.0.add_listed_node(node).await
    }

    async fn remove(&self, node: &HostPort) -> Result<(), ApiError> {
        self.0.remove_listed_node(node).await
    }
}
