//! Reconcilers: jobs that look again and again for what went wrong or is over, on every node. Two of
//! them at the same work do no harm. They look often while this node has calls, and seldom when it
//! has none, so that an idle cluster leaves its database alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domain::{ApiError, CallId, CallState, Timestamp};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::metrics::CallsMetrics;
use super::outage::Outage;
use super::panics::caught;
use super::relay::Relay;
use crate::logs::LogStore;
use crate::queue::Queue;
use crate::store::{CallStore, Clock, Retention};

/// A node that had calls so short a time ago is not idle.
const BUSY_FOR: Duration = Duration::from_secs(30);
/// Calls that one look takes care of; there is another look at once when there may be more.
const LIMIT: u32 = 256;
/// Between two looks that follow at once.
const BREATH: Duration = Duration::from_millis(10);
/// A call can end so long after it was made: its longest delay, its longest expiry, and a day.
const LONGEST_CALL: Duration = Duration::from_secs(29 * 24 * 3600);
/// A call for which nobody has room is rung for so often at least: its message may be lost, too.
const LONGEST_SILENCE: Duration = Duration::from_secs(15 * 60);
/// Of what is old enough, so much is deleted at once: a few thousand calls can be over each second, and
/// whoever writes to a file waits meanwhile.
const RETIRE_LIMIT: u32 = 512;
/// Logs of calls that are unknown are looked for so often.
const PRUNE_LIMIT: usize = 256;

/// A job.
#[async_trait]
pub(super) trait Job: Send + 'static {
    /// For logs.
    const NAME: &'static str;
    /// How often it is done on a node that has calls, and on one that has none.
    const EVERY: (Duration, Duration);

    /// Does some of it; whether there may be more.
    async fn work(&mut self) -> Result<bool, ApiError>;
}

/// When this node had to do with calls, for the pace of the jobs.
pub(super) struct Activity {
    last: AtomicU64,
    clock: Clock,
    /// The node is no longer idle.
    woken: Notify,
}

impl Activity {
    pub(super) fn new(clock: Clock) -> Self {
        let activity = Self {
            last: AtomicU64::new(0),
            clock,
            woken: Notify::new(),
        };
        // What another process left may be much.
        activity.note();
        activity
    }

    /// There is a call.
    pub(super) fn note(&self) {
        let was_busy = self.is_busy();
        self.last.store(self.now(), Ordering::Relaxed);
        if !was_busy {
            self.woken.notify_waiters();
        }
    }

    fn is_busy(&self) -> bool {
        let since = self.now().saturating_sub(self.last.load(Ordering::Relaxed));
        Duration::from_millis(since) < BUSY_FOR
    }

    /// Completes when the pause of a job is over, or it is nudged.
    async fn pause(&self, (busy, idle): (Duration, Duration), nudge: &Notify) {
        let began = Instant::now();
        loop {
            let mut woken = std::pin::pin!(self.woken.notified());
            woken.as_mut().enable();
            let pause = if self.is_busy() { busy } else { idle };
            tokio::select! {
                () = sleep_until(began + pause) => return,
                () = nudge.notified() => return,
                // The pause is shorter now.
                () = woken => {}
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from((self.clock)().unix_millis()).unwrap_or(0)
    }
}

/// Does a job until `stop`; sooner when it is nudged.
pub(super) fn spawn<J: Job>(
    mut job: J,
    activity: Arc<Activity>,
    nudge: Arc<Notify>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) {
    let run = async move {
        let mut outage = Outage::none(J::NAME);
        loop {
            match caught(job.work()).await {
                Ok(more) => {
                    outage.over();
                    if more {
                        sleep(BREATH).await;
                        continue;
                    }
                    // Whether the time is up or somebody nudged, there may be work.
                    activity.pause(J::EVERY, &nudge).await;
                }
                Err(error) => sleep(outage.failed(&error)).await,
            }
        }
    };
    tasks.spawn(async move {
        tokio::select! {
            () = run => {}
            () = stop.cancelled() => {}
        }
    });
}

/// Takes calls back from runners that give no sign of life.
pub(super) struct RecoverLeases {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) relay: Relay,
    pub(super) metrics: CallsMetrics,
}

#[async_trait]
impl Job for RecoverLeases {
    const NAME: &'static str = "lost leases";
    const EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

    async fn work(&mut self) -> Result<bool, ApiError> {
        let doorbells = self.store.recover_leases(LIMIT).await?;
        let found = doorbells.len();
        self.metrics.lease_losses.add(count(found));
        for doorbell in doorbells {
            let lease = &doorbell.lease;
            tracing::info!(%lease, "a call was taken back from its runner");
            self.relay.ring(doorbell);
        }
        Ok(is_full(count(found)))
    }
}

/// Gives up calls that expired.
pub(super) struct Expire {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) metrics: CallsMetrics,
    /// Some of them may have callbacks.
    pub(super) callbacks: Arc<Notify>,
}

#[async_trait]
impl Job for Expire {
    const NAME: &'static str = "expired calls";
    const EVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

    async fn work(&mut self) -> Result<bool, ApiError> {
        let expired = self.store.expire(LIMIT).await?;
        if expired > 0 {
            self.metrics.finished(CallState::Dead, expired);
            self.callbacks.notify_one();
        }
        Ok(is_full(expired))
    }
}

