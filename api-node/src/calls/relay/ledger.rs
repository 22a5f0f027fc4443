//! What the relay has under way: doorbells that are being published, the windows of the functions, and
//! the times at which it has to look into the store.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::FnId;
use domain::call::LeaseRef;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::window::{Admission, Window};
use crate::store::Doorbell;

/// After a doorbell that was not confirmed nothing is read from the store for so long, and twice as
/// long each time up to the longest: a broker that takes nothing must not be a load for the store.
const FIRST_HOLD: Duration = Duration::from_millis(200);
const LONGEST_HOLD: Duration = Duration::from_secs(5);
/// So many times to look are remembered; what is due later than those is found by the slow poll.
const MAX_TIMES: usize = 1024;

/// Shared by those who ring, those who publish, and the task that looks into the store.
pub(super) struct Ledger {
    state: Mutex<State>,
    /// There is something to look for.
    pub(super) look: Notify,
}

struct State {
    window: Window,
    /// From before they are published until their rows say that they are rung.
    under_way: HashMap<LeaseRef, FnId>,
    times: BTreeSet<Instant>,
    /// The broker has not confirmed: nothing is read before.
    held_until: Option<Instant>,
    /// For how long, the next time.
    next_hold: Duration,
}

/// What was found in the store, sorted out.
pub(super) struct Found {
    /// To be published now.
    pub(super) publish: Vec<Doorbell>,
    /// Whether some are kept back.
    pub(super) more: bool,
}

impl Ledger {
    pub(super) fn new(window: u32) -> Self {
        let state = State {
            window: Window::new(window),
            under_way: HashMap::new(),
            times: BTreeSet::new(),
            held_until: None,
            next_hold: FIRST_HOLD,
        };
        Self {
            state: Mutex::new(state),
            look: Notify::new(),
        }
    }

    /// Whether `doorbell` is to be published now; it is under way then.
    pub(super) fn admit(&self, doorbell: &Doorbell) -> bool {
        let mut state = self.lock();
        if state.under_way.contains_key(&doorbell.lease) {
            return false;
        }
        match state.window.admit(&doorbell.fn_id) {
            Admission::Publish => {
                let (lease, id) = (doorbell.lease.clone(), doorbell.fn_id.clone());
                state.under_way.insert(lease, id);
                true
            }
            Admission::Full => {
                self.look.notify_one();
                false
            }
            Admission::Wait => false,
        }
    }

    /// It was not confirmed: it is still in the store.
    pub(super) fn failed(&self, doorbell: &Doorbell) {
        let mut state = self.lock();
        if state.under_way.remove(&doorbell.lease).is_some() {
            state.window.withdraw(&doorbell.fn_id);
        }
    }

    /// The broker has not confirmed something: another try has to wait.
    pub(super) fn hold(&self) {
        let now = Instant::now();
        {
            let mut state = self.lock();
            if state.held_until.is_some_and(|until| now < until) {
                // What else fails meanwhile is of the same trouble.
                return;
            }
            state.held_until = Some(now + state.next_hold);
            state.next_hold = (2 * state.next_hold).min(LONGEST_HOLD);
        }
        // The task may be waiting for something much later.
        self.look.notify_one();
    }

    /// The broker confirms, or what was wrong with it is over.
    pub(super) fn confirms(&self) {
        let mut state = self.lock();
        state.held_until = None;
        state.next_hold = FIRST_HOLD;
    }

    /// Until when nothing is read.
    pub(super) fn held_until(&self) -> Option<Instant> {
        self.lock().held_until
    }

    /// Their rows say that they are rung, or will ring once more.
    pub(super) fn settled(&self, leases: &[LeaseRef]) {
        let mut state = self.lock();
        for lease in leases {
            state.under_way.remove(lease);
        }
    }

    /// A doorbell was answered by a claim, and is not in the store any more.
    pub(super) fn answered(&self, doorbell: &Doorbell) {
        let more = {
            let mut state = self.lock();
            state.under_way.remove(&doorbell.lease);
            state.window.answered(&doorbell.fn_id)
        };
        if more {
            self.look.notify_one();
        }
    }

