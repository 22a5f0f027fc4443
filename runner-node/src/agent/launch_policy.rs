//! When a function gets another container: when the calls that wait now are expected to wait longer
//! than a new container takes to come up, or when calls keep waiting, though each of them not for
//! long; and only while more containers bring more throughput.
//! Pure: the launcher asks, this answers. The reasons are in `docs/adr/0002-launch-policy.md`.

use std::time::{Duration, Instant};

/// Weight of a new sample in the moving averages: about the last ten count.
const WEIGHT: f64 = 0.1;
/// What a container is taken to cost until the first one has started.
const DEFAULT_COLD_START: Duration = Duration::from_millis(300);
/// Twice the containers must serve at least this much more, else the function is held up by
/// something that containers do not add, such as processors.
const MIN_GAIN: f64 = 1.25;
/// How many samples a measure of throughput needs.
const MIN_SAMPLES: u32 = 8;
/// When calls keep waiting: a container is worth it once they have together waited for this many
/// cold starts,
const WORTH: f64 = 4.0;
/// within about this time,
const MEMORY: Duration = Duration::from_secs(1);
/// and up to this many containers for each processor.
const PER_PROCESSOR: usize = 4;
/// After this long without gain it is measured anew: what held the function up may have gone.
const RETRY_GAIN: Duration = Duration::from_secs(2);

/// What a queue and its containers look like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Calls that wait.
    pub waiting: usize,
    /// Containers that wait for resources, or are being started.
    pub starting: usize,
    /// Containers that are ready but have no call.
    pub idle: usize,
    /// Containers that run a call, or are about to.
    pub busy: usize,
    /// For how long the longest of the running calls has been running.
    pub longest_running: Duration,
}

/// What a function has shown so far.
#[derive(Debug)]
pub(super) struct LaunchPolicy {
    /// How many calls of an unknown function may be tried at once.
    processors: usize,
    service: Option<Duration>,
    cold_start: Option<Duration>,
    /// Service times by the power of two of busy containers.
    by_busy: [Sample; 16],
    held_back_since: Option<Instant>,
    /// Seconds that calls have waited together; what is long ago is forgotten.
    waited: f64,
    last_look: Option<(Instant, usize)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    mean: f64,
    count: u32,
}

impl LaunchPolicy {
    /// The policy of a function that has shown nothing yet, on a node with this many processors.
    pub(super) fn new(processors: usize) -> Self {
        Self {
            processors: processors.max(1),
            service: None,
            cold_start: None,
            by_busy: [Sample::default(); 16],
            held_back_since: None,
            waited: 0.0,
            last_look: None,
        }
    }

    /// A call took `took` to execute while `busy` containers of the function were running.
    pub(super) fn served(&mut self, took: Duration, busy: usize) {
        self.service = Some(average(self.service, took));
        let sample = &mut self.by_busy[level(busy)];
        sample.count = sample.count.saturating_add(1);
        let weight = WEIGHT.max(1.0 / f64::from(sample.count));
        sample.mean += weight * (took.as_secs_f64() - sample.mean);
    }

    /// A container took `took` from the decision to launch it until it was ready. Waiting for
    /// resources or for an image does not count: more containers would wait for the same.
    pub(super) fn started(&mut self, took: Duration) {
        self.cold_start = Some(average(self.cold_start, took));
    }

    /// How many containers to launch now.
    pub(super) fn launches(&mut self, load: Load, now: Instant) -> usize {
        self.look(load, now);
        let mut launches = 0;
        while self.needs_another(
            Load {
                starting: load.starting + launches,
                ..load
            },
            now,
        ) {
            launches += 1;
        }
        launches
    }

    fn needs_another(&mut self, load: Load, now: Instant) -> bool {
        let unserved = load.waiting.saturating_sub(load.idle);
        if load.starting >= unserved {
            return false;
        }
        let containers = load.busy + load.idle + load.starting;
        if containers == 0 {
            return true;
        }
        // A call that is still running says that calls take at least that long.
        let service = match self.service {
            Some(service) => service.max(load.longest_running),
            None if containers < self.processors => return true,
            None => load.longest_running,
        };
        let wait = service.as_secs_f64() * unserved as f64 / containers as f64;
        let cold_start = self.cold_start.unwrap_or(DEFAULT_COLD_START).as_secs_f64();
        if wait > cold_start {
            return self.gains(load, containers, now);
        }
        let keeps_waiting = load.starting == 0
            && containers < PER_PROCESSOR * self.processors
            && self.waited > WORTH * cold_start;
        if keeps_waiting && self.gains(load, containers, now) {
            self.waited = 0.0;
            return true;
        }
        false
    }

