//! A load balancer under test, and calls for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{Annotations, ApiError, AppId, CallId, FnId, FnSpec, HostPort, MilliCpus};
use http::HeaderMap;
use http_body_util::{BodyExt as _, Channel};
use lb::config::LbConfig;
use lb::placement::PlacerKind;
use lb::remote::Connector;
use lb::runners::{Runners, RunnersParts, RunnersSettings, Sources};
use lb::{PlacedRunner, PlacerMetrics, Runner as _};
use nodekit::body::{self, Body, BodyError};
use nodekit::config::GrpcConfig;
use nodekit::exchange::{CallRequest, CallResponse, CallResult, CallTimings, Target};
use nodekit::metrics::Metrics;

use crate::peer::Net;

/// Longer than anything here takes, so that a test that hangs fails instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// A load balancer.
pub(crate) struct Balancer {
    pub(crate) runners: Arc<Runners>,
    pub(crate) placed: Arc<PlacedRunner>,
    metrics: Arc<Metrics>,
}

/// What is changed of the defaults.
pub(crate) struct Options {
    pub(crate) config: LbConfig,
    pub(crate) grpc: GrpcConfig,
    pub(crate) sources: Sources,
    pub(crate) placer: PlacerKind,
}

impl Options {
    /// The runners at `addresses`, asked in this order.
    pub(crate) fn at(addresses: &[&str]) -> Self {
        Self {
            config: LbConfig::default(),
            grpc: GrpcConfig {
                grpc_connections: 1,
                ..GrpcConfig::default()
            },
            sources: Sources {
                addresses: addresses.iter().map(|address| host_port(address)).collect(),
                ..Sources::default()
            },
            placer: PlacerKind::Ch,
        }
    }
}

pub(crate) fn host_port(text: &str) -> HostPort {
    HostPort::parse(text).expect("an address")
}

/// Not random, so that a test is the same each time.
fn middle() -> u64 {
    1 << 63
}

impl Balancer {
    pub(crate) fn new(net: &Net, addresses: &[&str]) -> Self {
        Self::with(Arc::new(net.clone()), Options::at(addresses))
    }

    pub(crate) fn with(connector: Arc<dyn Connector>, options: Options) -> Self {
        let mut metrics = Metrics::new();
        let parts = RunnersParts {
            connector,
            metrics: Arc::new(PlacerMetrics::new(&mut metrics)),
        };
        let settings: RunnersSettings = options.config.runners_settings(&options.grpc, middle);
        let runners = Arc::new(Runners::start(parts, settings, options.sources));
        let placed = PlacedRunner::new(
            Arc::clone(&runners),
            options.placer.placer(),
            options.config.placing_settings(),
        );
        Self {
            runners,
            placed: Arc::new(placed),
            metrics: Arc::new(metrics),
        }
    }

    pub(crate) async fn run(&self, call: CallRequest) -> CallResult {
        let running = tokio::time::timeout(PATIENCE, self.placed.run(call));
        running.await.expect("an outcome in time")
    }

    /// Sends `input` and reads the whole answer.
    pub(crate) async fn echo(&self, input: &[u8]) -> Result<Answer, ApiError> {
        let answer = self.run(call(body::full(input.to_vec()))).await?;
        whole(answer).await
    }

    /// Whether the metrics contain `line`.
    pub(crate) fn has_metric(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|found| found == line)
    }

    #[track_caller]
    pub(crate) fn assert_metric(&self, line: &str) {
        assert!(
            self.has_metric(line),
            "{line} is missing in {}",
            self.metrics.render()
        );
    }

    /// Calls that the runner at `address` has, as far as is known.
    pub(crate) fn in_flight(&self, address: &str) -> u32 {
        let view = self.runners.view();
        let found = view.iter().find(|runner| &*runner.address == address);
        found.map_or(0, |runner| runner.in_flight)
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) timings: CallTimings,
}

pub(crate) async fn whole(answer: CallResponse) -> Result<Answer, ApiError> {
    let collecting = tokio::time::timeout(PATIENCE, answer.body.collect());
    let body = collecting.await.expect("an end in time");
    let body = body.map_err(|error| match error.downcast::<ApiError>() {
        Ok(error) => *error,
        Err(error) => ApiError::internal(error),
    })?;
    Ok(Answer {
        headers: answer.headers,
        body: body.to_bytes(),
        timings: answer.timings,
    })
}

pub(crate) fn spec() -> FnSpec {
    FnSpec {
        app_id: AppId::from("A"),
        app_name: "a".into(),
        fn_id: FnId::from("F"),
        fn_name: "f".into(),
        image: "x/y:1".into(),
        memory_mb: 64,
        cpus: MilliCpus::default(),
        tmpfs_mb: 0,
        timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(30),
        env: Default::default(),
        annotations: Annotations::default(),
        syslog_url: None,
    }
}

/// A call with this input; it may wait ten seconds for a runner.
pub(crate) fn call(body: Body) -> CallRequest {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // The clock of the runtime, which may stand still.
    let arrived: Instant = tokio::time::Instant::now().into_std();
    CallRequest {
        id: CallId::from(format!("call-{number}")),
        target: Target::new(spec()),
        headers: HeaderMap::new(),
        body,
        arrived,
        wait_deadline: Some(arrived + Duration::from_secs(10)),
        detached: false,
    }
}

/// A body that a test fills as it goes.
pub(crate) fn streaming() -> (http_body_util::channel::Sender<Bytes, BodyError>, Body) {
    let (sender, body) = Channel::<Bytes, BodyError>::new(1);
    (sender, body::stream(body))
}

/// Waits until `there` is true.
pub(crate) async fn until(there: impl Fn() -> bool) {
    let waiting = async {
        while !there() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "it does not come true");
}
