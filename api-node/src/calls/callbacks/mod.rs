//! Posts the outcomes of calls to callback URLs, from an outbox of the store (docs/callbacks.md).
//! What becomes of a callback never changes its call.

mod document;
mod network;
mod pool;
mod post;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domain::{ApiError, ErrorCode};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use url::Url;

pub use network::{Network, NoNetwork};
pub(super) use post::Poster;

use self::pool::Pool;
use self::post::PostError;
use super::metrics::CallsMetrics;
use super::panics::caught;
use super::reconcile::Job;
use super::settings::CallbackSettings;
use crate::store::{CallStore, CallbackDelivery, Clock};

/// The first pause between two tries; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Beside the try itself, what it takes to begin and to note it.
const LEASE_MARGIN: Duration = Duration::from_secs(20);
/// One that is taken may wait for so many others before it.
const TURNS: u32 = 2;
/// How often more is taken while much is waiting here, and how many then: those of other hosts may be
/// far behind.
const CROWDED: Duration = Duration::from_secs(1);
const CROWDED_LIMIT: u32 = 256;
/// How much of what went wrong is noted, in bytes.
const MAX_ERROR: usize = 500;

/// Makes the callbacks that are due, many at once: those that end make room for others, whatever the
/// slowest of them is waiting for.
pub(super) struct Callbacks {
    makes: Arc<Makes>,
    pool: Pool<CallbackDelivery>,
    /// Each ends with the host that it was for.
    under_way: JoinSet<String>,
    /// Nothing is taken before.
    crowded_until: Option<Instant>,
    /// One that ends makes room for others that are known.
    more: Arc<AtomicBool>,
    nudge: Arc<Notify>,
}

/// What each delivery needs.
pub(super) struct Makes {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) poster: Poster,
    pub(super) settings: CallbackSettings,
    pub(super) metrics: CallsMetrics,
    pub(super) clock: Clock,
}

#[async_trait]
impl Job for Callbacks {
    const NAME: &'static str = "callbacks";
    const EVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

    async fn work(&mut self) -> Result<bool, ApiError> {
        while let Some(ended) = self.under_way.try_join_next() {
            // The task catches panics, and is not aborted.
            self.pool.ended(&ended.map_err(ApiError::internal)?);
        }
        self.make();
        let now = Instant::now();
        let most = self.makes.settings.parallel;
        let crowded = self.pool.waiting() >= usize::try_from(most).unwrap_or(usize::MAX);
        if crowded && self.crowded_until.is_some_and(|until| now < until) {
            return Ok(false);
        }
        self.crowded_until = Some(now + CROWDED);
        let timeout = self.makes.settings.timeout;
        // A try may have no limit at all.
        let waits = timeout.saturating_mul(TURNS).min(LONGEST_PAUSE);
        let until = now + waits;
        let lease = waits.saturating_add(timeout).saturating_add(LEASE_MARGIN);
        let limit = if crowded {
            CROWDED_LIMIT.max(most)
        } else {
            most
        };
        let due = self.makes.store.due_callbacks(lease, limit).await?;
        let (found, mut left) = (due.len(), 0);
        for delivery in due {
            if !self.pool.add(host_of(&delivery), until, delivery) {
                left += 1;
            }
        }
        if left > 0 {
            tracing::debug!(
                left,
                "callbacks are left to their leases: too many wait for a host"
            );
        }
        self.make();
        let all = found < usize::try_from(limit).unwrap_or(usize::MAX);
        let more = !all || self.pool.waiting() > 0;
        self.more.store(more, Ordering::Relaxed);
        Ok(!all)
    }
}

/// Where a callback goes; the same for all ports and paths of a host.
fn host_of(delivery: &CallbackDelivery) -> String {
    let url = Url::parse(&delivery.url).ok();
    let host = url.as_ref().and_then(Url::host_str);
    host.unwrap_or_default().to_owned()
}

impl Callbacks {
    /// Nothing is under way; `nudge` is what the job listens to.
    pub(super) fn new(makes: Makes, nudge: Arc<Notify>) -> Self {
        Self {
            pool: Pool::new(makes.settings.parallel),
            makes: Arc::new(makes),
            under_way: JoinSet::new(),
            crowded_until: None,
            more: Arc::default(),
            nudge,
        }
    }

    /// Begins as many as may be made at once.
    fn make(&mut self) {
        while let Some((host, delivery)) = self.pool.next(Instant::now()) {
            let makes = Arc::clone(&self.makes);
            let (more, nudge) = (Arc::clone(&self.more), Arc::clone(&self.nudge));
            self.under_way.spawn(async move {
                let call = delivery.call.id.clone();
                // One that cannot be made must not end the others: it is tried when its lease is over.
                if let Err(error) = caught(makes.deliver(delivery)).await {
                    tracing::warn!(%call, ?error, "a callback is left to its lease");
                }
                if more.load(Ordering::Relaxed) {
                    nudge.notify_one();
                }
                host
            });
        }
    }
}

impl Makes {
    async fn deliver(&self, delivery: CallbackDelivery) -> Result<(), ApiError> {
        let result = match self.store.call_result(&delivery.call.id).await {
            Ok(result) => Some(result),
            Err(error)
                if matches!(
                    error.code(),
                    ErrorCode::CallResultNotFound | ErrorCode::CallNotFound
                ) =>
            {
                None
            }
            Err(error) => return Err(error),
        };
        let document = document::of(&delivery.call, result.as_ref());
        let (delivered, again, error) = match self.poster.post(&delivery, document).await {
            Ok(()) => {
                self.metrics.callback("delivered");
                (true, None, None)
            }
            Err(error) => {
                let again = self.again(&delivery, &error);
                let outcome = again.map_or("given_up", |_| "failed");
                self.metrics.callback(outcome);
                let mut text = error.to_string();
                text.truncate(text.floor_char_boundary(MAX_ERROR));
                let call = &delivery.call.id;
                tracing::info!(%call, error = text, outcome, "a callback failed");
                (false, again, Some(text))
            }
        };
        self.store
            .end_callback(&delivery.id, delivered, again, error.as_deref())
            .await
    }

    /// When to try again; never if that is too late, or useless.
    fn again(&self, delivery: &CallbackDelivery, error: &PostError) -> Option<Duration> {
        if error.is_final() {
            return None;
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1 << delivery.tries.min(12))
            .min(LONGEST_PAUSE);
        let since = delivery.call.completed_at.unix_millis();
        let age = (self.clock)().unix_millis().saturating_sub(since);
        let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
        (age.saturating_add(pause) <= self.settings.retry_for).then_some(pause)
    }
}
