//! `hearth up`: all nodes in one process, behind one listener.

use std::sync::Arc;
use std::time::Duration;

use api_node::LocalControlPlane;
use api_node::rest::{self, FrontDoor as ApiFrontDoor};
use async_trait::async_trait;
use hybrid_client::CachedControlPlane;
use lb::{CallLimits, CallTasks, FrontDoor, FrontDoorMetrics, FrontDoorParts};
use nodekit::api_metrics::ApiMetrics;

use super::agent::{self, RunnerRegistrations};
use super::in_process::LocalRunner;
use super::listener::Listener;
use super::rest as api;
use super::{Base, Running};

/// A running node that is everything.
pub(super) struct Up {
    agent: runner_node::Agent,
    listener: Listener,
    shutdown_timeout: Option<Duration>,
}

/// Starts a node that is everything.
pub(super) async fn start(mut base: Base) -> anyhow::Result<Up> {
    let api_metrics = ApiMetrics::new(&mut base.metrics);
    let front_door_metrics = FrontDoorMetrics::new(&mut base.metrics, api_metrics.clone());
    let registrations = RunnerRegistrations::new(&mut base.metrics);
    let (api_request_ids, lb_request_ids) = (base.request_ids()?, base.request_ids()?);

    let store = api::open_store(&base).await?;
    let agent = agent::start(&base, registrations).await?;
    let control_plane = LocalControlPlane::new(Arc::clone(&store));
    let targets = CachedControlPlane::new(
        Arc::new(control_plane),
        base.configuration.lb.cache_settings(),
    );
    let admin = base.admin_routes();
    let state = api::state(
        &base,
        store,
        api_metrics,
        admin,
        api_request_ids,
        ApiFrontDoor::Beside,
    );
    let front_door = FrontDoorParts {
        targets,
        runner: Arc::new(LocalRunner(agent.clone())),
        ids: Arc::clone(&base.ids),
        random: rand::random,
        request_ids: lb_request_ids,
        metrics: Arc::new(front_door_metrics),
        calls: None,
        recorder: None,
        tasks: CallTasks::default(),
        limits: CallLimits::default(),
    };
    let service = FrontDoor::new(front_door, &base.configuration.lb, rest::router(state));
    Ok(Up {
        agent,
        listener: Listener::start(&base.configuration.node, service).await?,
        shutdown_timeout: base.configuration.node.shutdown_timeout,
    })
}

#[async_trait]
impl Running for Up {
    /// Refuses new calls with 503 while the running ones finish, then closes the listener, and then
    /// removes the containers.
    async fn stop(self: Box<Self>) {
        agent::drain(&self.agent, self.shutdown_timeout).await;
        self.listener.stop().await;
        self.agent.close().await;
    }
}
