//! Who is ejected, and that it never is more than half of the fleet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Fleet;
use crate::placement::Now;
use crate::placement::health::{Event, State};
use crate::placement::runner::{Judged, Runner, RunnerId, nanos};
use crate::placement::slowness::{Distance, Slowness};

/// The runners that are ejected or on trial, those ejected first first.
///
/// Order of locks: this list, then a runner's own.
#[derive(Debug)]
pub(super) struct Ejections {
    out: Mutex<Vec<Arc<Runner>>>,
    /// When the next one of them may be given a call, in nanoseconds; 2^64 - 1 if none is out.
    next: AtomicU64,
    /// When one of them has been waiting for a call for so long that any will do.
    overdue: AtomicU64,
    usual: Mutex<UsualSlowness>,
    /// How many calls may be given to them; [`UNIT`] is one.
    budget: AtomicU64,
}

/// One call in the budget of trials.
const UNIT: u64 = 1 << 20;

/// The most calls that are saved up.
const BUDGET_KEPT: u64 = 5;

/// One call in this time may go to a runner on trial, however few calls there are.
const TRIAL_EVERY: Duration = Duration::from_secs(5);

/// The median of the runners' slowness, and how long it may be used.
#[derive(Debug, Default)]
struct UsualSlowness {
    value: f64,
    until: Now,
}

/// How long the median is used: it takes a look at every runner.
const USUAL_KEPT: Duration = Duration::from_millis(50);

impl Default for Ejections {
    fn default() -> Self {
        Self {
            out: Mutex::default(),
            next: AtomicU64::new(u64::MAX),
            overdue: AtomicU64::new(u64::MAX),
            usual: Mutex::default(),
            budget: AtomicU64::new(UNIT * BUDGET_KEPT),
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

    /// A runner that is to be tried again, if one is due, `wanted` and not too many calls were given
    /// to such runners. `telling`: the call will soon say something about the runner.
    pub(crate) fn trial(
        &self,
        now: Now,
        telling: impl FnOnce() -> bool,
        wanted: impl Fn(&Runner) -> bool,
    ) -> Option<RunnerId> {
        let next = self.ejections.next();
        if now < next && next == Now::from_nanos(u64::MAX) {
            return None;
        }
        let share = (self.settings.trial_share.clamp(0.0, 1.0) * UNIT as f64) as u64;
        let had = self.ejections.budget.fetch_add(share, Ordering::Relaxed);
        if now < next || had < UNIT || !telling() {
            return None;
        }
        let mut out = self.ejections.lock();
        let chosen = out
            .iter()
            .filter(|runner| runner.judged().state.due(&self.settings) <= now)
            .find(|runner| !runner.is_draining() && wanted(runner))
            .cloned();
        if let Some(runner) = &chosen {
            self.apply(&mut out, runner, Event::Tick, now);
            // The others come first next time.
            if let Some(place) = out.iter().position(|other| other.id == runner.id) {
                out[place..].rotate_left(1);
            }
            let left = had.min(UNIT * BUDGET_KEPT).saturating_sub(UNIT);
            self.ejections.budget.store(left, Ordering::Relaxed);
        }
        self.set_next(&out);
        chosen.map(|runner| runner.id)
    }

    /// Whether a runner has been due for so long that any call will do.
    pub(crate) fn is_trial_overdue(&self, now: Now) -> bool {
        nanos(now) >= self.ejections.overdue.load(Ordering::Relaxed)
    }

    /// Lets runners on trial have a call in any case, from time to time.
    pub(super) fn allow_trial(&self, passed: Duration) {
        let calls = passed.as_nanos() * u128::from(UNIT) / TRIAL_EVERY.as_nanos();
        let calls = u64::try_from(calls).unwrap_or(UNIT).min(UNIT);
        self.ejections.budget.fetch_add(calls, Ordering::Relaxed);
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
        if matches!(is, State::Trial { .. }) != matches!(was, State::Trial { .. }) {
            // Before and after is not the same runner.
            judged.slowness = Slowness::default();
            runner.set_slowness(None);
        }
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

    /// Lets an answered call count for its runner's waits and slowness; whether it was one of a
    /// slow runner.
    pub(super) fn compare(
        &self,
        runner: &Runner,
        distance: Option<Distance>,
        wait: Option<Duration>,
        now: Now,
    ) -> Event {
        let settings = &self.settings;
        let mut judged = runner.judged();
        if let Some(wait) = wait {
            judged.wait.add_peak(wait, now, settings.wait_half_life);
        }
        if let Some(distance) = distance {
            judged.slowness.add(distance);
        }
        let Judged {
            state, slowness, ..
        } = *judged;
        drop(judged);
        let mean = slowness.mean(settings.slow_samples);
        runner.set_slowness(mean);
        if settings.slow_factor <= 1.0 {
            return Event::Good;
        }
        // A trial is over with the first calls that are clearly slow.
        let mean = match state {
            State::Trial { .. } => slowness.mean(1),
            State::Healthy { .. } => mean,
            State::Ejected { .. } => None,
        };
        let slow = settings.slow_factor.ln();
        match mean.filter(|mean| *mean >= slow) {
            Some(mean) => {
                let difference = mean - self.usual_slowness(now);
                let sure = slowness.is_sure(difference);
                if difference >= slow && sure {
                    Event::Slow
                } else {
                    Event::Good
                }
            }
            None => Event::Good,
        }
    }

    /// The median of the runners' slowness: if all are slow, none is.
    fn usual_slowness(&self, now: Now) -> f64 {
        let mut usual = self
            .ejections
            .usual
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if usual.until <= now {
            let members = self.members();
            let open = members.iter().filter(|runner| runner.is_open());
            let mut all: Vec<f64> = open.filter_map(|runner| runner.slowness()).collect();
            let middle = all.len().saturating_sub(1) / 2;
            let value = match all.is_empty() {
                true => 0.0,
                false => *all.select_nth_unstable_by(middle, f64::total_cmp).1,
            };
            *usual = UsualSlowness {
                value,
                until: now.saturating_add(USUAL_KEPT),
            };
        }
        usual.value
    }

    fn set_next(&self, out: &[Arc<Runner>]) {
        let (mut next, mut overdue) = (Now::MAX, Now::MAX);
        for runner in out {
            let state = runner.judged().state;
            let due = state.due(&self.settings);
            let since = match state {
                State::Trial { last, .. } => last,
                _ => due,
            };
            next = next.min(due);
            overdue = overdue.min(since.saturating_add(TRIAL_EVERY));
        }
        self.ejections.next.store(nanos(next), Ordering::Relaxed);
        self.ejections
            .overdue
            .store(nanos(overdue), Ordering::Relaxed);
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
