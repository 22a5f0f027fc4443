//! The events of a simulation: calls, runners, load balancers, and what travels between them.

mod feed;
mod outcome;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use domain::SlotKey;

pub use self::outcome::Outcome;
use super::dice::Dice;
use super::machine::{Admission, Machine, MachineSpec};
use super::policy::{Patience, Policy, Rule};
use super::trace::Trace;
use crate::placement::{Ask, Ended, Fleet, Health, Now, RunnerId, RunnerState};

/// What is simulated.
#[derive(Debug, Clone)]
pub struct WorldSpec {
    /// The random state.
    pub seed: u64,
    /// How many runners.
    pub runners: usize,
    /// How many load balancers; they know nothing of each other.
    pub balancers: usize,
    /// What a runner is made of.
    pub machine: MachineSpec,
    /// The share of runners that are slow, and their speed.
    pub slow: (f64, f64),
    /// Runners that change their speed.
    pub changes: Vec<SpeedChange>,
    /// Calls before this time only warm the containers, in seconds.
    pub warm_up: f64,
    /// Given up when so many tries were made in all: the rule has collapsed.
    pub most_tries: u64,
}

/// A runner's new speed.
#[derive(Debug, Clone, Copy)]
pub struct SpeedChange {
    /// The runner.
    pub runner: usize,
    /// When, in seconds.
    pub at: f64,
    /// The speed; 1 is that of its kind.
    pub speed: f64,
}

/// From a load balancer to a runner, in seconds.
const NETWORK: f64 = 0.000_15;
/// Starting any container.
const COLD: f64 = 0.35;
/// After the last call came.
const DRAIN: f64 = 60.0;
/// A load balancer looks at its waiting calls at most this often, and at so many of them.
const WAKE_EVERY: f64 = 0.001;
const WAKE_CALLS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(u32),
    Asked(u32),
    Refused(u32),
    Ready(u32),
    End(u32, u64),
    Answer(u32),
    Feed(u32),
    Told(u32),
    Retry(u32),
    Wake(u32),
    Tidy,
    Change(u32),
    Watch,
}

#[derive(Debug, Clone, Default)]
struct Call {
    balancer: usize,
    runner: usize,
    tried: Vec<RunnerId>,
    tries: u32,
    cold: bool,
    sent: f64,
    asked: f64,
    started: f64,
    answered: bool,
}

struct Balancer {
    fleet: Fleet,
    rule: Rule,
    waiting: VecDeque<u32>,
    wake: Option<u64>,
}

/// A simulation in progress.
struct World<'a> {
    spec: &'a WorldSpec,
    trace: &'a Trace,
    keys: Vec<SlotKey>,
    machines: Vec<Machine>,
    /// The version of each machine's next end: an older one is void.
    versions: Vec<u64>,
    told: Vec<VecDeque<Rc<RunnerState>>>,
    balancers: Vec<Balancer>,
    calls: Vec<Call>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    serial: u64,
    tries: u64,
    open: usize,
    end: f64,
    healthy: Vec<bool>,
    outcome: Outcome,
}

/// Plays a trace under a rule.
pub fn play(spec: &WorldSpec, trace: &Trace, policy: Policy) -> Outcome {
    let mut world = World::new(spec, trace, policy);
    world.run();
    world.finish()
}

/// The key of the nth function's containers.
pub fn slot_key(n: usize) -> SlotKey {
    let mut dice = Dice::new(n as u64, 77);
    let mut bytes = [0; 32];
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&dice.number().to_le_bytes());
    }
    SlotKey::from_bytes(bytes)
}

