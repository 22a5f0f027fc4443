//! `hearth up`: all nodes in one process, behind one listener.

use std::sync::Arc;
use std::time::Duration;

use api_node::LocalControlPlane;
use api_node::calls::Calls;
use api_node::rest::{self, FrontDoor as ApiFrontDoor};
use async_trait::async_trait;
use hybrid_client::CachedControlPlane;
use lb::{FrontDoor, FrontDoorMetrics, FrontDoorParts};
use nodekit::api_metrics::ApiMetrics;
use runner_node::work::{WorkLoop, WorkMetrics};

use super::agent::{self, RunnerRegistrations};
use super::calls::{self, CallsRegistrations, FrontDoorCalls};
use super::in_process::LocalRunner;
use super::listener::Listener;
use super::rest as api;
use super::{Base, Running};

/// How long calls whose clients have left may hold up the end; those that run were waited for before.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// A running node that is everything.
pub(super) struct Up {
    agent: runner_node::Agent,
    calls: Calls,
    front_door: FrontDoorCalls,
    work: WorkLoop,
    listener: Listener,
    shutdown_timeout: Option<Duration>,
}

/// Starts a node that is everything.
pub(super) async fn start(mut base: Base) -> anyhow::Result<Up> {
    let api_metrics = ApiMetrics::new(&mut base.metrics);
    let front_door_metrics = FrontDoorMetrics::new(&mut base.metrics, api_metrics.clone());
    let registrations = RunnerRegistrations::new(&mut base.metrics);
    let calls_registrations = CallsRegistrations::new(&mut base.metrics);
    let work_metrics = WorkMetrics::new(&mut base.metrics);
    let (api_request_ids, lb_request_ids) = (base.request_ids()?, base.request_ids()?);

    let store = api::open_store(&base).await?;
    let calls = calls::start(&base, &store, calls_registrations).await?;
    let agent = agent::start(&base, registrations).await?;
    let front_door_calls = FrontDoorCalls::start(&mut base, Arc::new(calls.clone()));
    let source = Arc::new(calls.clone());
    let work = calls::work(&base, &agent, source, base.new_id(), work_metrics);
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
        Some(calls.clone()),
        ApiFrontDoor::Beside,
    );
    let front_door = FrontDoorParts {
        targets,
        runner: Arc::new(LocalRunner(agent.clone())),
        ids: Arc::clone(&base.ids),
        random: rand::random,
        request_ids: lb_request_ids,
        metrics: Arc::new(front_door_metrics),
        calls: Some(Arc::new(calls.clone())),
        recorder: front_door_calls.recorder(),
        tasks: front_door_calls.tasks(),
        limits: calls::limits(&base),
    };
    let service = FrontDoor::new(front_door, &base.configuration.lb, rest::router(state));
    Ok(Up {
        agent,
        calls,
        front_door: front_door_calls,
        work,
        listener: Listener::start(&base.configuration.node, service).await?,
        shutdown_timeout: base.configuration.node.shutdown_timeout,
    })
}

#[async_trait]
impl Running for Up {
    /// Refuses new calls with 503 while the running ones finish, then closes the listener, and then
    /// removes the containers.
    async fn stop(self: Box<Self>) {
        self.work.drain();
        agent::drain(&self.agent, self.shutdown_timeout).await;
        self.listener.stop().await;
        self.front_door.stop(LAST_CALLS).await;
        calls::end_work(self.work).await;
        self.calls.close().await;
        self.agent.close().await;
    }
}
