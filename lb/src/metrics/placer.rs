//! The metrics of placement, by the original's names (spec/07 7.5), and of the runners.

use std::time::Duration;

use nodekit::metrics::{Counter, Gauge, Histogram, Metrics, buckets};

use super::millis;

/// What is measured of placement.
#[derive(Debug)]
pub struct PlacerMetrics {
    attempts: Histogram,
    latency: Histogram,
    look_failed: Counter,
    empty: Counter,
    client_cancelled: Counter,
    timeout: Counter,
    shed: Counter,
    placed_ok: Counter,
    placed_error: Counter,
    placed_abort: Counter,
    retry_busy: Counter,
    retry_error: Counter,
    runners: Gauge,
    healthy: Gauge,
    waiting: Gauge,
}

impl PlacerMetrics {
    /// Registers them.
    pub fn new(metrics: &mut Metrics) -> Self {
        Self {
            attempts: metrics.histogram(
                "fn_lb_placer_attempt_count",
                "Runners that a call was sent to until one took it, or it was given up",
                buckets::PLACER_ATTEMPTS,
            ),
            latency: metrics.histogram(
                "fn_lb_placer_latency",
                "From the arrival of a call to the attempt that placed it, in milliseconds",
                buckets::LATENCY_MILLIS,
            ),
            look_failed: metrics.counter(
                "fn_lb_placer_rp_error_count",
                "Times that the list of runners could not be read",
            ),
            empty: metrics.counter(
                "fn_lb_placer_rp_empty_count",
                "Times that a call found the list of runners empty",
            ),
            client_cancelled: metrics.counter(
                "fn_lb_placer_client_cancelled_count",
                "Calls whose client went away before they were placed",
            ),
            timeout: metrics.counter(
                "fn_lb_placer_timeout_count",
                "Calls that no runner took in time",
            ),
            shed: metrics.counter(
                "fn_lb_placer_shed_count",
                "Calls that were turned away because too many were waiting",
            ),
            placed_ok: metrics.counter(
                "fn_lb_placer_placed_ok_count",
                "Calls that a runner took and answered",
            ),
            placed_error: metrics.counter(
                "fn_lb_placer_placed_error_count",
                "Calls that a runner took and failed",
            ),
            placed_abort: metrics.counter(
                "fn_lb_placer_placed_abort_count",
                "Calls whose client went away after a runner took them",
            ),
            retry_busy: metrics.counter(
                "fn_lb_placer_retry_busy_count",
                "Attempts that a runner refused for want of room",
            ),
            retry_error: metrics.counter(
                "fn_lb_placer_retry_error_count",
                "Attempts that did not reach a runner",
            ),
            runners: metrics.gauge("fn_lb_runners", "Runners that are known"),
            healthy: metrics.gauge("fn_lb_runners_healthy", "Runners that are given calls"),
            waiting: metrics.gauge("fn_lb_waiting", "Calls that wait for a runner"),
        }
    }

    pub(crate) fn placed(&self, attempts: u32, latency: Duration, ok: bool) {
        self.attempts.observe(f64::from(attempts));
        self.latency.observe(millis(latency));
        match ok {
            true => self.placed_ok.inc(),
            false => self.placed_error.inc(),
        }
    }

    pub(crate) fn timed_out(&self, attempts: u32) {
        self.attempts.observe(f64::from(attempts));
        self.timeout.inc();
    }

    pub(crate) fn shed(&self) {
        self.shed.inc();
    }

    pub(crate) fn client_cancelled(&self) {
        self.client_cancelled.inc();
    }

    pub(crate) fn placed_abort(&self) {
        self.placed_abort.inc();
    }

    pub(crate) fn look_failed(&self) {
        self.look_failed.inc();
    }

    pub(crate) fn found_none(&self) {
        self.empty.inc();
    }

    pub(crate) fn refused(&self) {
        self.retry_busy.inc();
    }

    pub(crate) fn unreachable(&self) {
        self.retry_error.inc();
    }

    pub(crate) fn runners(&self, known: usize, healthy: usize) {
        self.runners.set(i64::try_from(known).unwrap_or(i64::MAX));
        self.healthy.set(i64::try_from(healthy).unwrap_or(i64::MAX));
    }

    pub(crate) fn waiting(&self, calls: usize) {
        self.waiting.set(i64::try_from(calls).unwrap_or(i64::MAX));
    }
}