    /// Those of them that are still under way.
    pub(super) fn under_way(&self, leases: &[LeaseRef]) -> Vec<LeaseRef> {
        let state = self.lock();
        let waiting = leases
            .iter()
            .filter(|lease| state.under_way.contains_key(*lease));
        waiting.cloned().collect()
    }

    /// A doorbell is due in about `wait`.
    pub(super) fn due_in(&self, wait: Duration) {
        let at = Instant::now() + wait;
        let earliest = {
            let mut state = self.lock();
            state.times.insert(at);
            if state.times.len() > MAX_TIMES {
                state.times.pop_last();
            }
            state.times.first() == Some(&at)
        };
        if earliest {
            self.look.notify_one();
        }
    }

    /// The next time to look.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.lock().times.first().copied()
    }

    /// Whether one of the times has come; they are forgotten.
    pub(super) fn time_has_come(&self) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        let mut come = false;
        while state.times.first().is_some_and(|at| *at <= now) {
            state.times.pop_first();
            come = true;
        }
        come
    }

    /// The functions that keep doorbells back.
    pub(super) fn waiting(&self) -> Vec<FnId> {
        self.lock().window.waiting()
    }

    /// Those of them of which no more may be published now.
    pub(super) fn full(&self) -> Vec<FnId> {
        self.lock().window.full()
    }

    /// What the store says of them; see [`Window::learn`].
    pub(super) fn learn(&self, asked: &[FnId], rung: &std::collections::BTreeMap<FnId, u64>) {
        let mut state = self.lock();
        let mut under_way: HashMap<FnId, u32> = HashMap::new();
        for id in state.under_way.values() {
            *under_way.entry(id.clone()).or_default() += 1;
        }
        state.window.learn(asked, rung, &under_way);
    }

    /// Sorts out the doorbells that are due, of each function at most `per_fn` of which were asked
    /// for, and at most `limit` in all; none of `full`, which keep theirs back.
    pub(super) fn sort(
        &self,
        found: Vec<Doorbell>,
        per_fn: u32,
        limit: u32,
        full: &[FnId],
    ) -> Found {
        let all = found.len() < usize::try_from(limit).unwrap_or(usize::MAX);
        let mut counts: HashMap<FnId, (u32, bool)> = HashMap::new();
        let mut publish = vec![];
        for doorbell in found {
            let (count, kept) = counts.entry(doorbell.fn_id.clone()).or_default();
            *count += 1;
            let under_way = self.lock().under_way.contains_key(&doorbell.lease);
            if !under_way {
                if self.admit(&doorbell) {
                    publish.push(doorbell);
                } else {
                    *kept = true;
                }
            }
        }
        let mut state = self.lock();
        if all {
            for id in state.window.waiting() {
                if !counts.contains_key(&id) && !full.contains(&id) {
                    state.window.set_more(&id, false);
                }
            }
        }
        let mut more = !all || !full.is_empty();
        for (id, (count, kept)) in counts {
            let of_fn = kept || count >= per_fn;
            more |= of_fn;
            state.window.set_more(&id, of_fn);
        }
        Found { publish, more }
    }

    /// See [`Window::forget`].
    pub(super) fn forget(&self) {
        self.lock().window.forget();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_takes_nothing_is_asked_less_and_less_often() {
        let ledger = Ledger::new(1);
        let mut held = vec![];
        for _ in 0..8 {
            let now = Instant::now();
            ledger.hold();
            ledger.hold();
            let until = ledger.held_until().expect("it is held");
            held.push(until - now);
            tokio::time::sleep_until(until).await;
        }
        assert_eq!(held[..2], [FIRST_HOLD, 2 * FIRST_HOLD]);
        assert_eq!(held.last(), Some(&LONGEST_HOLD));
        ledger.confirms();
        assert_eq!(ledger.held_until(), None);
    }
}
