//! A runner in virtual time: processors that its calls share, a limited number of containers, the
//! least recently used idle one makes room.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// What a runner is made of.
#[derive(Debug, Clone, Copy)]
pub struct MachineSpec {
    /// Processors.
    pub cores: f64,
    /// Containers that fit.
    pub containers: usize,
    /// Memory for containers.
    pub memory_mb: u64,
}

impl Default for MachineSpec {
    fn default() -> Self {
        Self {
            cores: 8.0,
            containers: 24,
            memory_mb: 8_192,
        }
    }
}

/// What a runner does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// An idle container runs it at once.
    Warm,
    /// A container is started for it.
    Cold,
    /// It is full.
    Refused,
}

/// Containers of one function.
#[derive(Debug, Clone, Default)]
pub struct Containers {
    /// Each idle one by the time it became idle.
    idle: Vec<u64>,
    /// Those that start or run.
    pub busy: u32,
    /// Moving average of how long calls waited, in seconds.
    pub wait: Option<f64>,
}

impl Containers {
    /// How many are idle.
    pub fn idle(&self) -> u32 {
        self.idle.len() as u32
    }
}

/// A runner.
#[derive(Debug)]
pub struct Machine {
    spec: MachineSpec,
    speed: f64,
    /// What a call alone on a processor would have got by now, in seconds.
    attained: f64,
    now: f64,
    /// Running calls by what they will have got at their end.
    running: BinaryHeap<Reverse<(u64, u32)>>,
    functions: BTreeMap<u32, Containers>,
    /// Idle containers, least recently used first.
    oldest: BTreeMap<u64, (u32, u64)>,
    clock: u64,
    containers: usize,
    memory_mb: u64,
    /// Functions whose containers have changed since this was taken.
    pub changed: BTreeSet<u32>,
}

/// Parts of a second in which work is counted, so that times have an order.
const GRAIN: f64 = 1e9;

impl Machine {
    /// A runner without containers; `speed` 1 is that of its kind.
    pub fn new(spec: MachineSpec, speed: f64) -> Self {
        Self {
            spec,
            speed,
            attained: 0.0,
            now: 0.0,
            running: BinaryHeap::new(),
            functions: BTreeMap::new(),
            oldest: BTreeMap::new(),
            clock: 0,
            containers: 0,
            memory_mb: 0,
            changed: BTreeSet::new(),
        }
    }

    /// Its speed.
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// Changes its speed from now on.
    pub fn set_speed(&mut self, speed: f64, now: f64) {
        self.advance(now);
        self.speed = speed;
    }

    /// What it is made of.
    pub fn spec(&self) -> MachineSpec {
        self.spec
    }

    /// Memory that no container has.
    pub fn memory_free_mb(&self) -> u64 {
        self.spec.memory_mb.saturating_sub(self.memory_mb)
    }

    /// Containers that start or run a call.
    pub fn busy(&self) -> u32 {
        (self.containers - self.oldest.len()) as u32
    }

    /// The containers of a function.
    pub fn containers(&self, function: u32) -> Containers {
        self.functions.get(&function).cloned().unwrap_or_default()
    }

    /// Takes a call or not. What was taken begins with [`start`](Self::start).
    pub fn admit(&mut self, function: u32, memory_mb: u64) -> Admission {
        if let Some(last) = self
            .functions
            .get_mut(&function)
            .and_then(|own| own.idle.pop())
        {
            self.oldest.remove(&last);
            self.functions.entry(function).or_default().busy += 1;
            self.changed.insert(function);
            return Admission::Warm;
        }
        let fits = |containers: usize, used: u64| {
            containers < self.spec.containers && used + memory_mb <= self.spec.memory_mb
        };
        // Evicting for nothing would hurt others: first see whether it helps.
        let (mut containers, mut used, mut victims) = (self.containers, self.memory_mb, 0);
        for (_, memory) in self.oldest.values() {
            if fits(containers, used) {
                break;
            }
            containers -= 1;
            used -= memory;
            victims += 1;
        }
        if !fits(containers, used) {
            return Admission::Refused;
        }
        for _ in 0..victims {
            if let Some((at, (other, _))) = self.oldest.pop_first() {
                if let Some(own) = self.functions.get_mut(&other) {
                    own.idle.retain(|idle| *idle != at);
                }
                self.changed.insert(other);
                self.forget(other);
            }
        }
        self.containers = containers + 1;
        self.memory_mb = used + memory_mb;
        self.functions.entry(function).or_default().busy += 1;
        self.changed.insert(function);
        Admission::Cold
    }

    /// Runs a call that was admitted.
    pub fn start(&mut self, call: u32, work: f64, now: f64) {
        self.advance(now);
        let end = ((self.attained + work) * GRAIN) as u64;
        self.running.push(Reverse((end, call)));
    }

    /// A call waited so long for its container.
    pub fn waited(&mut self, function: u32, wait: f64) {
        if let Some(own) = self.functions.get_mut(&function) {
            own.wait = Some(own.wait.map_or(wait, |mean| mean + 0.1 * (wait - mean)));
        }
    }

    /// When the next call ends if nothing else happens.
    pub fn next_end(&self) -> Option<f64> {
        let Reverse((end, _)) = self.running.peek()?;
        let left = (*end as f64 / GRAIN - self.attained).max(0.0);
        Some(self.now + left / self.rate())
    }

    /// The call that ends now.
    pub fn end(&mut self, now: f64) -> Option<u32> {
        self.advance(now);
        let Reverse((_, call)) = self.running.pop()?;
        Some(call)
    }

    /// A function's container has done its call and is idle.
    pub fn free(&mut self, function: u32, memory_mb: u64) {
        self.clock += 1;
        let own = self.functions.entry(function).or_default();
        own.busy = own.busy.saturating_sub(1);
        own.idle.push(self.clock);
        self.oldest.insert(self.clock, (function, memory_mb));
        self.changed.insert(function);
    }

    fn forget(&mut self, function: u32) {
        if self
            .functions
            .get(&function)
            .is_some_and(|own| own.busy == 0 && own.idle.is_empty())
        {
            self.functions.remove(&function);
        }
    }

    fn advance(&mut self, now: f64) {
        self.attained += (now - self.now).max(0.0) * self.rate();
        self.now = now.max(self.now);
    }

    /// What each running call gets per second.
    fn rate(&self) -> f64 {
        let calls = self.running.len().max(1) as f64;
        self.speed * (self.spec.cores / calls).min(1.0)
    }
}
