//! The use cases of durable calls: they are accepted, told of through the queue, handed to runners that
//! have room, and brought to one end each. The store is the truth; everything here may be lost at
//! any moment, on any of several API nodes that work on one database side by side.
//!
//! ```text
//! enqueue ─► store ─► relay ─► queue ─► dispatcher ─► runner ─► start, renew, finish ─► store
//!                       ▲                                                                │
//!                       └── retries, delayed calls, what reconcilers find ◄──────────────┘
//! ```

mod batcher;
mod callbacks;
mod dispatch;
mod enqueue;
mod log_gate;
mod metrics;
mod outage;
mod panics;
mod plane;
mod reconcile;
mod relay;
mod settings;
mod snapshots;
mod work;
mod writes;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use domain::call::new_call::Accepted;
use domain::{ApiError, CallId, CallRecord, IdSource};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::batcher::Batcher;
use self::callbacks::{Callbacks, Makes, Poster};
use self::dispatch::{Dispatcher, DispatcherParts};
use self::enqueue::Enqueue;
use self::log_gate::LogGate;
use self::reconcile::{Activity, Count, Expire, PruneLogs, RecoverLeases, Retire, RingAgain};
use self::relay::{Relay, RelaySettings};
use self::snapshots::Snapshots;
use self::writes::{
    ACCEPT_BATCHES, Accept, Effects, FINISH_BATCHES, Finish, RENEW_BATCHES, Renew, START_BATCHES,
    Start,
};
use crate::logs::LogStore;
use crate::queue::Queue;
use crate::store::{CallStore, Clock, Store, wall_clock};

pub use callbacks::{Network, NoNetwork};
pub(crate) use dispatch::MAX_CREDITS;
pub use metrics::CallsMetrics;
pub use settings::{CallbackSettings, CallsSettings};

/// How long each half of the end may take: first what was begun, then what has to be written.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// What the service is made of.
pub struct CallsParts {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// How other nodes are told that calls wait. It is closed with the service.
    pub queue: Arc<dyn Queue>,
    /// Where the logs of calls are kept.
    pub logs: Arc<dyn LogStore>,
    /// Where the ids of calls come from.
    pub ids: Arc<IdSource>,
    /// How it behaves.
    pub settings: CallsSettings,
    /// What it counts.
    pub metrics: CallsMetrics,
}

/// The service of durable calls on this node. Clones share it; when the last one is dropped,
/// everything ends as it is.
#[derive(Clone)]
pub struct Calls(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    logs: Arc<dyn LogStore>,
    log_gate: LogGate,
    ids: Arc<IdSource>,
    settings: CallsSettings,
    clock: Clock,
    effects: Effects,
    activity: Arc<Activity>,
    enqueue: Enqueue,
    starts: Batcher<Start>,
    renewals: Batcher<Renew>,
    ends: Batcher<Finish>,
    dispatcher: Dispatcher,
    /// What looks for work and hands it on; ends first.
    working: TaskTracker,
    stop: DropGuard,
    /// What writes; ends when nothing is left to be written.
    writing: TaskTracker,
    closing: DropGuard,
}

