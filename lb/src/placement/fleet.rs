//! All that a load balancer knows of its runners: events go in, placers read it.

pub mod events;

mod ejection;
mod members;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use domain::SlotKey;

use self::ejection::Ejections;
use self::events::{Ended, RunnerState, RunnerView};
pub(crate) use self::members::Members;
use self::members::Membership;
use super::Now;
use super::functions::{Function, Functions, Served};
use super::health::{Event, Health};
use super::random::Random;
use super::runner::{Runner, RunnerId, nanos};
use super::settings::FleetSettings;

/// After so many half-lives nothing is left of an average.
const FADED: u32 = 20;

/// Functions that one message of a runner is believed about: more than it can have containers of.
const MOST_TOLD: usize = 10_000;

/// The runners, and what is known of them.
#[derive(Debug)]
pub struct Fleet {
    settings: FleetSettings,
    random: Random,
    membership: Membership,
    functions: Functions,
    ejections: Ejections,
    /// Calls of all runners, as far as is known.
    load: AtomicI64,
    /// What all runners can do.
    capacity: AtomicI64,
    /// When it was tidied last, in nanoseconds.
    tidied: AtomicU64,
    generation: AtomicU64,
}

impl Fleet {
    /// A fleet without runners. `random` should differ between load balancers, or they would all
    /// choose alike.
    pub fn new(settings: FleetSettings, random: u64) -> Self {
        Self {
            functions: Functions::new(settings.places),
            settings,
            random: Random::new(random),
            membership: Membership::default(),
            ejections: Ejections::default(),
            load: AtomicI64::new(0),
            capacity: AtomicI64::new(0),
            tidied: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        }
    }

    /// Adds a runner. An address may be added again after it was removed, and is a new runner then.
    pub fn add(&self, address: &str, weight: u32, now: Now) -> RunnerId {
        let mut ids = self.add_all([(address, weight)], now);
        ids.pop().unwrap_or(RunnerId(u32::MAX))
    }

    /// Adds runners, and makes the ring anew once for all of them; their ids in the same order.
    /// Takes milliseconds for a thousand runners, in which decisions go on with the old ring.
    pub fn add_all<'a>(
        &self,
        runners: impl IntoIterator<Item = (&'a str, u32)>,
        _now: Now,
    ) -> Vec<RunnerId> {
        let ids = self.membership.add(runners);
        self.sum_up();
        self.changed();
        ids
    }

    /// Removes a runner, and all that is known of it. What still comes about it is ignored.
    pub fn remove(&self, runner: RunnerId, now: Now) {
        self.remove_all(&[runner], now);
    }

    /// Removes runners, and makes the ring anew once.
    pub fn remove_all(&self, runners: &[RunnerId], now: Now) {
        for runner in self.membership.remove(runners) {
            self.functions.forget(runner.id);
            self.ejections.forget(&runner);
            self.load
                .fetch_sub(i64::from(runner.load()), Ordering::Relaxed);
        }
        self.pardon_excess(now);
        self.changed();
    }

    /// Takes in a message of a runner's state feed.
    pub fn state(&self, runner: RunnerId, update: &RunnerState, now: Now) {
        let Some(runner) = self.members().get(runner).cloned() else {
            return;
        };
        runner.set_fed(true);
        if let Some(load) = &update.load {
            self.reload(&runner, |runner| runner.set_load(load));
        }
        if update.complete {
            let mut kept: Vec<_> = update
                .functions
                .iter()
                .map(|state| state.slot_key)
                .collect();
            kept.sort_unstable();
            self.functions.keep_only(&runner, &kept);
        }
        for state in update.functions.iter().take(MOST_TOLD) {
            self.functions.told(&runner, state, now);
        }
        if runner.set_draining(update.draining) {
            self.pardon_excess(now);
        }
        self.changed();
    }

    /// A runner's state feed has ended: it is judged by its answers alone from now on.
    pub fn feed_lost(&self, runner: RunnerId, _now: Now) {
        let Some(runner) = self.members().get(runner).cloned() else {
            return;
        };
        self.reload(&runner, |runner| runner.set_fed(false));
    }

    /// A call was sent to a runner. Each is followed by one [`ended`](Self::ended).
    pub fn begun(&self, runner: RunnerId, slot_key: &SlotKey, now: Now) {
        let Some(runner) = self.members().get(runner).cloned() else {
            return;
        };
        runner.begun();
        self.load.fetch_add(1, Ordering::Relaxed);
        self.functions.begun(slot_key, &runner, now);
        self.judge(&runner, Event::Sent, now);
    }

    /// A call that was sent to a runner is over.
    pub fn ended(&self, runner: RunnerId, slot_key: &SlotKey, how: Ended, now: Now) {
        let Some(runner) = self.members().get(runner).cloned() else {
            return;
        };
        runner.ended();
        self.load.fetch_sub(1, Ordering::Relaxed);
        let event = match how {
            Ended::Done { .. } => self.served(&runner, slot_key, how, now),
            Ended::Refused => {
                self.functions.refused(slot_key, &runner, now);
                runner.set_refused(now.saturating_add(self.settings.refused_pause));
                Event::Void
            }
            Ended::Cancelled => {
                self.functions.ended(slot_key, &runner, now);
                Event::Void
            }
            Ended::Unreachable | Ended::Failed => {
                self.functions.ended(slot_key, &runner, now);
                Event::Failure
            }
        };
        self.judge(&runner, event, now);
        self.changed();
    }

