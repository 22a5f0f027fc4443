//! The numbers of calls that a runner tells in its status (spec/08 8.2, 8.4).

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use proto::runner::RunnerStatus;

/// Calls that are there, that came, and that were not refused for being busy.
#[derive(Debug, Default)]
pub(super) struct Counters {
    active: AtomicI32,
    received: AtomicU64,
    handled: AtomicU64,
}

impl Counters {
    /// Writes the numbers into a status.
    pub(super) fn tell(&self, status: &mut RunnerStatus) {
        status.active = self.active.load(Ordering::Relaxed);
        status.requests_received = self.received.load(Ordering::Relaxed);
        status.requests_handled = self.handled.load(Ordering::Relaxed);
    }
}

/// One call. It counts as handled unless it is said to be refused.
#[derive(Debug)]
pub(super) struct Counted {
    counters: Arc<Counters>,
    refused: bool,
}

impl Counted {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        counters.active.fetch_add(1, Ordering::Relaxed);
        counters.received.fetch_add(1, Ordering::Relaxed);
        Self {
            counters,
            refused: false,
        }
    }

    /// The runner is too busy for it.
    pub(super) fn refused(&mut self) {
        self.refused = true;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counters.active.fetch_sub(1, Ordering::Relaxed);
        if !self.refused {
            self.counters.handled.fetch_add(1, Ordering::Relaxed);
        }
    }
}
