//! The settings of a load balancer and of the front door of `hearth up` (spec/01 1.1).

use std::time::Duration;

use nodekit::settings;
use nodekit::settings::kinds::{Int, Timeout};

settings! {
    /// Settings of a front door.
    pub struct LbConfig {
        /// How long what is known of apps, functions and triggers may be used before it is asked for again.
        FN_CACHE_TTL: Timeout = "5s" => cache_ttl: Option<Duration>;
        /// How many apps, functions and triggers are kept in memory, each.
        FN_CACHE_SIZE: Int<u32> = "10000" => cache_size: u32;
        /// Longest time that a call may wait for a container, in which a busy platform may get free.
        FN_PLACEMENT_TIMEOUT: Timeout = "360s" => placement_timeout: Option<Duration>;
        /// The same for a detached call.
        FN_DETACHED_PLACEMENT_TIMEOUT: Timeout = "30s" => detached_placement_timeout: Option<Duration>;
    }
}