    /// Takes in a call that was answered; whether the runner is slow.
    fn served(&self, runner: &Arc<Runner>, key: &SlotKey, how: Ended, now: Now) -> Event {
        let Ended::Done {
            wait,
            pulled,
            took,
            execution,
        } = how
        else {
            return Event::Void;
        };
        let half_life = self.settings.wait_half_life;
        let served = Served {
            wait: (!pulled).then_some(wait),
            // What the runner adds counts as well as what the function needs.
            took: took.saturating_sub(wait).max(execution),
            half_life,
        };
        let distance = self.functions.served(key, runner, served, now);
        self.compare(runner, distance, served.wait, now)
    }

    /// A runner's health; `None` if it is not known.
    pub fn health(&self, runner: RunnerId) -> Option<Health> {
        let runner = self.members().get(runner).cloned()?;
        Some(Self::health_of(&runner))
    }

    /// A health check was answered (`ok`), or was not.
    pub fn probed(&self, runner: RunnerId, ok: bool, _took: Duration, now: Now) {
        let Some(runner) = self.members().get(runner).cloned() else {
            return;
        };
        if ok && !runner.is_fed() && runner.set_draining(false) {
            // It said that it ends, and has come again without a word of its state.
            self.pardon_excess(now);
        }
        let event = if ok { Event::Answered } else { Event::Silent };
        self.judge(&runner, event, now);
        self.changed();
    }

    /// Changes whenever a call that found no runner may find one. Does not change by time alone:
    /// see [`wake_at`](Self::wake_at).
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// When a call that found no runner should look again though nothing is reported: a runner that
    /// refused a moment ago is asked again then, or an ejected one is tried.
    pub fn wake_at(&self, now: Now) -> Now {
        self.ejections
            .next()
            .max(now)
            .min(now.saturating_add(self.settings.refused_pause))
    }

    /// Forgets what has faded. To be called about once a second.
    pub fn tidy(&self, now: Now) {
        let kept = self.settings.wait_half_life.saturating_mul(FADED);
        let kept = kept.max(self.settings.warm_without_feed);
        self.functions.tidy(now.saturating_sub(kept));
        let last = Now::from_nanos(self.tidied.swap(nanos(now), Ordering::Relaxed));
        self.allow_trial(now.saturating_sub(last));
        self.sum_up();
    }

    /// Counts load and capacity anew: between events of several threads a little may get lost.
    fn sum_up(&self) {
        let (mut load, mut capacity) = (0_i64, 0_i64);
        for runner in self.members().iter() {
            load = load.saturating_add(i64::from(runner.load()));
            capacity = capacity.saturating_add_unsigned(runner.capacity());
        }
        self.load.store(load, Ordering::Relaxed);
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    /// All runners, in the order of their addresses.
    pub fn runners(&self, now: Now) -> Vec<RunnerView> {
        let half_life = self.settings.wait_half_life;
        let view = |runner: &Arc<Runner>| RunnerView {
            id: runner.id,
            address: Arc::clone(&runner.address),
            weight: runner.weight,
            health: Self::health_of(runner),
            in_flight: runner.own(),
            load: runner.load(),
            wait: Duration::from_secs_f64(runner.judged().wait.read(now, half_life)),
        };
        self.members().iter().map(view).collect()
    }

    /// How many runners there are.
    pub fn len(&self) -> usize {
        self.members().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many pairs of a runner and a function are remembered.
    pub fn places(&self) -> usize {
        self.functions.places()
    }

    pub(crate) fn settings(&self) -> &FleetSettings {
        &self.settings
    }

    pub(crate) fn random(&self) -> &Random {
        &self.random
    }

    /// The runners as of now.
    pub(crate) fn members(&self) -> Arc<Members> {
        self.membership.read()
    }

    pub(crate) fn function<R>(
        &self,
        key: &SlotKey,
        look: impl FnOnce(&Function) -> R,
    ) -> Option<R> {
        self.functions.read(key, look)
    }

    /// Calls of all runners, as far as is known.
    pub(crate) fn load(&self) -> f64 {
        self.load.load(Ordering::Relaxed).max(0) as f64
    }

    /// What all runners can do.
    pub(crate) fn capacity(&self) -> f64 {
        self.capacity.load(Ordering::Relaxed).max(1) as f64
    }

    /// Changes a runner's numbers and keeps the sums in step.
    fn reload(&self, runner: &Runner, change: impl FnOnce(&Runner)) {
        let (load, capacity) = (i64::from(runner.load()), runner.capacity());
        change(runner);
        let more = i64::from(runner.load()) - load;
        self.load.fetch_add(more, Ordering::Relaxed);
        let more = runner.capacity().wrapping_sub(capacity).cast_signed();
        self.capacity.fetch_add(more, Ordering::Relaxed);
    }

    fn health_of(runner: &Runner) -> Health {
        if runner.is_draining() {
            Health::Draining
        } else {
            runner.judged().state.health()
        }
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
