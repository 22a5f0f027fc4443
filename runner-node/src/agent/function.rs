//! One function on this runner: its queue of slots, what its calls have shown, and its launcher.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nodekit::exchange::Target;

use super::feed::FunctionView;
use super::launch_policy::{LaunchPolicy, Load};
use super::mark::Mark;
use super::slot::HotSlot;
use super::slot_queue::SlotQueue;
use crate::metrics::OwnerMetrics;

/// A function that this runner has been asked to run.
pub(super) struct Function {
    /// What the function is.
    pub target: Arc<Target>,
    /// Its idle slots and waiting calls.
    pub queue: SlotQueue<HotSlot>,
    /// The metrics of its containers.
    pub metrics: OwnerMetrics,
    stats: Mutex<Stats>,
    next_container: AtomicU64,
    /// Whether a task looks after the waiting calls.
    pub(super) watched: AtomicBool,
}

struct Stats {
    policy: LaunchPolicy,
    /// Containers that wait for resources or are being started.
    starting: usize,
    /// Containers that have come up and not yet gone.
    ready: usize,
    /// The containers that run a call, and since when.
    running: Vec<(u64, Instant)>,
    /// Moving average of how long calls waited for a container, in nanoseconds.
    wait_nanos: Option<f64>,
    last_used: Instant,
}

/// What a sample weighs in the average of waits: about ten of them are remembered.
const WAIT_WEIGHT: f64 = 0.1;

impl Function {
    /// A function without containers.
    pub(super) fn new(
        target: Arc<Target>,
        processors: usize,
        metrics: OwnerMetrics,
        mark: Mark,
    ) -> Self {
        Self {
            target,
            queue: SlotQueue::observed(mark),
            metrics,
            stats: Mutex::new(Stats {
                policy: LaunchPolicy::new(processors),
                starting: 0,
                ready: 0,
                running: Vec::new(),
                wait_nanos: None,
                last_used: Instant::now(),
            }),
            next_container: AtomicU64::new(0),
            watched: AtomicBool::new(false),
        }
    }

    fn stats(&self) -> MutexGuard<'_, Stats> {
        // The data stays consistent: nothing under this lock can panic half way.
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next container.
    pub(super) fn next_container(&self) -> u64 {
        self.next_container.fetch_add(1, Ordering::Relaxed)
    }

    /// A call starts to run in `container` after it has `waited`.
    pub(super) fn call_started(&self, container: u64, waited: Duration) {
        let mut stats = self.stats();
        stats.running.push((container, Instant::now()));
        let sample = waited.as_nanos() as f64;
        let average = stats.wait_nanos.unwrap_or(sample);
        stats.wait_nanos = Some(average + WAIT_WEIGHT * (sample - average));
        drop(stats);
        self.queue.mark().touch();
    }

    /// What load balancers are told of it, as of now.
    pub(super) fn view(&self) -> FunctionView {
        let (idle, waiting) = self.queue.idle_and_waiting();
        let stats = self.stats();
        FunctionView {
            idle,
            busy: stats.running.len(),
            waiting,
            wait_nanos: stats.wait_nanos.unwrap_or_default() as u64,
        }
    }

    /// The call in `container` is over. Only a call that was `served` to its end says how long
    /// calls take.
    pub(super) fn call_ended(&self, container: u64, served: bool) {
        let mut stats = self.stats();
        let now = Instant::now();
        stats.last_used = now;
        let busy = stats.running.len();
        if let Some(at) = stats
            .running
            .iter()
            .position(|(number, _)| *number == container)
        {
            let (_, since) = stats.running.swap_remove(at);
            if served {
                stats.policy.served(now - since, busy);
            }
        }
        drop(stats);
        self.queue.mark().touch();
    }

    /// How many containers to launch now; they count as starting from this moment.
    pub(super) fn claim_launches(&self) -> usize {
        let waiting = self.queue.waiting();
        let mut stats = self.stats();
        let now = Instant::now();
        stats.last_used = now;
        let oldest = stats.running.iter().map(|(_, since)| *since).min();
        let load = Load {
            waiting,
            starting: stats.starting,
            // Where a call waits no slot is idle: one that runs no call has just been handed out,
            // or is being frozen, or is on its way out.
            idle: 0,
            busy: stats.ready,
            longest_running: oldest.map_or(Duration::ZERO, |since| now - since),
        };
        let launches = stats.policy.launches(load, now);
        stats.starting += launches;
        launches
    }

    /// A launch came to nothing.
    pub(super) fn launch_failed(&self) {
        self.stats().starting -= 1;
    }

    /// Whether a container is up, which may serve calls that wait.
    pub(super) fn has_containers(&self) -> bool {
        self.stats().ready > 0
    }

    /// A launch brought a container up, which took `took` without waiting for resources or image.
    pub(super) fn launched(&self, took: Duration) {
        let mut stats = self.stats();
        stats.starting -= 1;
        stats.ready += 1;
        stats.policy.started(took);
    }

    /// A container that had come up is gone.
    pub(super) fn gone(&self) {
        self.stats().ready -= 1;
    }

    /// Retires the function if nothing has happened for `keep` and it has no containers; its queue
    /// is closed then and it must be forgotten.
    pub(super) fn retire(&self, keep: Duration) -> bool {
        let stats = self.stats();
        let unused = stats.starting == 0 && stats.ready == 0 && stats.last_used.elapsed() >= keep;
        unused && self.queue.close_if_unused()
    }
}