impl<'a> World<'a> {
    fn new(spec: &'a WorldSpec, trace: &'a Trace, policy: Policy) -> Self {
        let addresses: Vec<_> = (0..spec.runners)
            .map(|n| format!("runner-{n:05}:9190"))
            .collect();
        let balancer = |n: usize| {
            let fleet = Fleet::new(policy.settings(), Dice::new(spec.seed, n as u64).number());
            let runners = addresses.iter().map(|address| (address.as_str(), 1));
            fleet.add_all(runners, Now::ZERO);
            Balancer {
                fleet,
                rule: policy.rule(),
                waiting: VecDeque::new(),
                wake: None,
            }
        };
        let mut dice = Dice::new(spec.seed, 500);
        let slow = |dice: &mut Dice| {
            if dice.unit() < spec.slow.0 {
                spec.slow.1
            } else {
                1.0
            }
        };
        let mut world = Self {
            spec,
            trace,
            keys: (0..trace.functions.len()).map(slot_key).collect(),
            machines: (0..spec.runners)
                .map(|_| Machine::new(spec.machine, slow(&mut dice)))
                .collect(),
            versions: vec![0; spec.runners],
            told: vec![VecDeque::new(); spec.runners],
            balancers: (0..spec.balancers).map(balancer).collect(),
            calls: vec![Call::default(); trace.arrivals.len()],
            events: BinaryHeap::new(),
            serial: 0,
            tries: 0,
            open: trace.arrivals.len(),
            end: trace.arrivals.last().map_or(0.0, |last| last.at) + DRAIN,
            healthy: vec![true; spec.balancers],
            outcome: Outcome::default(),
        };
        for call in &mut world.calls {
            call.balancer = dice.below(spec.balancers);
        }
        world.at(1.0, Event::Tidy);
        for n in 0..spec.changes.len() {
            world.at(spec.changes[n].at, Event::Change(n as u32));
        }
        if !spec.changes.is_empty() {
            world.at(0.01, Event::Watch);
        }
        for runner in 0..spec.runners {
            let first = feed::EVERY * dice.unit();
            world.at(first, Event::Feed(runner as u32));
        }
        if !trace.arrivals.is_empty() {
            world.at(trace.arrivals[0].at, Event::Arrive(0));
        }
        world
    }

    fn at(&mut self, time: f64, event: Event) {
        self.serial += 1;
        self.events
            .push(Reverse(((time * 1e9) as u64, self.serial, event)));
    }

    fn run(&mut self) {
        while let Some(Reverse((nanos, _, event))) = self.events.pop() {
            let now = nanos as f64 / 1e9;
            if self.open == 0 || now > self.end {
                break;
            }
            if self.tries > self.spec.most_tries {
                self.outcome.collapsed = true;
                self.end = now;
                break;
            }
            self.handle(event, now);
        }
    }

    fn handle(&mut self, event: Event, now: f64) {
        match event {
            Event::Arrive(call) => {
                if let Some(next) = self.trace.arrivals.get(call as usize + 1) {
                    self.at(next.at, Event::Arrive(call + 1));
                }
                self.place(call, now);
            }
            Event::Retry(call) => {
                self.calls[call as usize].tried.clear();
                self.place(call, now);
            }
            Event::Asked(call) => self.asked(call, now),
            Event::Refused(call) => self.refused(call, now),
            Event::Ready(call) => self.start(call, now),
            Event::End(runner, version) => self.end_of_call(runner as usize, version, now),
            Event::Answer(call) => self.answer(call, now),
            Event::Feed(runner) => self.feed(runner as usize, now),
            Event::Told(runner) => self.tell(runner as usize, now),
            Event::Wake(balancer) => self.wake(balancer as usize, now),
            Event::Tidy => self.tidy(now),
            Event::Change(n) => {
                let change = self.spec.changes[n as usize];
                self.machines[change.runner].set_speed(change.speed, now);
                self.reschedule(change.runner);
            }
            Event::Watch => self.watch(now),
        }
    }

