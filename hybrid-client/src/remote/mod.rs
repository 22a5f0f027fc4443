//! API nodes, reached over gRPC: reads, changes, registration, the list of runners, calls.

mod api_nodes;
mod backoff;
mod calls;
mod control_plane;
mod failover;
mod follow;
mod listed_nodes;
mod registration;
mod runners;
mod why;

use std::time::Duration;

pub use api_nodes::{ApiNode, ApiNodes, NoApiNode};
pub use calls::{RemoteCalls, RemoteCallsSettings};
pub use control_plane::RemoteControlPlane;
pub use registration::Registration;
pub use runners::{RegisteredRunners, Runners};

/// How long API nodes are waited for.
#[derive(Debug, Clone)]
pub struct RemoteSettings {
    /// How long one API node may take for an answer before the next one is asked.
    pub attempt_timeout: Duration,
    /// How long a request may take with all its attempts. Less than
    /// [`crate::CacheSettings::load_timeout`], so that the reason is known there.
    pub total_timeout: Duration,
    /// The longest pause before all API nodes are tried again.
    pub max_pause: Duration,
}

impl Default for RemoteSettings {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_secs(1),
            total_timeout: Duration::from_secs(4),
            max_pause: Duration::from_secs(1),
        }
    }
}
