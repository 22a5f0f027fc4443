//! One runner's numbers: written by events, read by every decision without a lock.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Now;
use super::fleet::events::NodeLoad;
use super::health::State;
use super::slowness::Slowness;
use super::wait::WaitAverage;

/// A runner, for as long as the load balancer knows it: small numbers, never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunnerId(pub(crate) u32);

impl fmt::Display for RunnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A runner's CPU if it does not tell: only matters beside runners that do.
const CPU_MILLIS: u64 = 8_000;

/// What is believed at most.
const MOST_CPU_MILLIS: u64 = 100_000_000;

/// One runner's numbers.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) id: RunnerId,
    pub(crate) address: Arc<str>,
    pub(crate) weight: u32,
    /// Our calls that it has.
    own: AtomicU32,
    /// Calls of other load balancers that it has, by its last report.
    others: AtomicU32,
    cpu_millis: AtomicU64,
    memory_free: AtomicU64,
    /// Whether its state feed is there.
    fed: AtomicBool,
    draining: AtomicBool,
    /// Whether it is ejected or on trial: what `state` says, without its lock.
    out: AtomicBool,
    /// Until when it is asked for no new container, in nanoseconds.
    refused_until: AtomicU64,
    /// What `judged.slowness` says, as the bits of an f64; not a number if it does not know yet.
    slowness: AtomicU64,
    pub(crate) judged: Mutex<Judged>,
}

/// What is judged of a runner, behind one short lock.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) state: State,
    pub(crate) wait: WaitAverage,
    pub(crate) slowness: Slowness,
}

impl Runner {
    pub(crate) fn new(id: RunnerId, address: &str, weight: u32) -> Self {
        Self {
            id,
            address: Arc::from(address),
            weight: weight.max(1),
            own: AtomicU32::new(0),
            others: AtomicU32::new(0),
            cpu_millis: AtomicU64::new(0),
            memory_free: AtomicU64::new(u64::MAX),
            fed: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            out: AtomicBool::new(false),
            refused_until: AtomicU64::new(0),
            slowness: AtomicU64::new(f64::NAN.to_bits()),
            judged: Mutex::default(),
        }
    }

    /// Calls that it has, as far as is known.
    pub(crate) fn load(&self) -> u32 {
        self.own()
            .saturating_add(self.others.load(Ordering::Relaxed))
    }

    /// Our calls that it has.
    pub(crate) fn own(&self) -> u32 {
        self.own.load(Ordering::Relaxed)
    }

    /// How much it can do beside others: its CPU if it tells, times its weight.
    pub(crate) fn capacity(&self) -> u64 {
        let told = self.cpu_millis.load(Ordering::Relaxed);
        let cpu = if told == 0 {
            CPU_MILLIS
        } else {
            told.min(MOST_CPU_MILLIS)
        };
        cpu.saturating_mul(u64::from(self.weight))
    }

    /// Whether a container of this size fits without another one's end.
    pub(crate) fn has_room(&self, memory_mb: u64) -> bool {
        self.memory_free.load(Ordering::Relaxed) >= memory_mb.saturating_mul(1 << 20)
    }

    /// Whether it is in the ordinary round of calls.
    pub(crate) fn is_open(&self) -> bool {
        !self.out.load(Ordering::Relaxed) && !self.is_draining()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether it refused a call a moment ago.
    pub(crate) fn is_full(&self, now: Now) -> bool {
        nanos(now) < self.refused_until.load(Ordering::Relaxed)
    }

    /// Whether its state feed is there.
    pub(crate) fn is_fed(&self) -> bool {
        self.fed.load(Ordering::Relaxed)
    }

    pub(crate) fn set_fed(&self, fed: bool) {
        self.fed.store(fed, Ordering::Relaxed);
        if !fed {
            self.others.store(0, Ordering::Relaxed);
            self.memory_free.store(u64::MAX, Ordering::Relaxed);
        }
    }

    /// Returns whether that is news.
    pub(crate) fn set_draining(&self, draining: bool) -> bool {
        self.draining.swap(draining, Ordering::Relaxed) != draining
    }

    pub(crate) fn set_refused(&self, until: Now) {
        self.refused_until.store(nanos(until), Ordering::Relaxed);
    }

    pub(crate) fn set_out(&self, out: bool) {
        self.out.store(out, Ordering::Relaxed);
    }

    /// Takes in a report of its load. Our own calls in it are not counted twice.
    pub(crate) fn set_load(&self, load: &NodeLoad) {
        let all = load.running.saturating_add(load.waiting);
        self.others
            .store(all.saturating_sub(self.own()), Ordering::Relaxed);
        self.cpu_millis
            .store(load.cpu_total_millis, Ordering::Relaxed);
        self.memory_free
            .store(load.memory_free_bytes, Ordering::Relaxed);
    }

    /// How slow it is beside the usual times of its functions, as a logarithm.
    pub(crate) fn slowness(&self) -> Option<f64> {
        let mean = f64::from_bits(self.slowness.load(Ordering::Relaxed));
        (!mean.is_nan()).then_some(mean)
    }

    pub(crate) fn set_slowness(&self, mean: Option<f64>) {
        self.slowness
            .store(mean.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
    }

    pub(crate) fn begun(&self) {
        self.own.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self) {
        // Saturating: an end without a beginning must not make it look infinitely loaded.
        let _ = self
            .own
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |own| {
                own.checked_sub(1)
            });
    }

    pub(crate) fn judged(&self) -> MutexGuard<'_, Judged> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time as an atomic can hold it.
pub(crate) fn nanos(time: Now) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
