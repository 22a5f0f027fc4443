//! The cache that keeps the control plane off the path of a call (DESIGN 3): whole targets, found
//! by function id or by trigger with one lookup.

mod key;
mod shard;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::{ApiError, ErrorCode, FnId, FnSpec, TriggerKind};
use futures_util::FutureExt as _;
use nodekit::exchange::Target;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use self::key::{Key, KeyRef};
use self::shard::{Load, Lookup, Outcome, Reach, Shard, Ticket};
use crate::control_plane::ControlPlane;

/// Enough that two cores rarely meet at one lock, few enough that a change is cheap.
const SHARDS: usize = 16;

/// Enough to notice soon that the control plane is back, few enough that a long list of stale answers
/// is no storm of questions.
const MAX_PROBES: usize = 8;

/// How long and how much is kept.
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// How long an answer is used without asking again; changes that are announced end it at once.
    pub ttl: Duration,
    /// Since when it was loaded, a stale answer is used while the control plane cannot be reached.
    pub stale_limit: Duration,
    /// How long a lookup waits for a control plane that does not answer before it uses a stale
    /// answer. From then on until the control plane answers again, stale answers are used at once.
    pub stale_wait: Duration,
    /// How long a stale answer is used before the control plane is tried again.
    pub stale_retry: Duration,
    /// How long the control plane may take for an answer before it counts as unreachable.
    pub load_timeout: Duration,
    /// How many answers are kept; the one that was loaded longest ago makes room.
    pub capacity: usize,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(5),
            stale_limit: Duration::from_secs(600),
            stale_wait: Duration::from_millis(100),
            stale_retry: Duration::from_secs(1),
            load_timeout: Duration::from_secs(5),
            capacity: 16_384,
        }
    }
}

/// Targets by function id and by trigger, loaded from a control plane.
///
/// - An answer is used for [`CacheSettings::ttl`], counted from the start of its load.
/// - A change that was announced before a lookup is seen by that lookup; there is no task between.
/// - Errors, "not found" among them, are not kept.
/// - Those who ask the same at the same time share one load, which lives as long as one of them.
/// - Answers outlive the control plane by [`CacheSettings::stale_limit`], unless a change ended them;
///   those of which a change may have been missed, too. While it is gone nobody waits for it who can
///   be given such an answer.
#[derive(Clone)]
pub struct CachedControlPlane {
    shared: Arc<Inner>,
}

struct Inner {
    control: Arc<dyn ControlPlane>,
    load_timeout: Duration,
    stale_wait: Duration,
    /// The control plane could not be reached the last time.
    gone: AtomicBool,
    /// Loads without an asker, which find out whether it is back.
    probes: Arc<Semaphore>,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

impl CachedControlPlane {
    /// An empty cache of what `control` answers.
    pub fn new(control: Arc<dyn ControlPlane>, settings: CacheSettings) -> Self {
        let changes = control.changes();
        let of_shard = CacheSettings {
            capacity: settings.capacity.div_ceil(SHARDS).max(1),
            ..settings.clone()
        };
        let shards = (0..SHARDS)
            .map(|_| Mutex::new(Shard::new(changes.resubscribe(), of_shard.clone())))
            .collect();
        Self {
            shared: Arc::new(Inner {
                control,
                load_timeout: settings.load_timeout,
                stale_wait: settings.stale_wait,
                gone: AtomicBool::new(false),
                probes: Arc::new(Semaphore::new(MAX_PROBES)),
                hasher: RandomState::new(),
                shards,
            }),
        }
    }

    /// The function with this id.
    ///
    /// # Errors
    /// `FnNotFound`, `AppNotFound`; `StoreUnavailable` when the control plane cannot be reached and
    /// nothing usable is kept; what else the control plane says.
    pub async fn target_by_fn(&self, fn_id: &str) -> Result<Arc<Target>, ApiError> {
        self.target(KeyRef::Fn(fn_id)).await
    }

    /// The function behind the HTTP trigger of the app named `app_name` with exactly this source.
    ///
    /// # Errors
    /// `AppNotFound`, `TriggerNotFound`, `FnNotFound`, in this order; `StoreUnavailable` as for
    /// [`Self::target_by_fn`].
    pub async fn target_by_trigger(
        &self,
        app_name: &str,
        source: &str,
    ) -> Result<Arc<Target>, ApiError> {
        self.target(KeyRef::Trigger { app_name, source }).await
    }