    /// Sends a call to a runner; false if there is none for it.
    fn try_place(&mut self, call: u32, now: f64) -> bool {
        let (fn_id, key, memory_mb) = self.function_of(call);
        let own = &self.calls[call as usize];
        let balancer = &self.balancers[own.balancer];
        let ask = Ask {
            slot_key: key,
            fn_id,
            memory_mb,
            tried: &own.tried,
        };
        let Some(runner) = balancer.rule.choose(&balancer.fleet, &ask, time(now)) else {
            return false;
        };
        balancer.fleet.begun(runner, &key, time(now));
        self.tries += 1;
        let own = &mut self.calls[call as usize];
        own.tried.push(runner);
        own.tries += 1;
        own.runner = runner.0 as usize;
        own.sent = now;
        self.at(now + NETWORK, Event::Asked(call));
        true
    }

    fn place(&mut self, call: u32, now: f64) {
        if self.try_place(call, now) {
            return;
        }
        let own = self.calls[call as usize].balancer;
        match self.balancers[own].rule.patience {
            Patience::Pause(pause) => self.at(now + pause.as_secs_f64(), Event::Retry(call)),
            Patience::Change => {
                self.calls[call as usize].tried.clear();
                self.balancers[own].waiting.push_back(call);
                self.wake_later(own, now);
            }
        }
    }

    /// Looks at the waiting calls when the fleet says, without an event.
    fn wake_later(&mut self, balancer: usize, now: f64) {
        let at = self.balancers[balancer]
            .fleet
            .wake_at(time(now))
            .as_secs_f64();
        if at < self.end {
            self.wake_at(balancer, at.max(now + WAKE_EVERY));
        }
    }

    /// Looks at the waiting calls after an event.
    fn wake_soon(&mut self, balancer: usize, now: f64) {
        if !self.balancers[balancer].waiting.is_empty() {
            self.wake_at(balancer, now + WAKE_EVERY);
        }
    }

    fn wake_at(&mut self, balancer: usize, at: f64) {
        let nanos = (at * 1e9) as u64;
        let wake = &mut self.balancers[balancer].wake;
        if wake.is_none_or(|planned| nanos < planned) {
            *wake = Some(nanos);
            self.at(at, Event::Wake(balancer as u32));
        }
    }

    fn wake(&mut self, balancer: usize, now: f64) {
        let nanos = (now * 1e9).round() as u64;
        let planned = self.balancers[balancer].wake;
        if planned.is_none_or(|planned| planned > nanos + 1) {
            return;
        }
        self.balancers[balancer].wake = None;
        let looks = self.balancers[balancer].waiting.len().min(WAKE_CALLS);
        for _ in 0..looks {
            if let Some(call) = self.balancers[balancer].waiting.pop_front()
                && !self.try_place(call, now)
            {
                self.balancers[balancer].waiting.push_back(call);
            }
        }
        if !self.balancers[balancer].waiting.is_empty() {
            self.wake_later(balancer, now);
        }
    }

    fn asked(&mut self, call: u32, now: f64) {
        let arrival = self.trace.arrivals[call as usize];
        let function = &self.trace.functions[arrival.function as usize];
        let own = &mut self.calls[call as usize];
        own.asked = now;
        let machine = &mut self.machines[own.runner];
        match machine.admit(arrival.function, function.memory_mb) {
            Admission::Warm => {
                own.cold = false;
                self.start(call, now);
            }
            Admission::Cold => {
                own.cold = true;
                self.outcome.starts += 1;
                let ready = now + (COLD + function.init) / machine.speed();
                self.at(ready, Event::Ready(call));
            }
            Admission::Refused => self.at(now + NETWORK, Event::Refused(call)),
        }
    }

    fn refused(&mut self, call: u32, now: f64) {
        let (_, key, _) = self.function_of(call);
        let own = &self.calls[call as usize];
        let (balancer, runner) = (own.balancer, RunnerId(own.runner as u32));
        self.balancers[balancer]
            .fleet
            .ended(runner, &key, Ended::Refused, time(now));
        self.place(call, now);
    }

