//! What the agent itself needs to know; drivers and sockets have settings of their own.

use std::time::Duration;

use crate::stream::Limits;

/// Settings of the agent (spec/04 4.10).
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a container stays idle before it is frozen; none: never.
    pub freeze_idle: Option<Duration>,
    /// How often waiting calls make the launcher look again.
    pub hot_poll: Duration,
    /// How long the queue of an unused function is kept.
    pub hot_launcher_timeout: Option<Duration>,
    /// The longest pull of an image; none: no limit.
    pub hot_pull_timeout: Option<Duration>,
    /// The longest time from the start of a container to its open socket; none: no limit.
    pub hot_start_timeout: Option<Duration>,
    /// Limits of answers.
    pub limits: Limits,
    /// The largest head of an answer, in bytes.
    pub max_header_bytes: usize,
    /// Refuse a call at once when there is no room for its container.
    pub non_blocking_resources: bool,
    /// Processors that functions can use.
    pub processors: usize,
}
