//! The mark of one function: whether it has changed since load balancers were told of it.
//!
//! A call that changes its function pays two loads for it, and no more until the change was told.
//! While nobody watches, it pays one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use domain::SlotKey;
use tokio::sync::Notify;

/// The marked functions of a runner.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Whether anybody wants to know.
    watched: AtomicBool,
    /// Each function at most once: it is marked then.
    marked: Mutex<Vec<SlotKey>>,
    /// There is something to tell.
    pub(super) some: Notify,
    /// There is something to tell at once.
    pub(super) urgent: Notify,
}

impl Changes {
    /// Marks are made from now on, or no more. Those made so far are forgotten.
    pub(super) fn watch(&self, watched: bool) {
        self.watched.store(watched, Ordering::Release);
        self.take();
    }

    /// The functions that were marked. Their marks must be cleared before they are looked at.
    pub(super) fn take(&self) -> Vec<SlotKey> {
        std::mem::take(&mut *self.marked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The mark of one function. The default one is of no function, and does nothing.
#[derive(Debug, Default)]
pub(super) struct Mark {
    of: Option<(Arc<Changes>, SlotKey)>,
    marked: AtomicBool,
    /// Whether an idle container was told of, or is being told of at once.
    idle_told: AtomicBool,
}

impl Mark {
    /// The mark of the function `key`.
    pub(super) fn new(changes: Arc<Changes>, key: SlotKey) -> Self {
        Self {
            of: Some((changes, key)),
            marked: AtomicBool::new(false),
            idle_told: AtomicBool::new(false),
        }
    }

    /// The function has changed; to be called after the change, under its lock or behind it. The
    /// lock orders this with [`Mark::clear`]: either the new state is seen there, or this is
    /// not lost.
    pub(super) fn touch(&self) {
        let Some((changes, key)) = &self.of else {
            return;
        };
        if !changes.watched.load(Ordering::Acquire)
            || self.marked.load(Ordering::Acquire)
            || self.marked.swap(true, Ordering::AcqRel)
        {
            return;
        }
        changes
            .marked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(*key);
        changes.some.notify_one();
    }

    /// The same, for a container that has become idle: that is told at once if none was known.
    pub(super) fn touch_idle(&self) {
        self.touch();
        let Some((changes, _)) = &self.of else {
            return;
        };
        if changes.watched.load(Ordering::Acquire)
            && !self.idle_told.load(Ordering::Acquire)
            && !self.idle_told.swap(true, Ordering::AcqRel)
        {
            changes.urgent.notify_one();
        }
    }

    /// The function is about to be looked at.
    pub(super) fn clear(&self) {
        self.marked.store(false, Ordering::Release);
    }

    /// Whether an idle container was seen when it was looked at.
    pub(super) fn told(&self, idle: bool) {
        self.idle_told.store(idle, Ordering::Release);
    }
}
