//! The status image: a container that tells how the runner is, run as a call of its own kind
//! (spec/07 7.6).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{Annotations, ApiError, AppId, ErrorCode, FnId, FnSpec, MilliCpus};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use nodekit::body::{self, Body};
use nodekit::exchange::{CallRequest, Target};
use proto::runner::RunnerStatus;
use serde_json::Value;
use tokio::sync::watch;

use super::Settings;
use super::finished::Record;
use crate::agent::{Agent, Started, output_error};

/// The time of a run.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Its container is gone before the next run.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a result is good.
const FRESH: Duration = Duration::from_millis(1500);
/// The time of a run with its start.
const LIMIT: Duration = Duration::from_secs(60);
/// The most that it may tell.
const MAX_DETAILS: usize = 1 << 20;

/// The status image. Whoever asks while it runs waits for the same run; whoever goes away does not
/// stop it.
pub(super) struct StatusImage {
    agent: Agent,
    connected: Arc<Target>,
    isolated: Arc<Target>,
    barrier: Option<PathBuf>,
    last: Mutex<Option<watch::Receiver<Option<Told>>>>,
}

/// A result.
#[derive(Debug, Clone)]
struct Told {
    status: RunnerStatus,
    until: Instant,
}

impl StatusImage {
    /// The image that the settings name.
    pub(super) fn new(agent: &Agent, settings: &Settings) -> Option<Self> {
        let image = settings.status_image.as_ref()?;
        let isolated = target(image, "status-isolated");
        agent.disable_network(isolated.slot_key);
        Some(Self {
            agent: agent.clone(),
            connected: target(image, "status"),
            isolated,
            barrier: settings.network_barrier.clone(),
            last: Mutex::default(),
        })
    }

    /// What it tells for `input`, or for that of a run which is not yet over, or has just been.
    pub(super) async fn status(&self, input: Value) -> RunnerStatus {
        let (mut run, cached) = self.current(input);
        let told = run.wait_for(Option::is_some).await;
        let status = told
            .ok()
            .and_then(|told| Some(told.as_ref()?.status.clone()));
        let mut status = status.unwrap_or_else(|| RunnerStatus {
            failed: true,
            error_code: i32::from(ErrorCode::Internal.status()),
            error_str: ErrorCode::Internal.text().to_owned(),
            ..RunnerStatus::default()
        });
        status.cached = cached;
        status
    }

    /// A run that is good enough, or a new one; and whether it was there before.
    fn current(&self, input: Value) -> (watch::Receiver<Option<Told>>, bool) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = &*last
            && match &*run.borrow() {
                Some(told) => Instant::now() < told.until,
                None => run.has_changed().is_ok(),
            }
        {
            return (run.clone(), true);
        }
        let (tell, run) = watch::channel(None);
        let (agent, barrier) = (self.agent.clone(), self.barrier.clone());
        let (connected, isolated) = (Arc::clone(&self.connected), Arc::clone(&self.isolated));
        self.agent.spawn(async move {
            let closed = match barrier {
                Some(barrier) => !tokio::fs::try_exists(barrier).await.unwrap_or(false),
                None => false,
            };
            let target = if closed { isolated } else { connected };
            let mut status = ask(&agent, target, input).await;
            status.is_network_disabled = closed;
            tell.send_replace(Some(Told {
                status,
                until: Instant::now() + FRESH,
            }));
        });
        *last = Some(run.clone());
        (run, false)
    }
}

/// It holds neither memory nor CPU, so that it always finds room and is never evicted.
fn target(image: &str, name: &str) -> Arc<Target> {
    let env = [
        ("FN_APP_ID", ""),
        ("FN_APP_NAME", ""),
        ("FN_FN_ID", name),
        ("FN_FN_NAME", name),
        ("FN_MEMORY", "0"),
        ("FN_TYPE", "sync"),
    ];
    Target::new(FnSpec {
        app_id: AppId::from(""),
        app_name: String::new(),
        fn_id: FnId::from(name),
        fn_name: name.to_owned(),
        image: image.to_owned(),
        memory_mb: 0,
        cpus: MilliCpus::default(),
        tmpfs_mb: 0,
        timeout: TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        annotations: Annotations::default(),
        syslog_url: None,
    })
}

async fn ask(agent: &Agent, target: Arc<Target>, input: Value) -> RunnerStatus {
    let id = agent.new_call_id();
    let mut record = Record::new();
    record.id = Some(id.clone());
    record.image = target.spec.image.clone();
    let call = CallRequest {
        id,
        target,
        headers: HeaderMap::new(),
        body: body::full(input.to_string()),
        arrived: record.arrived,
        wait_deadline: Some(record.arrived + LIMIT),
        detached: false,
    };
    let run = call_and_read(agent, call, &mut record.started);
    let result = tokio::time::timeout(LIMIT, run).await;
    let result = result.unwrap_or_else(|_| {
        let stage = match record.started {
            Some(_) => ErrorCode::CallTimeout,
            None => ErrorCode::ServerBusy,
        };
        Err(stage.into())
    });
    let finished = record.finished(result.as_ref().err());
    RunnerStatus {
        failed: result.is_err(),
        id: finished.details,
        details: result.unwrap_or_default(),
        error_code: finished.error_code,
        error_str: finished.error_str,
        created_at: finished.created_at,
        started_at: finished.started_at,
        completed_at: finished.completed_at,
        scheduler_duration: finished.scheduler_duration,
        execution_duration: finished.execution_duration,
        image_pull_wait_duration: finished.image_pull_wait_duration,
        ctr_prep_duration: finished.ctr_prep_duration,
        ctr_create_duration: finished.ctr_create_duration,
        init_start_time: finished.init_start_time,
        ..RunnerStatus::default()
    }
}

async fn call_and_read(
    agent: &Agent,
    call: CallRequest,
    started: &mut Option<Started>,
) -> Result<String, ApiError> {
    let response = agent.submit_watched(call, started).await?;
    text(response.body).await
}

async fn text(mut output: Body) -> Result<String, ApiError> {
    let mut text = Vec::new();
    while let Some(frame) = output.frame().await {
        let data = frame.map_err(output_error)?.into_data().unwrap_or_default();
        if text.len() + data.len() > MAX_DETAILS {
            return Err(ErrorCode::ResponseBodyTooLarge.into());
        }
        text.extend_from_slice(&data);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
