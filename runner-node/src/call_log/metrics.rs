//! The metrics of logs of calls.

use nodekit::metrics::{Counter, Metrics};

/// The metrics; clones share them.
#[derive(Debug, Clone)]
pub struct LogMetrics {
    /// Bytes that API nodes have taken.
    pub sent: Counter,
    /// Bytes that were dropped, because API nodes were away for long or did not want them.
    pub dropped: Counter,
}

impl LogMetrics {
    /// Registers them.
    pub fn new(metrics: &mut Metrics) -> Self {
        Self {
            sent: metrics.counter(
                "fn_call_log_bytes",
                "Bytes of logs of calls that API nodes have taken",
            ),
            dropped: metrics.counter(
                "fn_call_log_dropped_bytes",
                "Bytes of logs of calls that were dropped, because API nodes were away for long",
            ),
        }
    }
}
