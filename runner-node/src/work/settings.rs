//! What the loop of durable calls needs to know.

use std::time::Duration;

use crate::config::RunnerConfig;
use crate::resources::{MIB, Resources};

/// What a function holds if it does not say.
const USUAL_MEMORY: u64 = 128 * MIB;
/// A call is in hand a little longer than it has its container.
const CALLS_PER_CONTAINER: u64 = 2;
const FEWEST_CALLS: u64 = 4;
const MOST_CALLS: u64 = 256;

/// Settings of the loop.
#[derive(Debug, Clone)]
pub struct Settings {
    /// No more work is asked for while so many hundredths of memory or CPU are at work.
    pub high_water_percent: u64,
    /// The most calls in hand; none: as the node's memory allows.
    pub max_calls: Option<u32>,
    /// The longest that a call waits for a container before it is given back.
    pub max_wait: Duration,
    /// The most of an answer's body that is kept, in bytes.
    pub max_result_bytes: usize,
}

impl Settings {
    /// As configured, for answers of which so much is kept.
    pub fn new(config: &RunnerConfig, max_result_bytes: usize) -> Self {
        Self {
            high_water_percent: config.async_high_water,
            max_calls: Some(config.async_max_calls).filter(|calls| *calls > 0),
            max_wait: config.async_wait_msecs.unwrap_or(LONGEST_WAIT),
            max_result_bytes,
        }
    }

    /// The most calls in hand on a node that has `total`.
    pub(super) fn capacity(&self, total: Resources) -> u32 {
        let derived = (total.memory_bytes / USUAL_MEMORY).saturating_mul(CALLS_PER_CONTAINER);
        let derived = derived.clamp(FEWEST_CALLS, MOST_CALLS);
        self.max_calls
            .unwrap_or_else(|| u32::try_from(derived).unwrap_or(u32::MAX))
    }
}

/// A call that waits for longer should rather be had by another runner.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_node_takes_more_calls() {
        let settings = Settings {
            high_water_percent: 80,
            max_calls: None,
            max_wait: LONGEST_WAIT,
            max_result_bytes: 0,
        };
        let capacity = |memory_bytes| {
            settings.capacity(Resources {
                memory_bytes,
                cpu_millis: 1000,
            })
        };
        assert_eq!(capacity(64 * MIB), 4);
        assert_eq!(capacity(4096 * MIB), 64);
        assert_eq!(capacity(u64::MAX), 256);
    }
}
