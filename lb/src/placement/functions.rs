//! What is known per function: on which runners it has containers, how many of them are idle, and
//! how long its calls wait there. Sharded by function, so that decisions about different functions
//! seldom meet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::SlotKey;
use hashbrown::HashMap;

use super::Now;
use super::fleet::events::FunctionState;
use super::runner::{Runner, RunnerId};
use super::slowness::{Distance, Usual};
use super::wait::WaitAverage;

const SHARDS: usize = 64;

/// All functions.
#[derive(Debug)]
pub(crate) struct Functions {
    shards: Box<[Mutex<Shard>]>,
    /// The most pairs of a function and a runner in one shard.
    places_per_shard: usize,
}

#[derive(Debug, Default)]
struct Shard {
    functions: HashMap<SlotKey, Function>,
    places: usize,
}

/// A function's runners.
#[derive(Debug, Default)]
pub(crate) struct Function {
    /// In the order of their ids.
    places: Vec<Place>,
    /// Those with an idle container, in no order.
    idle: Vec<(RunnerId, Arc<Runner>)>,
    usual: Usual,
}

/// A call that a function has answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    /// How long it waited, if that says something about the next one.
    pub(crate) wait: Option<Duration>,
    /// How long it took after that.
    pub(crate) took: Duration,
    /// In which time a mean wait halves without calls.
    pub(crate) half_life: Duration,
}

/// One runner, as one function sees it.
#[derive(Debug)]
struct Place {
    runner: Arc<Runner>,
    /// Containers that we believe to be waiting for a call.
    idle: u32,
    /// Containers there are, as far as we know.
    containers: u32,
    /// Our calls of this function that it has.
    own: u32,
    /// Whether the runner told that it has containers or calls of the function.
    told: bool,
    /// When something last happened here.
    touched: Now,
    wait: WaitAverage,
}

impl Functions {
    pub(crate) fn new(places: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            places_per_shard: places.div_ceil(SHARDS),
        }
    }

    /// Lends what is known of a function.
    pub(crate) fn read<R>(&self, key: &SlotKey, look: impl FnOnce(&Function) -> R) -> Option<R> {
        self.shard(key).functions.get(key).map(look)
    }

    /// Notes that a call was sent.
    pub(crate) fn begun(&self, key: &SlotKey, runner: &Arc<Runner>, now: Now) {
        self.change(key, runner, now, true, |place| {
            place.own += 1;
            match place.idle.checked_sub(1) {
                Some(left) => place.idle = left,
                // It may start one.
                None => place.containers = place.containers.saturating_add(1),
            }
        });
    }

    /// Notes that a call ended, and with it perhaps its container.
    pub(crate) fn ended(&self, key: &SlotKey, runner: &Arc<Runner>, now: Now) {
        self.change(key, runner, now, false, |place| {
            place.own = place.own.saturating_sub(1);
            place.containers = place.containers.saturating_sub(1);
        });
    }

    /// Notes that a runner refused a call: it has no idle container.
    pub(crate) fn refused(&self, key: &SlotKey, runner: &Arc<Runner>, now: Now) {
        self.change(key, runner, now, false, |place| {
            place.own = place.own.saturating_sub(1);
            place.containers = place.containers.saturating_sub(1);
            place.idle = 0;
        });
    }

    /// Notes that the function was served: it left a container behind. Returns how far its time
    /// was from the usual.
    pub(crate) fn served(
        &self,
        key: &SlotKey,
        runner: &Arc<Runner>,
        served: Served,
        now: Now,
    ) -> Option<Distance> {
        let mut shard = self.shard(key);
        let function = shard.functions.get_mut(key)?;
        if let Ok(index) = function.find(runner.id) {
            function.change(index, |place| {
                place.own = place.own.saturating_sub(1);
                let most = place.containers.saturating_sub(place.own);
                place.idle = (place.idle + 1).min(most);
                if let Some(wait) = served.wait {
                    place.wait.add(wait, now, served.half_life);
                }
                place.touched = now;
            });
        }
        let counts = runner.is_open();
        function
            .usual
            .compare(key, runner.id, served.took, now, counts)
    }

    /// Takes in what a runner tells of a function.
    pub(crate) fn told(&self, runner: &Arc<Runner>, state: &FunctionState, now: Now) {
        let there = state.idle > 0 || state.busy > 0 || state.waiting > 0;
        self.change(&state.slot_key, runner, now, there, |place| {
            // Calls of ours that the runner had not seen when it told will take idle containers.
            let seen = state.busy.saturating_add(state.waiting);
            let unseen = place.own.saturating_sub(seen);
            place.idle = state.idle.saturating_sub(unseen);
            place.containers = state.idle.saturating_add(state.busy).saturating_add(unseen);
            place.told = there;
            if there {
                place.wait.set(state.wait, now);
            }
        });
    }

    /// Forgets what a runner had told of all functions but `kept`, which is sorted.
    pub(crate) fn keep_only(&self, runner: &Arc<Runner>, kept: &[SlotKey]) {
        self.each_place(runner.id, |key, place| {
            if kept.binary_search(key).is_err() {
                place.told = false;
                place.idle = 0;
                place.containers = place.own;
            }
        });
    }

    /// Forgets a runner.
    pub(crate) fn forget(&self, runner: RunnerId) {
        for shard in &self.shards {
            let shard = &mut *lock(shard);
            shard.functions.retain(|_, function| {
                if let Ok(index) = function.find(runner) {
                    function.places.remove(index);
                    function.idle.retain(|(id, _)| *id != runner);
                    shard.places -= 1;
                }
                !function.places.is_empty()
            });
        }
    }

    /// Forgets places that no call used and no runner spoke of since `before`.
    pub(crate) fn tidy(&self, before: Now) {
        for shard in &self.shards {
            lock(shard).tidy(before);
        }
    }

    /// Pairs of a function and a runner that are remembered.
    pub(crate) fn places(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).places).sum()
    }

    fn each_place(&self, runner: RunnerId, mut visit: impl FnMut(&SlotKey, &mut Place)) {
        for shard in &self.shards {
            for (key, function) in &mut lock(shard).functions {
                if let Ok(index) = function.find(runner) {
                    function.change(index, |place| visit(key, place));
                }
            }
        }
    }

    fn change(
        &self,
        key: &SlotKey,
        runner: &Arc<Runner>,
        now: Now,
        create: bool,
        change: impl FnOnce(&mut Place),
    ) {
        let mut shard = self.shard(key);
        let shard = &mut *shard;
        let index = shard
            .functions
            .get(key)
            .map(|function| function.find(runner.id));
        let index = match index {
            Some(Ok(index)) => index,
            _ if !create || shard.places >= self.places_per_shard => return,
            Some(Err(index)) => shard.insert(key, index, runner),
            None => shard.insert(key, 0, runner),
        };
        if let Some(function) = shard.functions.get_mut(key) {
            function.change(index, |place| {
                change(place);
                place.touched = now;
            });
        }
    }

    fn shard(&self, key: &SlotKey) -> MutexGuard<'_, Shard> {
        // The key is a cryptographic hash: any of its bytes will do.
        lock(&self.shards[usize::from(key.as_bytes()[0]) % SHARDS])
    }
}

