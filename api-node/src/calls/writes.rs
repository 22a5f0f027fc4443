//! What is written for calls on the hot path, each kind committed in groups, and what follows from it.
//! What follows happens even if whoever asked has gone away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::call::new_call::Accepted;
use domain::call::{AttemptEnd, LeaseRef};
use domain::{ApiError, CallRecord, CallState, Timestamp};
use nodekit::fail_point::{Step, fail_point};
use tokio::sync::Notify;

use super::batcher::{BatchLimits, Commit};
use super::metrics::CallsMetrics;
use super::relay::Relay;
use crate::store::{Acceptance, CallStore, Clock, Committed, Ended};

/// How long a client waits for its call to be accepted, or a runner for the answer about a lease.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_millis(1900);
/// How long a runner waits until the end of a call is noted; it may ask again.
pub(super) const FINISH_LIMIT: Duration = Duration::from_secs(5);

const SMALL: BatchLimits = BatchLimits {
    items: 128,
    bytes: usize::MAX,
    parallel: 2,
    waiting: 8192,
    waiting_bytes: 0,
};
/// Requests and answers are kept in memory until they are committed.
const LARGE: BatchLimits = BatchLimits {
    items: 64,
    bytes: 4 << 20,
    waiting_bytes: 256 << 20,
    ..SMALL
};
pub(super) const ACCEPT_BATCHES: BatchLimits = LARGE;
pub(super) const FINISH_BATCHES: BatchLimits = LARGE;
pub(super) const START_BATCHES: BatchLimits = SMALL;
pub(super) const RENEW_BATCHES: BatchLimits = SMALL;

/// Beside their bodies, calls are about so big.
const OVERHEAD: usize = 1024;
/// A timer that is a little late finds a call due that a timer in time would find a moment too early.
const SLACK: Duration = Duration::from_millis(5);

/// What follows when calls were written.
#[derive(Clone)]
pub(super) struct Effects {
    pub(super) relay: Relay,
    pub(super) metrics: CallsMetrics,
    pub(super) clock: Clock,
    /// A call with a callback URL is over.
    pub(super) callbacks: Arc<Notify>,
}

impl Effects {
    /// Something was committed of an acceptance of a call that is due in `delay`.
    pub(super) fn accepted(&self, committed: Committed, delay: Duration) -> Accepted {
        if committed.accepted.replayed {
            self.metrics.replayed.inc();
        } else {
            self.metrics.accepted.inc();
            match committed.doorbell {
                Some(doorbell) => self.relay.accepted(doorbell),
                None => self.relay.due_in(delay + SLACK),
            }
        }
        committed.accepted
    }

    /// A call is over, or is queued again later.
    pub(super) fn ended(&self, call: &CallRecord) {
        self.metrics.ended(call);
        if call.status == CallState::Queued {
            self.relay.due_in(self.until(call.due_at) + SLACK);
        } else if call.callback_url.is_some() {
            self.callbacks.notify_one();
        }
    }

    /// How long until `at`; nothing if that is past.
    pub(super) fn until(&self, at: Timestamp) -> Duration {
        let now = (self.clock)().unix_millis();
        let left = at.unix_millis().saturating_sub(now);
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }
}

/// Accepts calls.
pub(super) struct Accept {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) effects: Effects,
}

#[async_trait]
impl Commit for Accept {
    type Item = Acceptance;
    type Answer = Accepted;
    const KEEPS_ABANDONED: bool = false;

    fn weight(item: &Acceptance) -> usize {
        item.call.body.len() + item.call.headers.bytes() + OVERHEAD
    }

    async fn commit(
        &self,
        calls: Vec<Acceptance>,
    ) -> Result<Vec<Result<Accepted, ApiError>>, ApiError> {
        let now = (self.effects.clock)();
        let delays: Vec<Duration> = calls
            .iter()
            .map(|acceptance| self.effects.until(acceptance.call.options.times(now).0))
            .collect();
        let committed = self.store.accept(calls).await?;
        fail_point(Step::AcceptAfterCommit);
        let answers = committed.into_iter().zip(delays);
        Ok(answers
            .map(|(committed, delay)| Ok(self.effects.accepted(committed?, delay)))
            .collect())
    }
}

/// Notes that functions are about to see calls; answers whether the lease holds.
pub(super) struct Start {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) lease: Duration,
}

#[async_trait]
impl Commit for Start {
    type Item = (Arc<str>, LeaseRef);
    type Answer = bool;
    /// A function whose runner was told nothing must not begin.
    const KEEPS_ABANDONED: bool = false;

    async fn commit(
        &self,
        starts: Vec<(Arc<str>, LeaseRef)>,
    ) -> Result<Vec<Result<bool, ApiError>>, ApiError> {
        let mut runners: HashMap<&Arc<str>, Vec<LeaseRef>> = HashMap::new();
        for (runner, lease) in &starts {
            runners.entry(runner).or_default().push(lease.clone());
        }
        let mut held = HashMap::new();
        for (runner, leases) in runners {
            let leases = self.store.start(leases, runner, self.lease).await;
            held.insert(Arc::clone(runner), leases);
        }
        let answers = starts.into_iter().map(|(runner, lease)| {
            let held = held.get(&runner).unwrap_or(&Ok(vec![])).clone()?;
            Ok(held.contains(&lease))
        });
        Ok(answers.collect())
    }
}

/// Renews leases; answers those that hold.
pub(super) struct Renew {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) lease: Duration,
}

#[async_trait]
impl Commit for Renew {
    type Item = (Arc<str>, Vec<LeaseRef>);
    type Answer = Vec<LeaseRef>;
    const KEEPS_ABANDONED: bool = true;

    async fn commit(
        &self,
        renewals: Vec<(Arc<str>, Vec<LeaseRef>)>,
    ) -> Result<Vec<Result<Vec<LeaseRef>, ApiError>>, ApiError> {
        let mut answers = vec![];
        for (runner, leases) in renewals {
            answers.push(self.store.renew(leases, &runner, self.lease).await);
        }
        Ok(answers)
    }
}

/// Ends attempts, each by its runner; answers whether it counts.
pub(super) struct Finish {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) effects: Effects,
    pub(super) random: fn() -> u64,
}

#[async_trait]
impl Commit for Finish {
    type Item = (AttemptEnd, String);
    type Answer = bool;
    /// What a function did must be noted, even if its runner has gone away since.
    const KEEPS_ABANDONED: bool = true;

    fn weight((end, _): &(AttemptEnd, String)) -> usize {
        use domain::call::AttemptOutcome as O;
        let result = match &end.outcome {
            O::Answered { result, .. } => result.body.len() + result.headers.bytes(),
            O::Failed { error, .. } => error.len(),
            O::Returned => 0,
        };
        result + OVERHEAD
    }

    async fn commit(
        &self,
        ends: Vec<(AttemptEnd, String)>,
    ) -> Result<Vec<Result<bool, ApiError>>, ApiError> {
        let ended = self.store.finish(ends, (self.random)()).await?;
        fail_point(Step::FinishBeforeReply);
        let answers = ended.into_iter().map(|ended| {
            Ok(match ended {
                Ended::Accepted { call, doorbell } => {
                    match doorbell {
                        Some(doorbell) => self.effects.relay.ring(doorbell),
                        None => self.effects.ended(&call),
                    }
                    true
                }
                Ended::Refused(_) | Ended::Unknown => {
                    self.effects.metrics.stale_ends.inc();
                    false
                }
            })
        });
        Ok(answers.collect())
    }
}
