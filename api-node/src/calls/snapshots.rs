//! Functions and their apps as accepted calls find them, kept as long as nobody changes them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::call::lease::Snapshot;
use domain::{ApiError, Change, ErrorCode, FnId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::{Instant, timeout};

use crate::store::Store;

/// Changes are told; this is for those that were not.
const TTL: Duration = Duration::from_secs(5);
/// When so many are kept, all are forgotten.
const CAPACITY: usize = 10_000;
/// The longest that a client waits for a store that does not answer.
const LOAD_TIMEOUT: Duration = Duration::from_millis(1800);

/// A cache of snapshots. What was changed before a look-up is seen by it.
pub(super) struct Snapshots<S: ?Sized> {
    store: Arc<S>,
    known: Mutex<Known>,
}

struct Known {
    changes: broadcast::Receiver<Change>,
    by_fn: HashMap<FnId, (Arc<Snapshot>, Instant)>,
    /// Counts changes, so that what was read before one is not kept after it.
    changed: u64,
}

impl<S: Store + ?Sized> Snapshots<S> {
    /// An empty cache of what is in `store`.
    pub(super) fn new(store: Arc<S>) -> Self {
        let known = Known {
            changes: store.changes(),
            by_fn: HashMap::new(),
            changed: 0,
        };
        Self {
            store,
            known: Mutex::new(known),
        }
    }

    /// The function and its app.
    ///
    /// # Errors
    /// `FnNotFound`, `StoreUnavailable`.
    pub(super) async fn of(&self, id: &FnId) -> Result<Arc<Snapshot>, ApiError> {
        let changed = {
            let mut known = self.lock();
            known.learn();
            if let Some((snapshot, since)) = known.by_fn.get(id)
                && since.elapsed() < TTL
            {
                return Ok(Arc::clone(snapshot));
            }
            known.changed
        };
        let since = Instant::now();
        let snapshot = match timeout(LOAD_TIMEOUT, self.load(id)).await {
            Ok(loaded) => Arc::new(loaded?),
            Err(late) => return Err(ApiError::from(ErrorCode::StoreUnavailable).detail(late)),
        };
        let mut known = self.lock();
        known.learn();
        if known.changed == changed {
            if known.by_fn.len() >= CAPACITY {
                known.by_fn.clear();
            }
            let kept = (Arc::clone(&snapshot), since);
            known.by_fn.insert(id.clone(), kept);
        }
        Ok(snapshot)
    }

    async fn load(&self, id: &FnId) -> Result<Snapshot, ApiError> {
        if id.as_str().is_empty() {
            return Err(ErrorCode::FnNotFound.into());
        }
        let func = self.store.func(id).await?;
        match self.store.app(&func.app_id).await {
            Ok(app) => Ok(Snapshot { app, func }),
            // Both were deleted between the two looks.
            Err(error) if error.code() == ErrorCode::AppNotFound => {
                Err(ErrorCode::FnNotFound.into())
            }
            Err(error) => Err(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Forgets what was changed.
    fn learn(&mut self) {
        loop {
            match self.changes.try_recv() {
                Ok(Change::Triggers(_)) => continue,
                Ok(Change::Fn(id)) => drop(self.by_fn.remove(&id)),
                Ok(Change::App(id)) => self.by_fn.retain(|_, (snapshot, _)| snapshot.app.id != id),
                Ok(Change::Everything) | Err(TryRecvError::Lagged(_)) => self.by_fn.clear(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
            self.changed += 1;
        }
    }
}