impl Shard {
    fn insert(&mut self, key: &SlotKey, index: usize, runner: &Arc<Runner>) -> usize {
        let place = Place {
            runner: Arc::clone(runner),
            idle: 0,
            containers: 0,
            own: 0,
            told: false,
            touched: Now::ZERO,
            wait: WaitAverage::default(),
        };
        self.functions
            .entry(*key)
            .or_default()
            .places
            .insert(index, place);
        self.places += 1;
        index
    }

    fn tidy(&mut self, before: Now) {
        let places = &mut self.places;
        self.functions.retain(|_, function| {
            let had = function.places.len();
            function.places.retain(|place| {
                place.own > 0 || (place.told && place.runner.is_fed()) || place.touched >= before
            });
            let gone = had - function.places.len();
            if gone > 0 {
                *places -= gone;
                let Function { places, idle, .. } = function;
                idle.retain(|(id, _)| find(places, *id).is_ok());
            }
            !function.places.is_empty()
        });
    }
}

impl Function {
    /// Runners with an idle container, from the one at `start` on; those whose knowledge is older
    /// than `since` only if they tell of changes themselves.
    pub(crate) fn warm(&self, start: usize, since: Now) -> impl Iterator<Item = &Arc<Runner>> {
        let (later, first) = self.idle.split_at(start.min(self.idle.len()));
        first
            .iter()
            .chain(later)
            .map(|(_, runner)| runner)
            .filter(move |runner| {
                runner.is_fed()
                    || self
                        .find(runner.id)
                        .is_ok_and(|index| self.places[index].touched >= since)
            })
    }

    /// Whether a call of it tells soon whether a runner is slow.
    pub(crate) fn is_telling(&self) -> bool {
        self.usual.is_telling()
    }

    /// How many runners have an idle container.
    pub(crate) fn warm_count(&self) -> usize {
        self.idle.len()
    }

    /// How long calls wait at a runner, in seconds.
    pub(crate) fn wait(&self, runner: RunnerId, now: Now, half_life: Duration) -> f64 {
        self.find(runner)
            .map_or(0.0, |index| self.places[index].wait.read(now, half_life))
    }

    /// Idle containers on all runners.
    #[cfg(test)]
    pub(crate) fn idle_in_all(&self) -> u32 {
        self.places.iter().map(|place| place.idle).sum()
    }

    fn find(&self, runner: RunnerId) -> Result<usize, usize> {
        find(&self.places, runner)
    }

    /// Changes a place, and keeps the list of those with idle containers in step.
    fn change(&mut self, index: usize, change: impl FnOnce(&mut Place)) {
        let place = &mut self.places[index];
        let was = place.idle > 0;
        change(place);
        match (was, place.idle > 0) {
            (false, true) => self.idle.push((place.runner.id, Arc::clone(&place.runner))),
            (true, false) => {
                let gone = place.runner.id;
                if let Some(index) = self.idle.iter().position(|(id, _)| *id == gone) {
                    self.idle.swap_remove(index);
                }
            }
            _ => {}
        }
    }
}

fn find(places: &[Place], runner: RunnerId) -> Result<usize, usize> {
    places.binary_search_by_key(&runner, |place| place.runner.id)
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
