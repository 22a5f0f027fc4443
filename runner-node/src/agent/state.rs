//! Where one container is in its life, told to the metrics at every move.

use std::time::Instant;

use domain::ContainerState;

use crate::metrics::OwnerMetrics;

/// The state of one container. Dropping it means that the container is gone.
#[derive(Debug)]
pub(super) struct StateTracker {
    state: ContainerState,
    since: Instant,
    metrics: OwnerMetrics,
}

impl StateTracker {
    /// A container that waits for resources.
    pub(super) fn new(metrics: OwnerMetrics) -> Self {
        metrics.entered(ContainerState::Wait);
        Self {
            state: ContainerState::Wait,
            since: Instant::now(),
            metrics,
        }
    }

    /// Moves to `next`.
    pub(super) fn enter(&mut self, next: ContainerState) {
        debug_assert!(self.state.can_become(next), "{:?} to {next:?}", self.state);
        let now = Instant::now();
        self.metrics.left(self.state, now - self.since);
        self.metrics.entered(next);
        self.state = next;
        self.since = now;
    }

    /// The container makes room for another.
    pub(super) fn evicted(&self) {
        self.metrics.evicted(self.state);
    }

    /// The state.
    pub(super) fn state(&self) -> ContainerState {
        self.state
    }
}

impl Drop for StateTracker {
    fn drop(&mut self) {
        self.metrics.left(self.state, self.since.elapsed());
    }
}
