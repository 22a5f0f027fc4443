//! The metrics of durable calls on a runner.

use domain::call::{AttemptOutcome, Fault};
use nodekit::label_set;
use nodekit::metrics::{Counter, Family, Gauge, Metrics};

label_set! {
    /// How an attempt ended.
    pub struct OutcomeLabels {
        /// `success`, `error`, `timeout`, `platform`, `permanent`, `returned`, `stopped` or `unreported`.
        outcome: &'static str,
    }
}

/// The metrics; clones share them.
#[derive(Debug, Clone)]
pub struct WorkMetrics {
    /// Calls that API nodes may still send.
    pub credits: Gauge,
    /// Calls whose leases the runner holds.
    pub held: Gauge,
    /// Calls whose functions saw them.
    pub started: Counter,
    /// Leases that ended under their calls.
    pub lost: Counter,
    finished: Family<OutcomeLabels, Counter>,
}

impl WorkMetrics {
    /// Registers them.
    pub fn new(metrics: &mut Metrics) -> Self {
        Self {
            credits: metrics.gauge(
                "fn_async_credits",
                "Durable calls that API nodes may still send to this runner",
            ),
            held: metrics.gauge("fn_async_held", "Durable calls that this runner has in hand"),
            started: metrics.counter(
                "fn_async_started",
                "Attempts of durable calls that functions saw",
            ),
            lost: metrics.counter(
                "fn_async_lost_leases",
                "Attempts of durable calls that were stopped or not counted because their lease was over",
            ),
            finished: metrics.counters(
                "fn_async_finished",
                "Attempts of durable calls that are over, by how they ended",
            ),
        }
    }

    /// An attempt is over.
    pub(super) fn finished(&self, outcome: &'static str) {
        self.finished.handle(&OutcomeLabels { outcome }).inc();
    }
}

/// The word for an outcome.
pub(super) fn word(outcome: &AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Answered { status, .. } if *status < 500 => "success",
        AttemptOutcome::Answered { .. } => "error",
        AttemptOutcome::Failed { fault, .. } => match fault {
            Fault::Function => "error",
            Fault::Timeout => "timeout",
            Fault::Platform => "platform",
            Fault::Permanent => "permanent",
        },
        AttemptOutcome::Returned => "returned",
    }
}
