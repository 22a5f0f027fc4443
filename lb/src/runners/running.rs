//! A call that was sent to a runner: the fleet is told of its end, exactly once.

use std::sync::Arc;

use nodekit::exchange::Target;

use super::table::Shared;
use crate::placement::{Ended, RunnerId};

/// Tells of the end of a call; dropped without, that the caller gave up.
pub(crate) struct Running {
    shared: Arc<Shared>,
    runner: RunnerId,
    address: Arc<str>,
    target: Arc<Target>,
    settled: bool,
}

impl Running {
    /// Tells of the beginning.
    pub(super) fn begin(
        shared: Arc<Shared>,
        runner: RunnerId,
        address: Arc<str>,
        target: Arc<Target>,
    ) -> Self {
        shared.fleet.begun(runner, &target.slot_key, shared.now());
        Self {
            shared,
            runner,
            address,
            target,
            settled: false,
        }
    }

    /// The runner's address.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Tells how the call ended.
    pub(crate) fn settle(mut self, how: Ended) {
        self.end(how);
    }

    fn end(&mut self, how: Ended) {
        self.settled = true;
        let now = self.shared.now();
        let key = &self.target.slot_key;
        self.shared.fleet.ended(self.runner, key, how, now);
        match how {
            Ended::Refused | Ended::Unreachable => return,
            Ended::Done { wait, .. } => {
                self.shared.pace.ended(now);
                let fn_id = &self.target.spec.fn_id;
                self.shared.stats.record(&self.address, fn_id, wait, now);
            }
            Ended::Failed => {}
            Ended::Cancelled => self.shared.metrics.placed_abort(),
        }
        // What it had is free.
        self.shared.waiters.wake(key, 1);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.settled {
            self.end(Ended::Cancelled);
        }
    }
}
