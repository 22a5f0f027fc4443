//! The numbers that the fleet and the placers go by.

use std::time::Duration;

/// The numbers that the fleet and the placers go by.
#[derive(Debug, Clone)]
pub struct FleetSettings {
    /// A runner is ejected after so many calls in a row that it failed or could not be asked.
    pub failures_to_eject: u32,
    /// For how long a runner is ejected the first time; doubled each time up to `eject_longest`.
    pub eject_first: Duration,
    /// The longest time for which a runner is ejected before it is tried again.
    pub eject_longest: Duration,
    /// Calls that a runner must serve well before it counts as healthy again.
    pub trial_calls: u32,
    /// The share of calls that may go to runners on trial. One every five seconds may in any case.
    pub trial_share: f64,
    /// A runner that needs so many times as long as the others for the same functions is ejected;
    /// 0 ejects none for being slow.
    pub slow_factor: f64,
    /// Calls that must have been seen of a runner before it can be called slow.
    pub slow_samples: u32,
    /// How much above the mean load (1.0) a runner that the function hashes to may be.
    pub load_bound: f64,
    /// The longest mean wait that makes a runner a good one.
    pub acceptable_wait: Duration,
    /// After so long without a call, what is remembered of waits has halved.
    pub wait_half_life: Duration,
    /// How long an idle container is believed in when its runner does not tell of its state.
    pub warm_without_feed: Duration,
    /// How long a runner that refused a call is not asked for a new container.
    pub refused_pause: Duration,
    /// How many pairs of a runner and a function are remembered.
    pub places: usize,
}

impl Default for FleetSettings {
    fn default() -> Self {
        Self {
            failures_to_eject: 3,
            eject_first: Duration::from_secs(1),
            eject_longest: Duration::from_secs(2),
            trial_calls: 5,
            slow_factor: 3.0,
            slow_samples: 10,
            trial_share: 0.005,
            load_bound: 1.25,
            acceptable_wait: Duration::from_millis(100),
            wait_half_life: Duration::from_secs(2),
            warm_without_feed: Duration::from_secs(10),
            refused_pause: Duration::from_millis(50),
            places: 500_000,
        }
    }
}
