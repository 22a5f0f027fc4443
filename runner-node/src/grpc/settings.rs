//! What the services need to know.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::RunnerConfig;

/// Settings of the runner's gRPC services.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The longest that a call may wait for a container, if its load balancer waits longer.
    pub max_wait: Option<Duration>,
    /// The image that tells how the runner is.
    pub status_image: Option<String>,
    /// While this file is not there, the status image gets no network.
    pub network_barrier: Option<PathBuf>,
    /// The shortest time between two updates of the state.
    pub state_interval: Duration,
    /// The longest.
    pub state_heartbeat: Duration,
}

/// A heartbeat that never comes is none: a load balancer could not tell a dead stream.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(60);

/// More often would be noise.
const SHORTEST_HEARTBEAT: Duration = Duration::from_millis(100);

impl Settings {
    /// As configured.
    pub fn new(config: &RunnerConfig) -> Self {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Self {
            max_wait: config.call_wait_msecs,
            status_image: text(&config.status_image),
            network_barrier: text(&config.status_network_barrier).map(PathBuf::from),
            state_interval: config.state_interval_msecs.unwrap_or(LONGEST_HEARTBEAT),
            state_heartbeat: config
                .state_heartbeat_msecs
                .unwrap_or(LONGEST_HEARTBEAT)
                .max(SHORTEST_HEARTBEAT),
        }
    }
}
