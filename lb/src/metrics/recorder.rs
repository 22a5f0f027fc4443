//! The metrics of the records of calls whose clients wait.

use nodekit::metrics::{Counter, Metrics};

/// What is counted of records.
#[derive(Debug)]
pub struct RecorderMetrics {
    recorded: Counter,
    dropped: Counter,
}

impl RecorderMetrics {
    /// Registers them.
    pub fn new(metrics: &mut Metrics) -> Self {
        Self {
            recorded: metrics.counter(
                "fn_lb_call_records",
                "Records of sync calls that were handed to an API node",
            ),
            dropped: metrics.counter(
                "fn_lb_call_records_dropped",
                "Records of sync calls that were dropped, because the buffer was full, there were too many in a second, or the node ended",
            ),
        }
    }

    pub(crate) fn recorded(&self, count: u64) {
        self.recorded.add(count);
    }

    pub(crate) fn dropped(&self, count: u64) {
        self.dropped.add(count);
    }
}
