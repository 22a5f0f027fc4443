//! What one call adds to the metrics of the runner (spec/10 10.2).

use domain::{ApiError, ErrorCode};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::metrics::RunnerMetrics;
use crate::stream::{Cause, Outcome, Report};

/// The account of one call, from its arrival to the end of its answer. Dropping it says that the
/// caller has gone away.
pub(super) struct CallAccount {
    metrics: RunnerMetrics,
    stage: Stage,
    /// Keeps the agent from closing under the call.
    _session: TaskTrackerToken,
}

#[derive(PartialEq)]
enum Stage {
    Queued,
    Running,
    Over,
}

impl CallAccount {
    pub(super) fn new(metrics: &RunnerMetrics, session: TaskTrackerToken) -> Self {
        metrics.calls.inc();
        Self::again(metrics, session)
    }

    /// The account of a call that waits once more; see [`CallAccount::not_sent`].
    pub(super) fn again(metrics: &RunnerMetrics, session: TaskTrackerToken) -> Self {
        metrics.queued.add(1);
        Self {
            metrics: metrics.clone(),
            stage: Stage::Queued,
            _session: session,
        }
    }

    /// The execution starts.
    pub(super) fn started(mut self) -> Self {
        self.metrics.queued.add(-1);
        self.metrics.running.add(1);
        self.stage = Stage::Running;
        self
    }

    /// The call failed before its execution started.
    pub(super) fn failed(mut self, error: &ApiError) {
        self.leave_stage();
        match error.code() {
            ErrorCode::ServerBusy => self.metrics.server_busy.inc(),
            ErrorCode::ImagePullTimeout | ErrorCode::ContainerInitTimeout => {
                self.metrics.timeouts.inc()
            }
            _ => self.metrics.errors.inc(),
        }
    }

    /// The execution is over.
    pub(super) fn ended(mut self, report: &Report) {
        self.leave_stage();
        let metrics = &self.metrics;
        match (&report.outcome, report.failed) {
            (Outcome::Reusable(_), None) => metrics.completed.inc(),
            (_, Some(ErrorCode::CallTimeout)) | (Outcome::Broken(Cause::TimedOut), _) => {
                metrics.timeouts.inc()
            }
            (_, Some(ErrorCode::ClientCancelled)) | (Outcome::Broken(Cause::Abandoned), _) => {
                metrics.canceled.inc()
            }
            _ => metrics.errors.inc(),
        }
    }

    /// The function has not seen the call: it gets another container, or none for reasons that are
    /// not this runner's.
    pub(super) fn not_sent(mut self) {
        self.leave_stage();
    }

    fn leave_stage(&mut self) {
        match self.stage {
            Stage::Queued => self.metrics.queued.add(-1),
            Stage::Running => self.metrics.running.add(-1),
            Stage::Over => {}
        }
        self.stage = Stage::Over;
    }
}

impl Drop for CallAccount {
    fn drop(&mut self) {
        if self.stage != Stage::Over {
            self.leave_stage();
            self.metrics.canceled.inc();
        }
    }
}
