//! The metrics of the queue of doorbells.

use nodekit::metrics::{Counter, Gauge, Metrics};

/// What is measured of a queue.
#[derive(Debug, Clone)]
pub struct QueueMetrics {
    up: Gauge,
    blocked: Gauge,
    published: Counter,
    confirmed: Counter,
    returned: Counter,
    nacked: Counter,
    delivered: Counter,
    malformed: Counter,
    dead_letters: Gauge,
}

impl QueueMetrics {
    /// Registers them.
    pub fn new(metrics: &mut Metrics) -> Self {
        Self {
            up: metrics.gauge("fn_mq_up", "Whether the queue can be reached: 1 or 0"),
            blocked: metrics.gauge(
                "fn_mq_blocked",
                "Whether the broker takes no messages for want of memory or disk: 1 or 0",
            ),
            published: metrics.counter(
                "fn_mq_published_count",
                "Doorbells that were to be published",
            ),
            confirmed: metrics.counter(
                "fn_mq_confirmed_count",
                "Doorbells that the broker has confirmed",
            ),
            returned: metrics.counter(
                "fn_mq_returned_count",
                "Doorbells that the broker sent back, since there was no queue for them",
            ),
            nacked: metrics.counter("fn_mq_nacked_count", "Doorbells that the broker refused"),
            delivered: metrics.counter(
                "fn_mq_delivered_count",
                "Doorbells that were taken from the queue",
            ),
            malformed: metrics.counter(
                "fn_mq_malformed_count",
                "Messages that were no doorbells, and went to the dead letters",
            ),
            dead_letters: metrics.gauge(
                "fn_mq_dead_letters",
                "Messages in the queue of dead letters",
            ),
        }
    }

    pub(super) fn up(&self, up: bool) {
        self.up.set(i64::from(up));
    }

    pub(super) fn blocked(&self, blocked: bool) {
        self.blocked.set(i64::from(blocked));
    }

    /// Messages were published; which of them were confirmed.
    pub(super) fn published(&self, confirmed: &[bool]) {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        self.published.add(count(confirmed.len()));
        self.confirmed
            .add(count(confirmed.iter().filter(|yes| **yes).count()));
    }

    pub(super) fn returned(&self) {
        self.returned.inc();
    }

    pub(super) fn nacked(&self) {
        self.nacked.inc();
    }

    pub(super) fn delivered(&self) {
        self.delivered.inc();
    }

    pub(super) fn malformed(&self) {
        self.malformed.inc();
    }

    pub(super) fn dead_letters(&self, count: u32) {
        self.dead_letters.set(i64::from(count));
    }
}

#[cfg(test)]
impl QueueMetrics {
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.get() == 1
    }

    pub(super) fn count_dead(&self) -> i64 {
        self.dead_letters.get()
    }

    pub(super) fn count_malformed(&self) -> u64 {
        self.malformed.get()
    }

    pub(super) fn count_returned(&self) -> u64 {
        self.returned.get()
    }
}
