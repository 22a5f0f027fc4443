//! What is measured of durable calls.

use std::time::Duration;

use domain::{CallRecord, CallState};
use nodekit::metrics::{Counter, Family, Gauge, Histogram, Metrics, buckets};

nodekit::label_set! {
    /// The label of what is told apart by the state of calls.
    struct StatusLabels {
        /// The state.
        status: &'static str,
    }
}

nodekit::label_set! {
    /// The label of `fn_callbacks`.
    struct CallbackLabels {
        /// `delivered`, `failed` (it is tried again) or `given_up`.
        outcome: &'static str,
    }
}

/// The metrics of durable calls; clones count together.
#[derive(Debug, Clone)]
pub struct CallsMetrics {
    pub(super) accepted: Counter,
    pub(super) replayed: Counter,
    pub(super) started: Counter,
    finished: Family<StatusLabels, Counter>,
    pub(super) stale_ends: Counter,
    pub(super) lease_losses: Counter,
    pub(super) rung_again: Counter,
    pub(super) given_back: Counter,
    pub(super) retired: Counter,
    pub(super) waiting_doorbells: Gauge,
    pub(super) runners: Gauge,
    calls: Family<StatusLabels, Gauge>,
    start_latency: Histogram,
    callbacks: Family<CallbackLabels, Counter>,
}

impl CallsMetrics {
    /// Registers them.
    pub fn new(metrics: &mut Metrics) -> Self {
        Self {
            accepted: metrics.counter("fn_calls_accepted", "Durable calls accepted"),
            replayed: metrics.counter(
                "fn_calls_replayed",
                "Durable calls whose idempotency key was known",
            ),
            started: metrics.counter("fn_calls_started", "Attempts that functions began to run"),
            finished: metrics.counters("fn_calls_finished", "Durable calls that came to an end"),
            stale_ends: metrics.counter(
                "fn_calls_stale_ends",
                "Ends of attempts that were refused because the lease was lost or the end was known",
            ),
            lease_losses: metrics.counter(
                "fn_calls_lease_losses",
                "Calls that were taken back from runners that gave no sign of life",
            ),
            rung_again: metrics.counter(
                "fn_calls_rung_again",
                "Calls that were due and silent, for which the queue was told once more",
            ),
            given_back: metrics.counter(
                "fn_calls_given_back",
                "Calls that were claimed for a runner whose stream broke, and given back",
            ),
            retired: metrics.counter(
                "fn_calls_retired",
                "Rows of calls that were deleted because of their age",
            ),
            waiting_doorbells: metrics.gauge(
                "fn_calls_waiting_doorbells",
                "Doorbells that this node holds until a runner has room",
            ),
            runners: metrics.gauge(
                "fn_calls_runners",
                "Runners that get durable calls from this node",
            ),
            calls: metrics.gauges("fn_calls_in_state", "Calls that are kept, by state"),
            start_latency: metrics.histogram(
                "fn_calls_start_latency",
                "From the time that a call was due to its function's start, in milliseconds",
                buckets::LATENCY_MILLIS,
            ),
            callbacks: metrics.counters("fn_callbacks", "Tries to post an outcome"),
        }
    }

    /// A call has its final state.
    pub(super) fn finished(&self, status: CallState, calls: u64) {
        let status = status.as_str();
        self.finished.handle(&StatusLabels { status }).add(calls);
    }

    /// An attempt ended; perhaps with its call.
    pub(super) fn ended(&self, call: &CallRecord) {
        if call.status.is_final() {
            self.finished(call.status, 1);
        }
    }

    /// So many calls are kept in this state.
    pub(super) fn in_state(&self, status: CallState, calls: u64) {
        let status = status.as_str();
        let calls = i64::try_from(calls).unwrap_or(i64::MAX);
        self.calls.handle(&StatusLabels { status }).set(calls);
    }

    /// A function began to run `waited` after its call was due.
    pub(super) fn start_waited(&self, waited: Duration) {
        self.start_latency.observe(waited.as_secs_f64() * 1000.0);
    }

    /// A try to post an outcome is over.
    pub(super) fn callback(&self, outcome: &'static str) {
        self.callbacks.handle(&CallbackLabels { outcome }).inc();
    }

    /// How many tries to post an outcome ended so.
    #[cfg(test)]
    pub(super) fn callbacks_of(&self, outcome: &'static str) -> u64 {
        self.callbacks.handle(&CallbackLabels { outcome }).get()
    }
}
