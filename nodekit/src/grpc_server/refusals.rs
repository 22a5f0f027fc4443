//! The log of connections that were refused: one line at a time, however many there are.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two lines.
const PERIOD: Duration = Duration::from_secs(1);

/// Counts refusals between two lines of the log.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Unsaid>);

#[derive(Debug, Default)]
struct Unsaid {
    last_line: Option<Instant>,
    count: u64,
}

impl Refusals {
    /// Logs that `peer` was refused, unless somebody was just now; then it is counted.
    pub(super) fn warn(&self, peer: SocketAddr, reason: impl Display) {
        if let Some(others) = self.admit(Instant::now()) {
            tracing::warn!(%peer, %reason, others, "gRPC connection refused");
        }
    }

    /// The number of refusals that were not logged, if this one is to be.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut unsaid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if unsaid.last_line.is_some_and(|last| now < last + PERIOD) {
            unsaid.count += 1;
            return None;
        }
        unsaid.last_line = Some(now);
        Some(std::mem::take(&mut unsaid.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_per_period() {
        let refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.admit(start), Some(0));
        assert_eq!(refusals.admit(start), None);
        assert_eq!(refusals.admit(start + PERIOD / 2), None);
        assert_eq!(refusals.admit(start + PERIOD), Some(2));
        assert_eq!(refusals.admit(start + PERIOD * 2), Some(0));
    }
}
