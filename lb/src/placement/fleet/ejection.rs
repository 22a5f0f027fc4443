//! Who is ejected, and that it never is more than half of the fleet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Fleet;
use crate::placement::Now;
use crate::placement::health::{Event, State};
use crate::placement::runner::{Runner, RunnerId};

/// The runners that are ejected or on trial, those ejected first first.
///
/// Order of locks: this list, then a runner's own.
#[derive(Debug)]
pub(super) struct Ejections {
    out: Mutex<Vec<Arc<Runner>>>,
    /// When the next one of them may be given a call, in nanoseconds; 2^64 - 1 if none is out.
    next: AtomicU64,
}

impl Default for Ejections {
    fn default() -> Self {
        Self {
            out: Mutex::default(),
            next: AtomicU64::new(u64::MAX),
        }
    }
}

impl Ejections {
    /// When the next one may be given a call.
    pub(super) fn next(&self) -> Now {
        Now::from_nanos(self.next.load(Ordering::Relaxed))
    }

    pub(super) fn forget(&self, runner: &Runner) {
        self.lock().retain(|other| other.id != runner.id);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Runner>>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fleet {
    /// Tells a runner's health of an event.
    pub(super) fn judge(&self, runner: &Arc<Runner>, event: Event, now: Now) {
        // Nearly all events end here, without the list's lock.
        {
            let mut judged = runner.judged();
            let next = judged.state.after(event, now, false, &self.settings);
            let might_eject = judged.state.after(event, now, true, &self.settings);
            if !judged.state.is_out() && next == might_eject {
                judged.state = next;
                return;
            }
        }
        let mut out = self.ejections.lock();
        self.apply(&mut out, runner, event, now);
        self.set_next(&out);
    }

    /// A runner that is to be tried again, if one is due and `wanted`.
    pub(crate) fn trial(&self, now: Now, wanted: impl Fn(&Runner) -> bool) -> Option<RunnerId> {
        if now < self.ejections.next() {
            return None;
        }
        let mut out = self.ejections.lock();
        let due = out
            .iter()
            .filter(|runner| runner.judged().state.due(&self.settings) <= now);
        let chosen = due
            .filter(|runner| !runner.is_draining() && wanted(runner))
            .next()
            .cloned();
        if let Some(runner) = &chosen {
            self.apply(&mut out, runner, Event::Tick, now);
        }
        self.set_next(&out);
        chosen.map(|runner| runner.id)
    }

    /// Takes back the ejections that are too many after the fleet has become smaller.
    pub(super) fn pardon_excess(&self, now: Now) {
        let most = self.most_out();
        let mut out = self.ejections.lock();
        let draining: Vec<_> = out
            .iter()
            .filter(|runner| runner.is_draining())
            .cloned()
            .collect();
        for runner in draining {
            self.apply(&mut out, &runner, Event::Pardon, now);
        }
        while out.len() > most {
            let first = Arc::clone(&out[0]);
            self.apply(&mut out, &first, Event::Pardon, now);
        }
        self.set_next(&out);
    }

    /// Moves a runner to its next state, and in or out of the list.
    fn apply(&self, out: &mut Vec<Arc<Runner>>, runner: &Arc<Runner>, event: Event, now: Now) {
        let known = self.members().get(runner.id).is_some();
        let may_eject = known && !runner.is_draining() && out.len() < self.most_out();
        let mut judged = runner.judged();
        let was: State = judged.state;
        judged.state = was.after(event, now, may_eject, &self.settings);
        let is = judged.state;
        drop(judged);
        match (was.is_out(), is.is_out()) {
            (false, true) => {
                runner.set_out(true);
                out.push(Arc::clone(runner));
            }
            (true, false) => {
                runner.set_out(false);
                out.retain(|other| other.id != runner.id);
            }
            _ => {}
        }
    }

    fn set_next(&self, out: &[Arc<Runner>]) {
        let due = out
            .iter()
            .map(|runner| runner.judged().state.due(&self.settings))
            .min();
        let due = due.map_or(u64::MAX, |due| {
            u64::try_from(due.as_nanos()).unwrap_or(u64::MAX)
        });
        self.ejections.next.store(due, Ordering::Relaxed);
    }

    /// How many may be ejected: half of those that take calls.
    fn most_out(&self) -> usize {
        self.members()
            .iter()
            .filter(|runner| !runner.is_draining())
            .count()
            / 2
    }
}
