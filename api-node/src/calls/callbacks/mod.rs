//! Posts the outcomes of calls to callback URLs, from an outbox of the store (docs/async.md).
//! What becomes of a callback never changes its call.

mod document;
mod network;
mod post;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::{ApiError, ErrorCode};
use futures_util::future::join_all;

pub use network::{Network, NoNetwork};
pub(super) use post::Poster;

use self::post::PostError;
use super::metrics::CallsMetrics;
use super::reconcile::Job;
use super::settings::CallbackSettings;
use crate::store::{CallStore, CallbackDelivery, Clock};

/// The first pause between two tries; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Beside the try itself, what it takes to begin and to note it.
const LEASE_MARGIN: Duration = Duration::from_secs(20);
/// How much of what went wrong is noted, in bytes.
const MAX_ERROR: usize = 500;

/// Makes the callbacks that are due.
pub(super) struct Callbacks {
    pub(super) store: Arc<dyn CallStore>,
    pub(super) poster: Poster,
    pub(super) settings: CallbackSettings,
    pub(super) metrics: CallsMetrics,
    pub(super) clock: Clock,
}

#[async_trait]
impl Job for Callbacks {
    const NAME: &'static str = "callbacks";
    const EVERY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));

    async fn work(&mut self) -> Result<bool, ApiError> {
        let lease = self.settings.timeout.saturating_add(LEASE_MARGIN);
        let due = self
            .store
            .due_callbacks(lease, self.settings.parallel)
            .await?;
        let found = u32::try_from(due.len()).unwrap_or(u32::MAX);
        let ended = join_all(due.into_iter().map(|delivery| self.deliver(delivery))).await;
        for result in ended {
            result?;
        }
        Ok(found >= self.settings.parallel)
    }
}

impl Callbacks {
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
