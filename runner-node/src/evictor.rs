//! Which idle containers must go so that a container of another function can start (spec/04 4.8).
//!
//! Each container registers once, for life. Its [`Registration`] is in one of three states, behind
//! a lock of its own that is held for nanoseconds:
//!
//! ```text
//!            offer                    evict
//!   busy ───────────────► idle ───────────────► evicted
//!        ◄───────────────
//!            try_claim
//! ```
//!
//! The protocol with the slot queue, which is followed under the queue's own lock: who parks a slot
//! calls [`Registration::offer`]. Who takes it out again (a call, or the container itself, to end on
//! its idle time-out) calls [`Registration::try_claim`] and has the container only if that returns
//! true; otherwise it was evicted, and its slot is thrown away. So a call and an eviction never
//! have it both, and the one that comes first wins. The evictor takes no lock of the slot queue.
//!
//! A launch that has waited for long, while no container of another function becomes idle, is
//! [hungry](Evictor::hunger). Then a container of another function is evicted at the end of its call
//! ([`Registration::yields`]), before the next call of its own function gets it: a function whose
//! calls never pause cannot keep a full node for itself.
//!
//! An evicted container learns of it through [`Registration::evicted`], ends, gives back its resource
//! token, and only then drops its registration: that is what the [`Eviction`] waits for, so that
//! who asked looks again when the capacity is really free.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use domain::SlotKey;
use futures_util::future::select_all;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;

use crate::resources::Resources;

/// The registered containers of a node; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Evictor {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// By number of registration. Taken at the birth and death of containers and to evict, never
    /// on the path of a call.
    containers: Mutex<Containers>,
    searches: AtomicUsize,
    idled: Notify,
    /// Launches that have waited for long, the oldest first. Its length is beside it, for the path
    /// of a call.
    hungers: Mutex<Vec<Hunger>>,
    hungry: AtomicUsize,
    hungers_changed: Notify,
    next_hunger: AtomicU64,
}

/// A launch that has waited for long.
#[derive(Debug)]
struct Hunger {
    number: u64,
    slot_key: SlotKey,
    /// What no container has given up for it yet.
    missing: Resources,
}

#[derive(Debug, Default)]
struct Containers {
    next_number: u64,
    registered: BTreeMap<u64, Arc<Entry>>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    slot_key: SlotKey,
    held: Resources,
    state: Mutex<State>,
    evicted: CancellationToken,
    released: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Busy,
    Idle { since: Instant },
    Evicted,
}

impl Evictor {
    /// An evictor that knows of no container.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a container known that holds the resources `held`; it is busy at first. One that
    /// holds nothing is never evicted.
    pub fn register(&self, slot_key: SlotKey, held: Resources) -> Registration {
        let mut containers = self.shared.containers();
        let number = containers.next_number;
        containers.next_number += 1;
        let entry = Arc::new(Entry {
            number,
            slot_key,
            held,
            state: Mutex::new(State::Busy),
            evicted: CancellationToken::new(),
            released: CancellationToken::new(),
        });
        if !held.is_zero() {
            containers.registered.insert(number, entry.clone());
        }
        Registration {
            shared: self.shared.clone(),
            entry,
        }
    }

    /// Evicts idle containers, none of them of `own_key`, whose resources together with those of
    /// containers that are already being evicted cover `missing`; or none at all when that is not possible.
    ///
    /// Those that were used most recently are spared first, and all are spared whose resources are
    /// not needed in addition to those of the others. For nothing, nothing is done.
    pub fn evict(&self, own_key: &SlotKey, missing: Resources) -> Option<Eviction> {
        if missing.is_zero() {
            return Some(Eviction::default());
        }
        let containers = self.shared.containers();
        let mut victims = Vec::new();
        let mut wanted = missing;
        let mut idle = Vec::new();
        // The states stay locked until the choice is made, so that it is made for all at once: a
        // call that wants one of them waits for it, and then gets it or sees it evicted.
        for entry in containers.registered.values() {
            let state = entry.state();
            match *state {
                State::Evicted => {
                    wanted = wanted.saturating_sub(entry.held);
                    victims.push(entry.clone());
                }
                State::Idle { since } if entry.slot_key != *own_key => {
                    idle.push((since, entry, state));
                }
                State::Idle { .. } | State::Busy => {}
            }
        }
        idle.sort_by_key(|(since, entry, _)| (*since, entry.number));
        let mut sum = idle
            .iter()
            .fold(Resources::default(), |sum, (_, entry, _)| {
                sum.saturating_add(entry.held)
            });
        if !wanted.fits_in(sum) {
            return None;
        }
        // From the most valuable to the least: whoever can be spared is.
        let mut evicted = Vec::new();
        for (_, entry, state) in idle.iter_mut().rev() {
            let without = sum.saturating_sub(entry.held);
            if wanted.fits_in(without) {
                sum = without;
            } else {
                **state = State::Evicted;
                evicted.push(Arc::clone(entry));
            }
        }
        drop(idle);
        drop(containers);
        for entry in &evicted {
            entry.evicted.cancel();
        }
        let count = evicted.len();
        victims.append(&mut evicted);
        Some(Eviction { count, victims })
    }

