//! `hearth up`: all nodes in one process, behind one listener.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api_node::LocalControlPlane;
use api_node::rest::{self, ApiSettings, ApiState};
use api_node::store::{self, OpenOptions};
use async_trait::async_trait;
use hybrid_client::CachedControlPlane;
use lb::{FrontDoor, FrontDoorMetrics, FrontDoorParts};
use nodekit::admin_routes::AdminRoutes;
use nodekit::api_metrics::ApiMetrics;
use nodekit::readiness::{Condition, Readiness};
use tracing::warn;

use super::agent::{self, RunnerRegistrations};
use super::in_process::LocalRunner;
use super::listener::Listener;
use super::{Base, Running};

/// How often store and engine are asked whether they answer.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// A running node that is everything.
pub(super) struct Up {
    agent: runner_node::Agent,
    /// False from the moment on that the node is told to stop.
    takes_calls: Condition,
    listener: Listener,
    health: tokio::task::JoinHandle<()>,
    shutdown_timeout: Option<Duration>,
}

/// Starts a node that is everything.
pub(super) async fn start(mut base: Base) -> anyhow::Result<Up> {
    let api_metrics = ApiMetrics::new(&mut base.metrics);
    let front_door_metrics = Arc::new(FrontDoorMetrics::new(
        &mut base.metrics,
        api_metrics.clone(),
    ));
    let registrations = RunnerRegistrations::new(&mut base.metrics);
    let (api_request_ids, lb_request_ids) = (base.request_ids()?, base.request_ids()?);
    let Base {
        configuration,
        shutdown,
        ids,
        metrics,
        readiness,
    } = base;

    let options = OpenOptions {
        ping_max_retries: configuration.api.ds_db_ping_max_retries,
        ids: Arc::clone(&ids),
        clock: store::wall_clock(),
        cancel: shutdown.token().clone(),
    };
    let store = store::open(&configuration.api.db_url, options)
        .await
        .context("FN_DB_URL")?;
    let agent = agent::start(&configuration.runner, registrations, Arc::clone(&ids)).await?;

    let control_plane = LocalControlPlane::new(Arc::clone(&store));
    let targets =
        CachedControlPlane::new(Arc::new(control_plane), configuration.lb.cache_settings());

    let takes_calls = readiness.condition("takes calls");
    takes_calls.set(true);
    let health = tokio::spawn(watch_health(
        Arc::clone(&store),
        agent.clone(),
        readiness.clone(),
    ));
    let node = &configuration.node;
    let api_state = ApiState {
        store,
        settings: Arc::new(ApiSettings {
            public_url: Some(configuration.api.public_lb_url.clone()).filter(|url| !url.is_empty()),
            cors_origins: node.api_cors_origins.clone(),
            cors_headers: node.api_cors_headers.clone(),
            request_ids: api_request_ids,
            front_door: rest::FrontDoor::Beside,
            ..ApiSettings::default()
        }),
        ids: Arc::clone(&ids),
        metrics: api_metrics,
        admin: AdminRoutes::new(Arc::new(metrics), move || readiness.is_ready()),
    };
    let front_door = FrontDoorParts {
        targets,
        runner: Arc::new(LocalRunner(agent.clone())),
        ids,
        random: rand::random,
        request_ids: lb_request_ids,
        metrics: front_door_metrics,
    };
    let service = FrontDoor::new(front_door, &configuration.lb, rest::router(api_state));
    Ok(Up {
        agent,
        takes_calls,
        listener: Listener::start(node, service).await?,
        health,
        shutdown_timeout: node.shutdown_timeout,
    })
}

#[async_trait]
impl Running for Up {
    /// Refuses new calls with 503 while the running ones finish, then closes the listener, and then
    /// removes the containers.
    async fn stop(self: Box<Self>) {
        self.takes_calls.set(false);
        self.agent.drain();
        let drained = self.agent.drained();
        let in_time = match self.shutdown_timeout {
            Some(limit) => tokio::time::timeout(limit, drained).await.is_ok(),
            None => {
                drained.await;
                true
            }
        };
        if !in_time {
            warn!("some calls did not finish in time and are cut off");
        }
        self.listener.stop().await;
        self.health.abort();
        self.agent.close().await;
    }
}

/// Keeps the readiness up to date, and the metrics of what is held.
async fn watch_health(
    store: Arc<dyn store::Store>,
    agent: runner_node::Agent,
    readiness: Readiness,
) {
    let (store_answers, engine_answers) =
        (readiness.condition("store"), readiness.condition("engine"));
    let mut interval = tokio::time::interval(HEALTH_INTERVAL);
    loop {
        interval.tick().await;
        let (of_store, of_runner) = tokio::join!(store.ping(), agent.ready());
        store_answers.set(of_store.is_ok());
        engine_answers.set(of_runner.is_ok());
        agent.measure();
    }
}