    /// Adds up how long calls wait. The queue of the last look has waited until now, or until it
    /// was served.
    fn look(&mut self, load: Load, now: Instant) {
        if let Some((last, waiting)) = self.last_look {
            let since = now.saturating_duration_since(last).as_secs_f64();
            let containers = (load.busy + load.idle).max(1);
            let served_after = self.service.map_or(since, |service| {
                service.as_secs_f64() * waiting as f64 / containers as f64
            });
            self.waited *= (-since / MEMORY.as_secs_f64()).exp();
            self.waited += waiting as f64 * since.min(served_after);
        }
        self.last_look = Some((now, load.waiting));
    }

    /// Whether more containers have brought more throughput up to now. Where that is not known the
    /// answer is yes, so each doubling is an experiment.
    fn gains(&mut self, load: Load, containers: usize, now: Instant) -> bool {
        let level = level(containers);
        // While long calls run there are no fresh samples: then what was measured does not tell.
        let known = |sample: &Sample| {
            sample.count >= MIN_SAMPLES
                && load.longest_running.as_secs_f64() <= 4.0 * sample.mean.max(0.001)
        };
        let gains = match (
            level.checked_sub(1).map(|half| &self.by_busy[half]),
            &self.by_busy[level],
        ) {
            (Some(half), full) if known(half) && known(full) => {
                2.0 * half.mean / full.mean.max(1e-9) >= MIN_GAIN
            }
            // What has held the function back counts until it has been measured anew.
            _ => self.held_back_since.is_none(),
        };
        if gains {
            self.held_back_since = None;
            return true;
        }
        let since = *self.held_back_since.get_or_insert(now);
        if now.saturating_duration_since(since) < RETRY_GAIN {
            return false;
        }
        self.by_busy[level] = Sample::default();
        self.held_back_since = Some(now);
        false
    }
}

fn average(mean: Option<Duration>, sample: Duration) -> Duration {
    match mean {
        None => sample,
        Some(mean) => mean.mul_f64(1.0 - WEIGHT) + sample.mul_f64(WEIGHT),
    }
}

