//! Records of calls whose clients wait, written behind: a call leaves what was noted of it in a
//! bounded buffer, and a task of its own sends records in batches. What does not fit is dropped and
//! counted: neither a slow store nor one that is away slows a call.

mod followed;
mod rate;
mod sync_call;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use domain::{CallRecord, ErrorCode};
use hybrid_client::CallPlane;
use nodekit::body::Body;
use nodekit::exchange::CallTimings;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::metrics::RecorderMetrics;

use self::rate::Rate;

pub(crate) use sync_call::SyncCall;

/// Calls that wait to be recorded; about a few hundred bytes each.
const BUFFER: usize = 16_384;

/// Records of one batch.
const BATCH: usize = 512;

/// How long a batch may take to fill: the store gets few transactions, and a record is seen soon.
const LINGER: Duration = Duration::from_millis(50);

/// How long the plane may take for a batch before it counts as away.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pauses between two tries.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Takes in calls to be recorded. Cloning is cheap.
#[derive(Clone)]
pub struct Recorder {
    buffer: mpsc::Sender<SyncCall>,
    rate: Arc<Rate>,
    metrics: Arc<RecorderMetrics>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

/// The task that sends what a [`Recorder`] takes in.
#[derive(Debug)]
pub struct RecorderTask {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Starts to record by `plane`, at most `per_second` calls if that is given; others are dropped and
    /// counted.
    pub fn start(
        plane: Arc<dyn CallPlane>,
        per_second: Option<u32>,
        metrics: RecorderMetrics,
    ) -> (Self, RecorderTask) {
        let (buffer, waiting) = mpsc::channel(BUFFER);
        let metrics = Arc::new(metrics);
        let stop = CancellationToken::new();
        let sender = Sender {
            plane,
            waiting,
            metrics: Arc::clone(&metrics),
            stop: stop.clone(),
        };
        let task = tokio::spawn(sender.run());
        let rate = Arc::new(Rate::new(per_second, std::time::Instant::now()));
        let recorder = Self {
            buffer,
            rate,
            metrics,
        };
        (recorder, RecorderTask { stop, task })
    }

    /// Whether a call that arrived at `arrived` is to be recorded; if not, it is counted as dropped.
    pub(crate) fn admits(&self, arrived: std::time::Instant) -> bool {
        let admitted = self.rate.admits(arrived);
        if !admitted {
            self.metrics.dropped(1);
        }
        admitted
    }

    /// Begins to record `call`, which is recorded as cancelled unless its end is told.
    pub(crate) fn begin(&self, call: SyncCall) -> Recording {
        Recording {
            recorder: self.clone(),
            call: Some(Box::new(call)),
        }
    }

    fn take(&self, call: SyncCall) {
        if self.buffer.try_send(call).is_err() {
            self.metrics.dropped(1);
        }
    }
}

impl RecorderTask {
    /// Sends what is there, for at most `patience`; what is left is dropped and counted. Call it when
    /// no call comes any more.
    pub async fn stop(mut self, patience: Duration) {
        self.stop.cancel();
        if timeout(patience, &mut self.task).await.is_err() {
            tracing::warn!("records of calls were dropped: the API nodes do not take them");
            self.task.abort();
        }
    }
}

/// A call that will be recorded.
pub(crate) struct Recording {
    recorder: Recorder,
    call: Option<Box<SyncCall>>,
}

impl Recording {
    /// The function has answered with `status`; the output may still be on its way.
    pub(crate) fn answered(&mut self, timings: &CallTimings, status: http::StatusCode) {
        if let Some(call) = &mut self.call {
            call.answered(timings, status);
        }
    }

    /// The same body, at whose end the call is recorded.
    pub(crate) fn follow(self, body: Body) -> Body {
        followed::follow(body, self)
    }

    /// The call is over, and the client has its answer.
    pub(crate) fn succeeded(mut self) {
        if let Some(call) = &mut self.call {
            call.ended(None);
        }
    }

    /// The call is over.
    pub(crate) fn failed(mut self, error: &domain::ApiError) {
        if let Some(call) = &mut self.call {
            call.ended(Some(error.clone()));
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(mut call) = self.call.take() {
            if call.end.is_none() {
                call.ended(Some(ErrorCode::ClientCancelled.into()));
            }
            self.recorder.take(*call);
        }
    }
}

/// Sends records in batches.
struct Sender {
    plane: Arc<dyn CallPlane>,
    waiting: mpsc::Receiver<SyncCall>,
    metrics: Arc<RecorderMetrics>,
    stop: CancellationToken,
}

impl Sender {
    async fn run(mut self) {
        let mut calls = Vec::with_capacity(BATCH);
        loop {
            let received = self.waiting.recv_many(&mut calls, BATCH);
            match self.stop.run_until_cancelled(received).await {
                Some(0) => return,
                Some(_) => {}
                // What is in the buffer is still to be sent.
                None => {
                    if self.waiting.is_empty() && calls.is_empty() {
                        return;
                    }
                }
            }
            // Nobody is woken meanwhile, so that a call costs no switch of tasks.
            if calls.len() < BATCH {
                let _ = self.stop.run_until_cancelled(sleep(LINGER)).await;
            }
            while calls.len() < BATCH
                && let Ok(call) = self.waiting.try_recv()
            {
                calls.push(call);
            }
            let records: Vec<_> = calls.drain(..).map(SyncCall::into_record).collect();
            self.send(records).await;
        }
    }

    /// Sends a batch until it is taken. Sending it twice changes nothing.
    async fn send(&self, records: Vec<CallRecord>) {
        let count = records.len() as u64;
        let mut lost = Lost {
            metrics: &self.metrics,
            count,
        };
        let mut pause = RETRY_MIN;
        loop {
            let began = Instant::now();
            let sending = self.plane.record(records.clone());
            match timeout_at(began + PATIENCE, sending).await {
                Ok(Ok(())) => {
                    lost.count = 0;
                    self.metrics.recorded(count);
                    return;
                }
                Ok(Err(error)) if error.code() != ErrorCode::StoreUnavailable => {
                    tracing::warn!(?error, count, "records of calls were refused");
                    return;
                }
                Ok(Err(error)) => tracing::debug!(?error, "records of calls wait"),
                Err(_) => tracing::debug!("records of calls wait: the API node is silent"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }
}

impl Drop for Sender {
    /// The task was ended before the buffer was empty.
    fn drop(&mut self) {
        self.metrics.dropped(self.waiting.len() as u64);
    }
}

/// Counts a batch that was not sent, also when its task is ended.
struct Lost<'a> {
    metrics: &'a RecorderMetrics,
    count: u64,
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        self.metrics.dropped(self.count);
    }
}