    /// Asks containers of other functions than `own_key` to go at the end of their calls, until what
    /// they held covers `missing`, or the answer is dropped. What is being evicted counts.
    pub(crate) fn hunger(&self, own_key: &SlotKey, missing: Resources) -> Hungry<'_> {
        let leaving = {
            let containers = self.shared.containers();
            let evicted = containers.registered.values();
            let evicted = evicted.filter(|entry| *entry.state() == State::Evicted);
            evicted.fold(Resources::default(), |sum, entry| {
                sum.saturating_add(entry.held)
            })
        };
        let number = self.shared.next_hunger.fetch_add(1, Ordering::Relaxed);
        let mut hungers = self.shared.hungers();
        hungers.push(Hunger {
            number,
            slot_key: *own_key,
            missing: missing.saturating_sub(leaving),
        });
        self.shared.hungry.store(hungers.len(), Ordering::SeqCst);
        drop(hungers);
        self.shared.hungers_changed.notify_waiters();
        Hungry {
            shared: &self.shared,
            number,
        }
    }

    /// Waits until a launch of another function than `own_key` is hungry.
    pub(crate) async fn others_hungry(&self, own_key: &SlotKey) {
        loop {
            let changed = self.shared.hungers_changed.notified();
            if self
                .shared
                .hungers()
                .iter()
                .any(|hunger| hunger.slot_key != *own_key)
            {
                return;
            }
            changed.await;
        }
    }

    /// What idle containers hold, which others could have.
    pub(crate) fn evictable(&self) -> Resources {
        let containers = self.shared.containers();
        let idle = containers
            .registered
            .values()
            .filter(|entry| matches!(*entry.state(), State::Idle { .. }));
        idle.fold(Resources::default(), |sum, entry| {
            sum.saturating_add(entry.held)
        })
    }

    /// Watches for containers that become idle, for as long as somebody looks for victims.
    pub(crate) fn search(&self) -> Search<'_> {
        self.shared.searches.fetch_add(1, Ordering::SeqCst);
        Search {
            shared: &self.shared,
        }
    }
}

impl Shared {
    fn containers(&self) -> MutexGuard<'_, Containers> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn hungers(&self) -> MutexGuard<'_, Vec<Hunger>> {
        self.hungers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A container's entry in the evictor. Keep it until the container's resource token was dropped.
#[derive(Debug)]
pub struct Registration {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
}

impl Registration {
    /// The container has nothing to do since `since`: from now on it may be evicted.
    pub fn offer(&self, since: Instant) {
        {
            let mut state = self.entry.state();
            if *state == State::Evicted {
                return;
            }
            *state = State::Idle { since };
        }
        // A search that did not see this container idle has taken its lock before we did, and was
        // counted before that.
        if self.shared.searches.load(Ordering::SeqCst) > 0 {
            self.shared.idled.notify_waiters();
        }
    }

    /// Takes the idle container, which then cannot be evicted. False when it was evicted, or is
    /// taken already.
    pub fn try_claim(&self) -> bool {
        let mut state = self.entry.state();
        let idle = matches!(*state, State::Idle { .. });
        if idle {
            *state = State::Busy;
        }
        idle
    }

    /// The container, which is busy, has ended a call. If a launch of another function is hungry, the
    /// container is evicted now, and must not take another call.
    pub(crate) fn yields(&self) -> bool {
        if self.shared.hungry.load(Ordering::SeqCst) == 0 || self.entry.held.is_zero() {
            return false;
        }
        {
            let mut hungers = self.shared.hungers();
            let own = self.entry.slot_key;
            let Some(hunger) = hungers
                .iter_mut()
                .find(|hunger| hunger.slot_key != own && !hunger.missing.is_zero())
            else {
                return false;
            };
            let mut state = self.entry.state();
            if *state != State::Busy {
                return false;
            }
            *state = State::Evicted;
            hunger.missing = hunger.missing.saturating_sub(self.entry.held);
        }
        self.entry.evicted.cancel();
        true
    }

    /// Waits until the container is evicted. May be called again.
    pub async fn evicted(&self) {
        self.entry.evicted.cancelled().await;
    }

    /// Whether the container was evicted.
    pub(crate) fn is_evicted(&self) -> bool {
        *self.entry.state() == State::Evicted
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared
            .containers()
            .registered
            .remove(&self.entry.number);
        self.entry.released.cancel();
    }
}

/// Containers on their way out.
#[derive(Debug, Default)]
pub struct Eviction {
    count: usize,
    victims: Vec<Arc<Entry>>,
}

impl Eviction {
    /// How many containers this eviction has added to those that were being evicted before.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Waits until the next of these containers, or of those that were being evicted before, is gone
    /// and has given back what it held: time to look again. At once if there are none. Dropping
    /// it changes nothing for them.
    pub async fn next_release(&self) {
        let releases: Vec<_> = self
            .victims
            .iter()
            .map(|victim| Box::pin(victim.released.cancelled()))
            .collect();
        if !releases.is_empty() {
            select_all(releases).await;
        }
    }
}

/// Somebody who looks for containers to evict.
pub(crate) struct Search<'a> {
    shared: &'a Shared,
}

impl Search<'_> {
    /// Completes when a container becomes idle after this call.
    pub(crate) fn idled(&self) -> Notified<'_> {
        self.shared.idled.notified()
    }
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        self.shared.searches.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A launch that has waited for long; until it is dropped.
pub(crate) struct Hungry<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Hungry<'_> {
    fn drop(&mut self) {
        let mut hungers = self.shared.hungers();
        hungers.retain(|hunger| hunger.number != self.number);
        self.shared.hungry.store(hungers.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
pub(crate) mod tests;
