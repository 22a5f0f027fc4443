//! One part of the cache: what is known, what is being asked, and the changes that end both. All of
//! it is synchronous and takes the time as an argument.

use std::sync::Arc;

use domain::{ApiError, ErrorCode};
use futures_util::future::{BoxFuture, Shared, WeakShared};
use hashbrown::HashMap;
use nodekit::exchange::Target;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::Instant;

use super::CacheSettings;
use super::key::{Key, KeyRef};
use crate::control_plane::Change;

/// What the control plane said.
pub(super) type Outcome = Result<Arc<Target>, ApiError>;

/// A question under way. All who ask it meanwhile share it, and any of them keeps it going.
pub(super) type Load = Shared<BoxFuture<'static, Outcome>>;

/// Names a load, and when it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    number: u64,
    generation: u64,
    began: Instant,
}

struct Entry {
    target: Arc<Target>,
    loaded_at: Instant,
    fresh_until: Instant,
    /// A change of it may have been missed: it is used only if nothing newer can be had.
    suspect: bool,
}

struct Flight {
    ticket: Ticket,
    load: WeakShared<BoxFuture<'static, Outcome>>,
}

/// The answer of [`Shard::lookup`].
pub(super) enum Lookup {
    Known(Arc<Target>),
    /// The load that will bring it, and what is to be used if that takes too long.
    Wait(Load, Option<Arc<Target>>),
    /// The control plane cannot be reached: a stale answer, and a load to see whether it is back.
    Stale(Arc<Target>, Option<Load>),
}

/// What the cache knows of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// It answers, as far as is known.
    Answers,
    /// It could not be reached the last time.
    Gone {
        /// Whether to try again.
        probe: bool,
    },
}

/// A part of the cache, to be kept under one short lock.
pub(super) struct Shard {
    changes: Receiver<Change>,
    /// Counts the changes, so that a load can tell whether one came while it was under way.
    generation: u64,
    next_ticket: u64,
    settings: CacheSettings,
    entries: HashMap<Key, Entry>,
    flights: HashMap<Key, Flight>,
}

impl Shard {
    /// A part that takes `settings.capacity` answers.
    pub(super) fn new(changes: Receiver<Change>, settings: CacheSettings) -> Self {
        Self {
            changes,
            generation: 0,
            next_ticket: 0,
            settings,
            entries: HashMap::new(),
            flights: HashMap::new(),
        }
    }

    /// The fresh answer to `key`, or the load that will bring it: one under way that began after
    /// the last change and within the TTL, else a new one made by `start`. While the control plane
    /// is gone nobody waits for what a stale answer can be given for.
    pub(super) fn lookup(
        &mut self,
        key: KeyRef<'_>,
        now: Instant,
        reach: Reach,
        start: impl FnOnce(Ticket) -> Load,
    ) -> Lookup {
        self.receive_changes();
        let known = self.entries.get(&key);
        if let Some(entry) = known
            && now < entry.fresh_until
        {
            return Lookup::Known(Arc::clone(&entry.target));
        }
        let usable = known.filter(|entry| now < entry.loaded_at + self.settings.stale_limit);
        let stale = usable.map(|entry| (Arc::clone(&entry.target), entry.suspect));
        match (reach, stale) {
            (Reach::Gone { probe: false }, Some((target, _))) => Lookup::Stale(target, None),
            (Reach::Gone { probe: true }, Some((target, _))) => {
                Lookup::Stale(target, Some(self.load(key, now, start)))
            }
            (_, stale) => {
                let load = self.load(key, now, start);
                let in_time = stale.filter(|(_, suspect)| !suspect);
                Lookup::Wait(load, in_time.map(|(target, _)| target))
            }
        }
    }

    fn load(&mut self, key: KeyRef<'_>, now: Instant, start: impl FnOnce(Ticket) -> Load) -> Load {
        if let Some(load) = self
            .flights
            .get(&key)
            .filter(|flight| now < flight.ticket.began + self.settings.ttl)
            .and_then(|flight| flight.load.upgrade())
        {
            return load;
        }
        let ticket = Ticket {
            number: self.next_ticket,
            generation: self.generation,
            began: now,
        };
        self.next_ticket += 1;
        let load = start(ticket);
        if let Some(weak) = load.downgrade() {
            let flight = Flight { ticket, load: weak };
            self.flights.insert(key.to_key(), flight);
        }
        load
    }

    /// Takes in what a load brought and says what its askers get: while the control plane cannot
    /// be reached, a stale answer that no change has ended is better than none.
    pub(super) fn settle(
        &mut self,
        key: &Key,
        ticket: Ticket,
        outcome: Outcome,
        now: Instant,
    ) -> Outcome {
        self.receive_changes();
        self.forget(key, ticket);
        match outcome {
            Ok(target) => {
                // The value may have been read before a change that came since.
                if ticket.generation == self.generation {
                    self.insert(
                        key,
                        Entry {
                            target: Arc::clone(&target),
                            loaded_at: ticket.began,
                            fresh_until: ticket.began + self.settings.ttl,
                            suspect: false,
                        },
                    );
                }
                Ok(target)
            }
            Err(error) if error.code() == ErrorCode::StoreUnavailable => {
                match self.entries.get_mut(key) {
                    Some(entry) if now < entry.loaded_at + self.settings.stale_limit => {
                        entry.fresh_until = entry.fresh_until.max(now + self.settings.stale_retry);
                        Ok(Arc::clone(&entry.target))
                    }
                    _ => Err(error),
                }
            }
            Err(error) => {
                self.entries.remove(key);
                Err(error)
            }
        }
    }

    /// Ends the flight of `ticket`, if it has not been replaced.
    pub(super) fn forget(&mut self, key: &Key, ticket: Ticket) {
        if self
            .flights
            .get(key)
            .is_some_and(|flight| flight.ticket.number == ticket.number)
        {
            self.flights.remove(key);
        }
    }

    fn insert(&mut self, key: &Key, entry: Entry) {
        if self
            .entries
            .get(key)
            .is_some_and(|known| known.loaded_at > entry.loaded_at)
        {
            return;
        }
        if self.entries.len() >= self.settings.capacity && !self.entries.contains_key(key) {
            // What is in use is loaded again every few seconds, so the oldest is unused.
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.loaded_at);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&key);
            }
        }
        self.entries.insert(key.clone(), entry);
    }

    fn receive_changes(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        loop {
            match self.changes.try_recv() {
                Ok(change) => self.apply(&change),
                Err(TryRecvError::Lagged(_)) => self.apply(&Change::Everything),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn apply(&mut self, change: &Change) {
        self.end_flights();
        if *change == Change::Everything {
            for entry in self.entries.values_mut() {
                entry.fresh_until = entry.loaded_at;
                entry.suspect = true;
            }
            return;
        }
        self.entries.retain(|key, entry| {
            let spec = &entry.target.spec;
            match change {
                Change::App(id) => spec.app_id != *id,
                Change::Fn(id) => spec.fn_id != *id,
                Change::Triggers(app) => matches!(key, Key::Fn(_)) || spec.app_id != *app,
                // Handled above.
                Change::Everything => true,
            }
        });
    }

    /// Loads under way may bring what was true before: nobody joins them from here on, and their
    /// answers are not kept. What they depend on is not known yet, so it ends all of them.
    fn end_flights(&mut self) {
        self.generation += 1;
        self.flights.clear();
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.entries.len(), self.flights.len())
    }
}