    fn start(&mut self, call: u32, now: f64) {
        let own = &mut self.calls[call as usize];
        own.started = now;
        let runner = own.runner;
        let wait = now - own.asked;
        let function = self.trace.arrivals[call as usize].function;
        self.machines[runner].waited(function, wait);
        self.machines[runner].start(call, self.trace.arrivals[call as usize].work, now);
        self.reschedule(runner);
    }

    fn reschedule(&mut self, runner: usize) {
        self.versions[runner] += 1;
        if let Some(end) = self.machines[runner].next_end() {
            self.at(end, Event::End(runner as u32, self.versions[runner]));
        }
    }

    fn end_of_call(&mut self, runner: usize, version: u64, now: f64) {
        if self.versions[runner] != version {
            return;
        }
        if let Some(call) = self.machines[runner].end(now) {
            let function = self.trace.arrivals[call as usize].function;
            let memory_mb = self.trace.functions[function as usize].memory_mb;
            self.machines[runner].free(function, memory_mb);
            self.at(now + NETWORK, Event::Answer(call));
        }
        self.reschedule(runner);
    }

    fn answer(&mut self, call: u32, now: f64) {
        let (fn_id, key, _) = self.function_of(call);
        let own = &mut self.calls[call as usize];
        own.answered = true;
        self.open -= 1;
        let own = &self.calls[call as usize];
        let wait = span(own.started - own.asked);
        let runner = RunnerId(own.runner as u32);
        let how = Ended::Done {
            wait,
            pulled: false,
            took: span(now - own.sent),
            execution: span(now - NETWORK - own.started),
        };
        let balancer = own.balancer;
        self.balancers[balancer]
            .fleet
            .ended(runner, &key, how, time(now));
        self.balancers[balancer].rule.waited(fn_id, runner, wait);
        self.count(call, now);
        self.wake_soon(balancer, now);
    }

    fn count(&mut self, call: u32, now: f64) {
        let arrival = self.trace.arrivals[call as usize];
        if arrival.at < self.spec.warm_up {
            return;
        }
        let own = &self.calls[call as usize];
        let took = now - arrival.at;
        let ideal = if own.answered { arrival.work } else { 0.0 };
        self.outcome.overheads.push((took - ideal).max(0.0));
        self.outcome.latencies.push((arrival.at, took));
        self.outcome.tries.push(own.tries);
        self.outcome.cold += u64::from(own.cold && own.answered);
        self.outcome.unfinished += u64::from(!own.answered);
    }

    fn tidy(&mut self, now: f64) {
        for balancer in &self.balancers {
            balancer.fleet.tidy(time(now));
            let out = balancer
                .fleet
                .runners(time(now))
                .into_iter()
                .filter(|view| {
                    view.health != Health::Healthy
                        && self.machines[view.id.0 as usize].speed() >= 1.0
                });
            self.outcome.wrongly_out = self.outcome.wrongly_out.max(out.count());
        }
        self.at(now + 1.0, Event::Tidy);
    }

    fn watch(&mut self, now: f64) {
        let watched = RunnerId(self.spec.changes[0].runner as u32);
        for (n, balancer) in self.balancers.iter().enumerate() {
            let healthy = balancer.fleet.health(watched) == Some(Health::Healthy);
            if healthy != self.healthy[n] {
                self.healthy[n] = healthy;
                self.outcome.turns.push((now, n, healthy));
            }
        }
        self.at(now + 0.01, Event::Watch);
    }

    fn finish(mut self) -> Outcome {
        let end = self.end;
        for call in 0..self.calls.len() {
            let came = self.trace.arrivals[call].at < end;
            if came && !self.calls[call].answered {
                self.count(call as u32, end);
            }
        }
        self.outcome
    }

    fn function_of(&self, call: u32) -> (&'a str, SlotKey, u64) {
        let n = self.trace.arrivals[call as usize].function as usize;
        let function = &self.trace.functions[n];
        (&function.id, self.keys[n], function.memory_mb)
    }
}

fn time(seconds: f64) -> Now {
    Now::from_nanos((seconds * 1e9) as u64)
}

fn span(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.max(0.0))
}
