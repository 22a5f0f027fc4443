//! `hearth up`: all nodes in one process, behind one listener.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api_node::rest::{self, ApiSettings, ApiState, Changed};
use api_node::store::{self, OpenOptions};
use domain::IdSource;
use hybrid_client::{CachedControlPlane, Change};
use lb::{FrontDoor, FrontDoorMetrics, FrontDoorParts};
use nodekit::admin_routes::AdminRoutes;
use nodekit::api_metrics::ApiMetrics;
use nodekit::http_server::{self, HttpServer};
use nodekit::metrics::Metrics;
use nodekit::readiness::{Condition, Readiness};
use nodekit::request_id::RequestIds;
use nodekit::shutdown::Shutdown;
use nodekit::telemetry;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::configuration::{self, Configuration, ConfigurationArgs};
use crate::in_process::{LocalControlPlane, LocalRunner};
use crate::runner::{self, RunnerRegistrations};

/// How often store and engine are asked whether they answer.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// Runs until the process is told to stop.
pub(crate) async fn run(from: &ConfigurationArgs) -> anyhow::Result<()> {
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
    let node = tokio::select! {
        node = Node::start(configuration, &shutdown) => node?,
        // Whatever was started ends with the process.
        () = shutdown.token().cancelled() => return Ok(()),
    };
    shutdown.token().cancelled().await;
    node.stop().await;
    info!("stopped");
    Ok(())
}

/// A running node that is everything.
struct Node {
    agent: runner_node::Agent,
    /// False from the moment on that the node is told to stop.
    takes_calls: Condition,
    /// Ends the listener.
    end_listener: CancellationToken,
    listener: tokio::task::JoinHandle<http_server::Drained>,
    health: tokio::task::JoinHandle<()>,
    shutdown_timeout: Option<Duration>,
}

impl Node {
    async fn start(configuration: Configuration, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let Configuration {
            node,
            api,
            lb,
            runner,
            ..
        } = configuration;
        let ids = Arc::new(IdSource::new(rand::random()));
        let mut metrics = Metrics::new();
        let api_metrics = ApiMetrics::new(&mut metrics);
        let front_door_metrics = Arc::new(FrontDoorMetrics::new(&mut metrics, api_metrics.clone()));
        let registrations = RunnerRegistrations::new(&mut metrics);

        let options = OpenOptions {
            ping_max_retries: api.ds_db_ping_max_retries,
            ids: Arc::clone(&ids),
            clock: store::wall_clock(),
            cancel: shutdown.token().clone(),
        };
        let store = store::open(&api.db_url, options).await?;
        let agent = runner::start(&runner, registrations, Arc::clone(&ids)).await?;

        let control_plane = LocalControlPlane::new(Arc::clone(&store));
        let changes = control_plane.announcer();
        let targets = CachedControlPlane::new(Arc::new(control_plane), lb.cache_settings());

        let readiness = Readiness::new();
        let takes_calls = readiness.condition("takes calls");
        takes_calls.set(true);
        let health = tokio::spawn(watch_health(
            Arc::clone(&store),
            agent.clone(),
            readiness.clone(),
        ));
        let request_ids = || RequestIds::new(&node.rid_header).map_err(anyhow::Error::msg);
        let api_state = ApiState {
            store,
            on_change: Arc::new(move |changed| {
                let change = match changed {
                    Changed::App(id) => Change::App(id),
                    Changed::Fn(id) => Change::Fn(id),
                    Changed::Triggers(id) => Change::Triggers(id),
                };
                // Without a reader nothing is cached.
                let _ = changes.send(change);
            }),
            settings: Arc::new(ApiSettings {
                public_url: Some(api.public_lb_url.clone()).filter(|url| !url.is_empty()),
                cors_origins: node.api_cors_origins.clone(),
                cors_headers: node.api_cors_headers.clone(),
                request_ids: request_ids()?,
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
            request_ids: request_ids()?,
            metrics: front_door_metrics,
        };
        let service = FrontDoor::new(front_door, &lb, rest::router(api_state));

        let server = HttpServer::bind(
            (node.bind_address, node.port).into(),
            http_server::Limits::new(&node),
        )
        .await
        .with_context(|| format!("cannot listen on {}:{}", node.bind_address, node.port))?;
        info!(address = %server.local_addr(), "listening");
        let end_listener = CancellationToken::new();
        let listener = tokio::spawn(server.serve(service, end_listener.clone()));
        Ok(Self {
            agent,
            takes_calls,
            end_listener,
            listener,
            health,
            shutdown_timeout: node.shutdown_timeout,
        })
    }

    /// Refuses new calls with 503 while the running ones finish, then closes the listener, and then
    /// removes the containers.
    async fn stop(self) {
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
        self.end_listener.cancel();
        match self.listener.await {
            Ok(drained) if drained.aborted > 0 => {
                warn!(drained.aborted, "connections were cut off")
            }
            Ok(_) => {}
            Err(error) => warn!(%error, "the listener failed"),
        }
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