    async fn target(&self, key: KeyRef<'_>) -> Outcome {
        let (reach, permit) = self.shared.reach();
        let found = self
            .shared
            .shard(key)
            .lookup(key, Instant::now(), reach, |ticket| {
                let in_flight = InFlight {
                    shared: Arc::clone(&self.shared),
                    key: key.to_key(),
                    ticket,
                };
                in_flight.run().boxed().shared()
            });
        match found {
            Lookup::Known(target) => Ok(target),
            Lookup::Wait(load, None) => load.await,
            Lookup::Wait(load, Some(stale)) => {
                match timeout(self.shared.stale_wait, load.clone()).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        self.shared.gone.store(true, Ordering::Relaxed);
                        self.shared.probe(load, None);
                        Ok(stale)
                    }
                }
            }
            Lookup::Stale(stale, load) => {
                if let Some(load) = load {
                    self.shared.probe(load, permit);
                }
                Ok(stale)
            }
        }
    }
}

impl Inner {
    fn shard(&self, key: KeyRef<'_>) -> MutexGuard<'_, Shard> {
        // The remainder is below the number of shards, which is small.
        let at = self.hasher.hash_one(key) as usize % self.shards.len();
        // What a panic leaves behind is still a cache.
        self.shards[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the control plane, and the permit to find out more.
    fn reach(&self) -> (Reach, Option<OwnedSemaphorePermit>) {
        if !self.gone.load(Ordering::Relaxed) {
            return (Reach::Answers, None);
        }
        let permit = Arc::clone(&self.probes).try_acquire_owned().ok();
        let probe = permit.is_some();
        (Reach::Gone { probe }, permit)
    }

    /// Keeps `load` going without an asker; it ends by its own time-out. Without room for another
    /// one, its other askers have to.
    fn probe(&self, load: Load, permit: Option<OwnedSemaphorePermit>) {
        let permit = permit.or_else(|| Arc::clone(&self.probes).try_acquire_owned().ok());
        if let Some(permit) = permit {
            tokio::spawn(async move {
                let _permit = permit;
                // Whoever asks next gets what it brought.
                let _ = load.await;
            });
        }
    }

    async fn load(&self, key: &Key) -> Outcome {
        let control = &*self.control;
        let (app, func, trigger_id) = match key {
            Key::Fn(id) => {
                let func = control.func(&FnId::from(&**id)).await?;
                (control.app(&func.app_id).await?, func, None)
            }
            Key::Trigger { app_name, source } => {
                let app = control.app_by_name(app_name).await?;
                let trigger = control
                    .trigger_by_source(&app.id, TriggerKind::Http, source)
                    .await?;
                let func = control.func(&trigger.fn_id).await?;
                (app, func, Some(trigger.id.clone()))
            }
        };
        Ok(Target::through(trigger_id, FnSpec::new(&app, &func)))
    }
}

/// A load under way; it clears its place when it ends or when nobody waits for it any more.
struct InFlight {
    shared: Arc<Inner>,
    key: Key,
    ticket: Ticket,
}

impl InFlight {
    async fn run(self) -> Outcome {
        let outcome = match timeout(self.shared.load_timeout, self.shared.load(&self.key)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ApiError::from(ErrorCode::StoreUnavailable)
                .detail("the control plane did not answer in time")),
        };
        let gone = match &outcome {
            Err(error) if error.code() == ErrorCode::StoreUnavailable => {
                tracing::debug!(?error, key = ?self.key, "the control plane cannot be reached");
                true
            }
            _ => false,
        };
        if self.shared.gone.swap(gone, Ordering::Relaxed) != gone {
            match gone {
                true => {
                    tracing::warn!("the control plane cannot be reached; what is known is used")
                }
                false => tracing::info!("the control plane answers again"),
            }
        }
        let mut shard = self.shared.shard(self.key.as_ref());
        shard.settle(&self.key, self.ticket, outcome, Instant::now())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared
            .shard(self.key.as_ref())
            .forget(&self.key, self.ticket);
    }
}