fn level(containers: usize) -> usize {
    (containers.max(1).ilog2() as usize).min(15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn load(waiting: usize, starting: usize, idle: usize) -> Load {
        Load {
            waiting,
            starting,
            idle,
            ..Load::default()
        }
    }

    fn needs(policy: &mut LaunchPolicy, load: Load) -> bool {
        policy.launches(load, Instant::now()) > 0
    }

    /// The table `SlotNewContainerLogic1` of spec/11 11.5, for a function whose calls are worth a
    /// container each.
    #[test]
    fn slot_new_container_logic() {
        let mut policy = LaunchPolicy::new(2);
        policy.served(Duration::from_secs(10), 1);
        policy.started(200 * MS);
        for (waiting, starting, idle, expected) in [
            (0, 0, 0, false),
            (1, 10, 0, false),
            (10, 1, 0, true),
            (10, 0, 11, false),
            (10, 0, 5, true),
            (1, 0, 0, true),
        ] {
            assert_eq!(
                needs(&mut policy, load(waiting, starting, idle)),
                expected,
                "{waiting} {starting} {idle}"
            );
        }
    }

    #[test]
    fn an_unknown_function_is_tried_on_as_many_containers_as_there_are_processors() {
        assert_eq!(
            LaunchPolicy::new(2).launches(load(64, 0, 0), Instant::now()),
            2
        );
        assert_eq!(
            LaunchPolicy::new(8).launches(load(3, 0, 0), Instant::now()),
            3
        );
    }

    #[test]
    fn sixty_four_clients_of_a_fast_function_share_what_is_there() {
        let mut policy = LaunchPolicy::new(2);
        policy.started(300 * MS);
        policy.served(MS / 10, 1);
        let crowd = Load {
            waiting: 62,
            busy: 2,
            ..Load::default()
        };
        assert_eq!(policy.launches(crowd, Instant::now()), 0);
    }

    #[test]
    fn calls_that_take_longer_than_a_start_get_containers_of_their_own() {
        let mut policy = LaunchPolicy::new(2);
        policy.started(300 * MS);
        policy.served(Duration::from_secs(5), 1);
        let four = Load {
            waiting: 3,
            busy: 1,
            ..Load::default()
        };
        assert_eq!(policy.launches(four, Instant::now()), 3);
    }

    #[test]
    fn a_running_call_counts_before_it_has_ended() {
        let mut policy = LaunchPolicy::new(1);
        let second = |longest_running| Load {
            waiting: 1,
            busy: 1,
            longest_running,
            ..Load::default()
        };
        assert!(!needs(&mut policy, second(299 * MS)));
        assert!(needs(&mut policy, second(301 * MS)));
    }

    /// Fifty milliseconds of pure computing on two processors: more containers only slow each other.
    #[test]
    fn a_function_that_is_bound_by_processors_stops_growing() {
        let mut policy = LaunchPolicy::new(2);
        policy.started(300 * MS);
        let now = Instant::now();
        let mut containers = 1;
        for _ in 0..50 {
            for _ in 0..20 {
                let share = (containers as f64 / 2.0).max(1.0);
                policy.served((50 * MS).mul_f64(share), containers);
            }
            let crowd = Load {
                waiting: 64 - containers,
                busy: containers,
                ..Load::default()
            };
            if policy.launches(crowd, now) > 0 {
                containers += 1;
            }
        }
        assert!(containers <= 5, "{containers} containers on two processors");
    }

    #[test]
    fn a_function_that_waits_for_others_grows_to_what_it_needs() {
        let mut policy = LaunchPolicy::new(2);
        policy.started(300 * MS);
        let now = Instant::now();
        let mut containers = 1;
        for _ in 0..100 {
            for _ in 0..20 {
                policy.served(Duration::from_secs(1), containers);
            }
            let crowd = Load {
                waiting: 64 - containers,
                busy: containers,
                ..Load::default()
            };
            containers += policy.launches(crowd, now).min(1);
        }
        assert!(
            containers > 45,
            "only {containers} containers for 64 sleeping calls"
        );
    }

    #[test]
    fn what_held_a_function_back_is_measured_again() {
        let mut policy = LaunchPolicy::new(2);
        policy.started(100 * MS);
        for busy in [1, 2, 4] {
            for _ in 0..20 {
                policy.served((50 * MS).mul_f64(busy as f64), busy);
            }
        }
        let crowd = Load {
            waiting: 60,
            busy: 4,
            ..Load::default()
        };
        let now = Instant::now();
        assert_eq!(policy.launches(crowd, now), 0);
        assert_eq!(policy.launches(crowd, now + RETRY_GAIN), 0);
        assert_eq!(
            policy.launches(crowd, now + RETRY_GAIN),
            0,
            "not measured yet"
        );
        for _ in 0..20 {
            policy.served(50 * MS, 4);
        }
        assert!(policy.launches(crowd, now + RETRY_GAIN) > 0);
    }

    /// Looks at the queue every millisecond for a while; answers how many containers there are then.
    fn after_a_while(mut service: impl FnMut(usize) -> Duration, waiting: usize) -> usize {
        let mut policy = LaunchPolicy::new(2);
        policy.started(300 * MS);
        let start = Instant::now();
        let mut containers = 1;
        for millis in 0..5000 {
            for _ in 0..5 {
                policy.served(service(containers), containers);
            }
            let queue = Load {
                waiting,
                busy: containers,
                ..Load::default()
            };
            containers += policy.launches(queue, start + millis * MS);
        }
        containers
    }

    #[test]
    fn calls_that_keep_waiting_get_more_containers_as_long_as_that_helps() {
        // Bound by the way there and back: each container adds as much as the first.
        assert_eq!(after_a_while(|_| MS / 5, 14), PER_PROCESSOR * 2);
        // Bound by two processors.
        let bound = after_a_while(
            |containers| (MS / 5).mul_f64((containers as f64 / 2.0).max(1.0)),
            60,
        );
        assert!(
            (2..=5).contains(&bound),
            "{bound} containers on two processors"
        );
    }

    #[test]
    fn a_burst_that_is_soon_served_gets_no_container() {
        let mut policy = LaunchPolicy::new(2);
        policy.started(300 * MS);
        policy.served(MS / 10, 1);
        let start = Instant::now();
        for (millis, waiting) in [(0, 60), (2, 40), (4, 20), (6, 0), (500, 1), (1000, 1)] {
            let queue = Load {
                waiting,
                busy: 1,
                ..Load::default()
            };
            assert_eq!(policy.launches(queue, start + millis * MS), 0);
        }
    }

    proptest! {
        /// Whatever was measured: never more than the waiting calls can use, and never nothing
        /// when calls wait and no container is there or coming.
        #[test]
        fn never_more_than_waiting_never_stuck(
            waiting in 0usize..100, starting in 0usize..100, idle in 0usize..100, busy in 0usize..100,
            running in 0u64..100_000, samples in prop::collection::vec((0u64..10_000, 0usize..200), 0..40),
        ) {
            let mut policy = LaunchPolicy::new(2);
            for (millis, busy) in samples {
                policy.served(Duration::from_millis(millis), busy);
            }
            let load = Load { waiting, starting, idle, busy, longest_running: Duration::from_millis(running) };
            let launches = policy.launches(load, Instant::now());
            prop_assert!(starting + launches <= waiting.saturating_sub(idle).max(starting));
            if waiting > 0 && starting + idle + busy == 0 {
                prop_assert!(launches > 0);
            }
        }
    }
}