impl Calls {
    /// Starts to publish doorbells, to hand calls to runners and to clean up, until
    /// [`Calls::close`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(parts: CallsParts) -> Self {
        let CallsParts {
            store,
            queue,
            logs,
            ids,
            settings,
            metrics,
        } = parts;
        let calls: Arc<dyn CallStore> = Arc::<dyn Store>::clone(&store);
        let clock = wall_clock();
        let (working, stop) = (TaskTracker::new(), CancellationToken::new());
        let (writing, closing) = (TaskTracker::new(), CancellationToken::new());
        let relay = Relay::start(
            Arc::clone(&calls),
            Arc::clone(&queue),
            RelaySettings {
                window: settings.window,
                ageing: settings.ageing,
            },
            (&working, &writing),
            stop.clone(),
            closing.clone(),
        );
        let effects = Effects {
            relay: relay.clone(),
            metrics: metrics.clone(),
            clock: Arc::clone(&clock),
            callbacks: Arc::new(Notify::new()),
        };
        let accept = Accept {
            store: Arc::clone(&calls),
            effects: effects.clone(),
        };
        let start = Start {
            store: Arc::clone(&calls),
            lease: settings.lease,
        };
        let renew = Renew {
            store: Arc::clone(&calls),
            lease: settings.lease,
        };
        let finish = Finish {
            store: Arc::clone(&calls),
            effects: effects.clone(),
            random,
        };
        let ends = Batcher::start(finish, FINISH_BATCHES, &writing, closing.clone());
        let dispatcher = Dispatcher::start(DispatcherParts {
            store: Arc::clone(&calls),
            queue: Arc::clone(&queue),
            relay,
            ends: ends.clone(),
            lease: settings.lease,
            ageing: settings.ageing,
            direct: settings.direct,
            metrics,
            clock: Arc::clone(&clock),
            tasks: working.clone(),
            stop: stop.clone(),
        });
        let activity = Arc::new(Activity::new(Arc::clone(&clock)));
        let inner = Inner {
            enqueue: Enqueue {
                snapshots: Snapshots::new(Arc::clone(&store)),
                accept: Batcher::start(accept, ACCEPT_BATCHES, &writing, closing.clone()),
                max_body: settings.max_body,
            },
            starts: Batcher::start(start, START_BATCHES, &writing, closing.clone()),
            renewals: Batcher::start(renew, RENEW_BATCHES, &writing, closing.clone()),
            ends,
            store,
            queue,
            logs,
            log_gate: LogGate::default(),
            ids,
            settings,
            clock,
            effects,
            activity,
            dispatcher,
            working,
            stop: stop.drop_guard(),
            writing,
            closing: closing.drop_guard(),
        };
        inner.start_jobs(&calls);
        Self(Arc::new(inner))
    }

    /// Ends everything that was started, and the queue, within seconds. Runners get no more calls;
    /// those that they have can be ended through another node.
    pub async fn close(&self) {
        let inner = &self.0;
        for (tasks, token) in [
            (&inner.working, &inner.stop),
            (&inner.writing, &inner.closing),
        ] {
            token.token().cancel();
            tasks.close();
            if timeout(CLOSE_LIMIT, tasks.wait()).await.is_err() {
                tracing::warn!("calls are still being written while the node ends");
            }
        }
        inner.queue.close().await;
    }

    /// Where everything is kept.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// Where the logs of calls are kept.
    pub fn logs(&self) -> &Arc<dyn LogStore> {
        &self.0.logs
    }

    /// Cancels a call, and tells the runner that has it, if that is connected to this node; others find
    /// out when they renew their leases. A call that was cancelled before is answered as it is.
    ///
    /// # Errors
    /// `CallNotFound`, `CallNotCancellable`, `StoreUnavailable`.
    pub async fn cancel(&self, id: &CallId) -> Result<CallRecord, ApiError> {
        let (inner, id) = (Arc::clone(&self.0), id.clone());
        self.whole(async move {
            let cancelled = inner.store.cancel(&id).await?;
            if cancelled.changed {
                inner.effects.ended(&cancelled.call);
            }
            if let Some((lease, runner)) = &cancelled.was_running {
                inner.dispatcher.cancelled(lease, runner);
            }
            Ok(cancelled.call)
        })
        .await
    }

    /// Makes new calls of dead ones, each with an answer of its own in the same order: `CallNotFound`,
    /// `CallNotDead`, `FnNotFound`. One that was redriven before is answered with the call that was
    /// made then.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn redrive(
        &self,
        ids: Vec<CallId>,
    ) -> Result<Vec<Result<Accepted, ApiError>>, ApiError> {
        let inner = Arc::clone(&self.0);
        self.whole(async move {
            inner.activity.note();
            let now = u64::try_from((inner.clock)().unix_millis()).unwrap_or(0);
            let calls = ids.into_iter().map(|id| (id, inner.ids.next(now).into()));
            let made = inner.store.redrive(calls.collect()).await?;
            let accepted = made.into_iter().map(|made| {
                let made = made?;
                Ok(inner.effects.accepted(made, Duration::ZERO))
            });
            Ok(accepted.collect())
        })
        .await
    }

    /// Deletes dead calls with all that belongs to them, their logs too; returns how many.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn purge(&self, ids: Vec<CallId>) -> Result<u64, ApiError> {
        let inner = Arc::clone(&self.0);
        self.whole(async move {
            let (mut dead, mut purged) = (vec![], 0);
            for id in &ids {
                match inner.store.call(id).await {
                    Ok(call) if call.status == domain::CallState::Dead => dead.push(id.clone()),
                    Ok(_) => {}
                    Err(error) if error.code() == domain::ErrorCode::CallNotFound => {}
                    Err(error) => return Err(error),
                }
            }
            if !dead.is_empty() {
                purged = inner.store.purge(dead.clone()).await?;
                // A log that stays is deleted when it is old enough.
                if let Err(error) = inner.logs.delete(&dead).await {
                    tracing::warn!(?error, "the logs of purged calls were not deleted");
                }
            }
            Ok(purged)
        })
        .await
    }

    /// Does something to its end, even if whoever asked for it goes away meanwhile.
    async fn whole<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let working = self.0.writing.spawn(work);
        working.await.map_err(ApiError::internal)?
    }
}

impl Inner {
    fn start_jobs(&self, calls: &Arc<dyn CallStore>) {
        let (settings, metrics) = (&self.settings, &self.effects.metrics);
        let retire = || Retire {
            store: Arc::clone(calls),
            logs: Arc::clone(&self.logs),
            retention: settings.retention,
            metrics: metrics.clone(),
            clock: Arc::clone(&self.clock),
        };
        self.job(RecoverLeases {
            store: Arc::clone(calls),
            relay: self.effects.relay.clone(),
            metrics: metrics.clone(),
        });
        self.job(Expire {
            store: Arc::clone(calls),
            metrics: metrics.clone(),
            callbacks: Arc::clone(&self.effects.callbacks),
        });
        self.job(RingAgain {
            store: Arc::clone(calls),
            relay: self.effects.relay.clone(),
            metrics: metrics.clone(),
            silence: settings.silence,
            queue: Arc::clone(&self.queue),
            rung_since: None,
        });
        self.job(retire());
        self.job(PruneLogs(retire()));
        self.job(Count {
            store: Arc::clone(calls),
            metrics: metrics.clone(),
        });
        let callbacks = Makes {
            store: Arc::clone(calls),
            poster: Poster::new(&settings.callbacks),
            settings: settings.callbacks.clone(),
            metrics: metrics.clone(),
            clock: Arc::clone(&self.clock),
        };
        let nudge = Arc::clone(&self.effects.callbacks);
        self.nudged_job(Callbacks::new(callbacks, Arc::clone(&nudge)), nudge);
    }

    fn job(&self, job: impl reconcile::Job) {
        self.nudged_job(job, Arc::new(Notify::new()));
    }

    fn nudged_job(&self, job: impl reconcile::Job, nudge: Arc<Notify>) {
        let (activity, stop) = (Arc::clone(&self.activity), self.stop.token().clone());
        reconcile::spawn(job, activity, nudge, &self.working, stop);
    }
}

/// Any number.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests;
