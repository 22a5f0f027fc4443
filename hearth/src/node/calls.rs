//! Durable calls of this process: the service of an API node, the records that a front door writes, and
//! the loop of a runner.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use api_node::calls::{Calls, CallsMetrics, CallsParts};
use api_node::queue::{self, QueueMetrics};
use api_node::{Store, logs};
use hybrid_client::{ApiNodes, CallPlane, RemoteCalls, RemoteCallsSettings, WorkSource};
use lb::{CallLimits, CallTasks, Recorder, RecorderMetrics, RecorderTask};
use nodekit::metrics::Metrics;
use runner_node::Agent;
use runner_node::work::{Settings, WorkLoop, WorkMetrics};
use tokio::time::Instant;

use super::Base;

/// How long records of calls may take to be written at the end.
const LAST_RECORDS: Duration = Duration::from_secs(5);
/// How long the ends of calls may take to be told, after the calls themselves were waited for.
const LAST_ENDS: Duration = Duration::from_secs(5);

/// The metrics of the service.
pub(super) struct CallsRegistrations {
    queue: QueueMetrics,
    calls: CallsMetrics,
}

impl CallsRegistrations {
    /// Registers them.
    pub(super) fn new(metrics: &mut Metrics) -> Self {
        Self {
            queue: QueueMetrics::new(metrics),
            calls: CallsMetrics::new(metrics),
        }
    }
}

/// Starts the service. A broker that is away is waited for in the background: calls are accepted
/// without it.
pub(super) async fn start(
    base: &Base,
    store: &Arc<dyn Store>,
    registrations: CallsRegistrations,
) -> anyhow::Result<Calls> {
    let (api, calls) = (&base.configuration.api, &base.configuration.calls);
    let authority = api.mq_cert_authority.as_str();
    let queue = queue::open(
        &api.mq_url,
        queue::OpenOptions {
            queue: api.mq_queue.clone(),
            authority: (!authority.is_empty()).then(|| PathBuf::from(authority)),
            metrics: registrations.queue,
        },
    )
    .context("FN_MQ_URL")?;
    let logs = logs::open(&api.logstore_url, Arc::clone(store) as _)
        .await
        .context("FN_LOGSTORE_URL")?;
    Ok(Calls::start(CallsParts {
        store: Arc::clone(store),
        queue,
        logs,
        ids: Arc::clone(&base.ids),
        settings: calls.calls_settings(),
        metrics: registrations.calls,
    }))
}

/// The calls of other API nodes.
pub(super) fn remote(base: &Base, nodes: ApiNodes) -> Arc<RemoteCalls> {
    let settings = RemoteCallsSettings {
        max_body: base.configuration.calls.calls_settings().max_body,
        ..RemoteCallsSettings::default()
    };
    Arc::new(RemoteCalls::new(nodes, settings))
}

/// What a front door has of calls beside its requests.
pub(super) struct FrontDoorCalls {
    recorder: Option<(Recorder, RecorderTask)>,
    tasks: CallTasks,
}

impl FrontDoorCalls {
    /// Starts to record calls, if that is wanted.
    pub(super) fn start(base: &mut Base, plane: Arc<dyn CallPlane>) -> Self {
        let metrics = RecorderMetrics::new(&mut base.metrics);
        let lb = &base.configuration.lb;
        let per_second = Some(lb.record_max_rate).filter(|rate| *rate > 0);
        Self {
            recorder: lb
                .record_sync_calls
                .then(|| Recorder::start(plane, per_second, metrics)),
            tasks: CallTasks::default(),
        }
    }

    /// For the front door.
    pub(super) fn recorder(&self) -> Option<Recorder> {
        let (recorder, _) = self.recorder.as_ref()?;
        Some(recorder.clone())
    }

    /// For the front door.
    pub(super) fn tasks(&self) -> CallTasks {
        self.tasks.clone()
    }

    /// Waits for calls whose clients have left, and writes the last records. Call it when no request
    /// comes any more.
    pub(super) async fn stop(self, calls: Duration) {
        self.tasks.stop(calls).await;
        if let Some((_, task)) = self.recorder {
            task.stop(LAST_RECORDS).await;
        }
    }
}

/// How much front doors keep of a call.
pub(super) fn limits(base: &Base) -> CallLimits {
    let settings = base.configuration.calls.calls_settings();
    CallLimits {
        max_body: settings.max_body,
        max_result: settings.max_result,
    }
}

/// Starts to run durable calls of `source`.
pub(super) fn work(
    base: &Base,
    agent: &Agent,
    source: Arc<dyn WorkSource>,
    runner_id: Arc<str>,
    metrics: WorkMetrics,
) -> WorkLoop {
    let max_result = base.configuration.calls.calls_settings().max_result;
    let settings = Settings::new(&base.configuration.runner, max_result);
    WorkLoop::start(agent.clone(), source, settings, runner_id, metrics)
}

/// Ends the loop of a runner whose agent was drained.
pub(super) async fn end_work(work: WorkLoop) {
    work.close(Instant::now() + LAST_ENDS).await;
}