/// Rings again for calls that were forgotten.
pub(super) struct RingAgain {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) relay: Relay,
    pub(super) metrics: CallsMetrics,
    pub(super) silence: Duration,
    pub(super) queue: Arc<dyn Queue>,
    /// When the queue was empty: it was rung for all that was rung for before.
    pub(super) rung_since: Option<Instant>,
}

/// That a doorbell is rung may be noted so long after the broker has confirmed it.
const NOTED_LATE: Duration = Duration::from_secs(1);

#[async_trait]
impl Job for RingAgain {
    const NAME: &'static str = "silent calls";
    const EVERY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(30));

    async fn work(&mut self) -> Result<bool, ApiError> {
        let empty_at = self.queue.empty_at();
        let silence = match empty_at.filter(|_| empty_at != self.rung_since) {
            Some(empty_at) => {
                let all = empty_at.elapsed().saturating_sub(NOTED_LATE);
                let all = all.min(self.silence);
                all..=all
            }
            None => self.silence..=self.silence.max(LONGEST_SILENCE),
        };
        let rung = self.store.ring_again(silence, LIMIT).await?;
        if rung > 0 {
            self.metrics.rung_again.add(rung);
            self.relay.look();
        }
        let more = is_full(rung);
        if !more {
            self.rung_since = empty_at;
        }
        Ok(more)
    }
}

/// Deletes what is old enough.
pub(super) struct Retire {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) logs: Arc<dyn LogStore>,
    pub(super) retention: Retention,
    pub(super) metrics: CallsMetrics,
    pub(super) clock: Clock,
}

#[async_trait]
impl Job for Retire {
    const NAME: &'static str = "retention";
    /// Often where there are calls: a little each time, instead of much at once.
    const EVERY: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

    async fn work(&mut self) -> Result<bool, ApiError> {
        let rows = self.store.retire(self.retention, RETIRE_LIMIT).await?;
        self.metrics.retired.add(rows);
        let more_logs = self.retire_logs().await?;
        Ok(rows >= u64::from(RETIRE_LIMIT) || more_logs)
    }
}

impl Retire {
    /// Deletes logs; whether there may be more. A store of logs that fails has them to delete again.
    async fn retire_logs(&self) -> Result<bool, ApiError> {
        let old = self.store.old_logs(self.retention, RETIRE_LIMIT).await?;
        for part in old.chunks(self.logs.deletes_at_once()) {
            let ids: Vec<CallId> = part.iter().map(|over| over.call_id.clone()).collect();
            self.logs.delete(&ids).await?;
            self.metrics.retired.add(count(ids.len()));
            if let Some(last) = part.last() {
                self.store.logs_are_gone(last).await?;
            }
        }
        Ok(count(old.len()) >= u64::from(RETIRE_LIMIT))
    }
}

/// Deletes logs of which no record tells.
pub(super) struct PruneLogs(pub(super) Retire);

#[async_trait]
impl Job for PruneLogs {
    const NAME: &'static str = "logs without a call";
    const EVERY: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(3600));

    async fn work(&mut self) -> Result<bool, ApiError> {
        let age = self.0.retention.logs.saturating_add(LONGEST_CALL);
        let Some(before) = before((self.0.clock)(), age) else {
            return Ok(false);
        };
        let pruned = self.0.logs.prune(before, PRUNE_LIMIT).await?;
        Ok(pruned >= PRUNE_LIMIT)
    }
}

/// Counts calls by state.
pub(super) struct Count {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) metrics: CallsMetrics,
}

#[async_trait]
impl Job for Count {
    const NAME: &'static str = "numbers of calls";
    const EVERY: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(60));

    async fn work(&mut self) -> Result<bool, ApiError> {
        let counts = self.store.count_calls().await?;
        for state in CallState::ALL {
            let calls = counts.get(state).copied().unwrap_or(0);
            self.metrics.in_state(*state, calls);
        }
        Ok(false)
    }
}

/// Milliseconds since 1970, `age` before `now`; none if that was before.
fn before(now: Timestamp, age: Duration) -> Option<u64> {
    let now = u64::try_from(now.unix_millis()).ok()?;
    now.checked_sub(u64::try_from(age.as_millis()).ok()?)
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn is_full(found: u64) -> bool {
    found >= u64::from(LIMIT)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_job_of_an_idle_node_does_not_sleep_on_when_there_is_a_call() {
        let time = Arc::new(AtomicI64::new(1_000_000));
        let clock = Arc::clone(&time);
        let activity = Activity::new(Arc::new(move || {
            Timestamp::from_unix_millis(clock.load(Ordering::Relaxed))
        }));
        time.store(2_000_000, Ordering::Relaxed);
        let (every, nudge) = (
            (Duration::from_secs(1), Duration::from_secs(1000)),
            Notify::new(),
        );
        let began = Instant::now();
        let call = async {
            sleep(Duration::from_millis(500)).await;
            activity.note();
        };
        tokio::join!(activity.pause(every, &nudge), call);
        assert_eq!(began.elapsed().as_secs(), 1);
        // Without one it is seldom.
        time.store(3_000_000, Ordering::Relaxed);
        activity.pause(every, &nudge).await;
        assert_eq!(began.elapsed().as_secs(), 1001);
    }
}
