//! The settings of a load balancer and of the front door of `hearth up` (spec/01 1.1).

use std::time::Duration;

use domain::HostPort;
use hybrid_client::CacheSettings;
use nodekit::config::GrpcConfig;
use nodekit::settings;
use nodekit::settings::Kind;
use nodekit::settings::kinds::{Bool, Bytes, Int, Timeout, Words};

use crate::placed_runner::PlacingSettings;
use crate::placement::{FleetSettings, PlacerKind};
use crate::remote::LinkSettings;
use crate::runners::RunnersSettings;

settings! {
    /// Settings of a front door.
    pub struct LbConfig {
        /// How long what is known of apps, functions and triggers may be used before it is asked for again; 0 asks for every call.
        FN_CACHE_TTL: Timeout = "5s" => cache_ttl: Option<Duration>;
        /// How many functions and trigger paths are kept in memory.
        FN_CACHE_SIZE: Int<u32> = "10000" => cache_size: u32;
        /// Longest time that a call may wait for a container, in which a busy platform may get free.
        FN_PLACEMENT_TIMEOUT: Timeout = "360s" => placement_timeout: Option<Duration>;
        /// Longest time that a detached call may wait for a container.
        FN_DETACHED_PLACEMENT_TIMEOUT: Timeout = "30s" => detached_placement_timeout: Option<Duration>;
        /// The runners of a load balancer: host:port, separated by commas or spaces.
        FN_RUNNER_ADDRESSES: Addresses = "" => runner_addresses: Vec<HostPort>;
        /// Names, as host:port, of which each address in DNS is a runner; they are resolved again and again.
        FN_RUNNER_DNS_NAMES: Addresses = "" => runner_dns_names: Vec<HostPort>;
        /// How a load balancer chooses a runner: ewma (by warm containers, waits and load), or as the original does, ch or naive.
        FN_PLACER: Placers = "ewma" => placer: PlacerKind;
        /// Longest time for TCP to connect to a runner; TLS has FN_GRPC_CONNECT_TIMEOUT with it.
        FN_RUNNER_CONNECT_TIMEOUT: Timeout = "100ms" => runner_connect_timeout: Option<Duration>;
        /// How long a runner that has calls may give no sign of life after it was asked for one, before they fail.
        FN_RUNNER_SILENCE_TIMEOUT: Timeout = "2s" => runner_silence_timeout: Option<Duration>;
        /// Whether calls to a Hearth runner share a few streams; otherwise each has its own.
        FN_RUNNER_MULTIPLEX: Bool = "true" => runner_multiplex: bool;
        /// How often a runner is asked for its status.
        FN_RUNNER_CHECK_INTERVAL: Timeout = "1s" => runner_check_interval: Option<Duration>;
        /// How long a runner may take to tell its status.
        FN_RUNNER_CHECK_TIMEOUT: Timeout = "1s" => runner_check_timeout: Option<Duration>;
        /// The shortest time between two reports of a runner's state.
        FN_RUNNER_REPORT_INTERVAL: Timeout = "100ms" => runner_report_interval: Option<Duration>;
        /// Bytes of a call's input that are kept, so that another runner can be tried when one refuses it; a call with more is tried once.
        FN_REPLAY_BODY_SIZE: Bytes = "1048576" => replay_body_size: u64;
        /// How many calls may wait for a runner with room; the next ones are turned away at once.
        FN_MAX_WAITING_CALLS: Int<u32> = "10000" => max_waiting_calls: u32;
        /// How long a call may take beyond waiting and its function's timeout, before its runner is given up.
        FN_EXECUTION_HEADROOM: Timeout = "360s" => execution_headroom: Option<Duration>;
        /// Whether calls whose clients wait leave a record.
        FN_RECORD_SYNC_CALLS: Bool = "true" => record_sync_calls: bool;
        /// How many of them in a second, at each front door; others are dropped and counted. 0 for all.
        FN_RECORD_MAX_RATE: Int<u32> = "1000" => record_max_rate: u32;
    }
}

/// The longest TTL: enough to mean "until it changes", and far from the end of time.
const MAX_CACHE_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Stands for no limit: far from the end of time.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Addresses of nodes, each `host:port`.
#[derive(Debug)]
pub struct Addresses;

impl Kind for Addresses {
    type Value = Vec<HostPort>;
    const NAME: &'static str = "list of host:port";

    fn parse(text: &str) -> Result<Vec<HostPort>, String> {
        let words = Words::parse(text)?;
        let parsed = words
            .iter()
            .map(|word| HostPort::parse(word).map_err(|error| error.to_string()));
        parsed.collect()
    }
}

/// The name of a placer.
#[derive(Debug)]
pub struct Placers;

impl Kind for Placers {
    type Value = PlacerKind;
    const NAME: &'static str = "ewma, ch or naive";

    fn parse(text: &str) -> Result<PlacerKind, String> {
        text.parse()
            .map_err(|_| "neither ewma, ch nor naive".to_owned())
    }
}

impl LbConfig {
    /// How runners are looked after, over connections as in `grpc`. `random` is the source of what
    /// must differ between load balancers.
    pub fn runners_settings(&self, grpc: &GrpcConfig, random: fn() -> u64) -> RunnersSettings {
        let or_long = |limit: Option<Duration>| limit.unwrap_or(NO_LIMIT).min(NO_LIMIT);
        RunnersSettings {
            link: LinkSettings {
                connections: usize::from(grpc.grpc_connections),
                connect_timeout: self.tcp_timeout(),
                handshake_timeout: or_long(grpc.grpc_connect_timeout),
                silence: or_long(self.runner_silence_timeout),
                multiplex: self.runner_multiplex,
                random,
            },
            fleet: FleetSettings::default(),
            check_every: or_long(self.runner_check_interval),
            check_timeout: or_long(self.runner_check_timeout),
            feed_interval: self.runner_report_interval.unwrap_or(Duration::ZERO),
            max_waiting: usize::try_from(self.max_waiting_calls).unwrap_or(usize::MAX),
        }
    }

    /// Longest time for TCP to connect to a runner, for [`NodeConnector`](crate::remote::NodeConnector).
    pub fn tcp_timeout(&self) -> Duration {
        self.runner_connect_timeout
            .unwrap_or(NO_LIMIT)
            .min(NO_LIMIT)
    }

    /// How calls are placed.
    pub fn placing_settings(&self) -> PlacingSettings {
        PlacingSettings {
            replay_bytes: usize::try_from(self.replay_body_size).unwrap_or(usize::MAX),
            headroom: self.execution_headroom.unwrap_or(NO_LIMIT).min(NO_LIMIT),
        }
    }

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

    #[test]
    fn addresses_and_placers_are_checked() {
        let addresses = Addresses::parse("a:1, [::1]:2").expect("addresses");
        assert_eq!(addresses.len(), 2);
        assert!(Addresses::parse("a").is_err_and(|error| error.contains("host:port")));
        assert_eq!(Placers::parse("ch"), Ok(PlacerKind::Ch));
        assert!(Placers::parse("best").is_err());
    }

    #[test]
    fn a_limit_that_is_off_is_far_away() {
        let config = LbConfig {
            execution_headroom: None,
            ..LbConfig::default()
        };
        assert_eq!(config.placing_settings().headroom, NO_LIMIT);
        let runners = LbConfig::default().runners_settings(&GrpcConfig::default(), || 0);
        assert_eq!(runners.link.connect_timeout, Duration::from_millis(100));
        assert_eq!((runners.link.connections, runners.max_waiting), (4, 10_000));
    }
}
