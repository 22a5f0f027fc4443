//! The settings of a load balancer and of the front door of `hearth up` (spec/01 1.1).

use std::time::Duration;

use hybrid_client::CacheSettings;
use nodekit::settings;
use nodekit::settings::kinds::{Int, Timeout};

settings! {
    /// Settings of a front door.
    pub struct LbConfig {
        /// How long what is known of apps, functions and triggers may be used before it is asked for again; 0 asks for every call.
        FN_CACHE_TTL: Timeout = "5s" => cache_ttl: Option<Duration>;
        /// How many functions and trigger paths are kept in memory.
        FN_CACHE_SIZE: Int<u32> = "10000" => cache_size: u32;
        /// Longest time that a call may wait for a container, in which a busy platform may get free.
        FN_PLACEMENT_TIMEOUT: Timeout = "360s" => placement_timeout: Option<Duration>;
        /// The same for a detached call.
        FN_DETACHED_PLACEMENT_TIMEOUT: Timeout = "30s" => detached_placement_timeout: Option<Duration>;
    }
}

/// The longest TTL: enough to mean "until it changes", and far from the end of time.
const MAX_CACHE_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

impl LbConfig {
    /// How the control plane's answers are kept.
    pub fn cache_settings(&self) -> CacheSettings {
        CacheSettings {
            ttl: self.cache_ttl.unwrap_or(Duration::ZERO).min(MAX_CACHE_TTL),
            capacity: usize::try_from(self.cache_size).unwrap_or(usize::MAX),
            ..CacheSettings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_as_configured() {
        let settings = LbConfig::default().cache_settings();
        assert_eq!(settings.ttl, Duration::from_secs(5));
        assert_eq!(settings.capacity, 10_000);
        let ttl = |cache_ttl| {
            let config = LbConfig {
                cache_ttl,
                ..LbConfig::default()
            };
            config.cache_settings().ttl
        };
        assert_eq!(ttl(None), Duration::ZERO);
        assert_eq!(ttl(Some(Duration::MAX)), MAX_CACHE_TTL);
    }
}
