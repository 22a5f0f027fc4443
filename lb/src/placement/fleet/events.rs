//! What the fleet is told, and what it tells of its runners.

use std::sync::Arc;
use std::time::Duration;

use domain::SlotKey;

use crate::placement::health::Health;
use crate::placement::runner::RunnerId;

/// How a call that was sent to a runner ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The runner answered for the function, whatever the function said.
    Done {
        /// How long the call waited for a container.
        wait: Duration,
        /// Whether the image was pulled for it: its wait says nothing about the next one.
        pulled: bool,
        /// From sending the call to the end of its answer.
        took: Duration,
        /// How long the function ran; zero if the runner does not tell.
        execution: Duration,
    },
    /// The runner did not take it (NACK).
    Refused,
    /// The runner could not be asked: nothing was sent.
    Unreachable,
    /// The runner broke while it had the call.
    Failed,
    /// The caller gave up.
    Cancelled,
}

/// One message of a runner's state feed.
#[derive(Debug, Clone, Default)]
pub struct RunnerState {
    /// What is not in it is not there; otherwise only what has changed.
    pub complete: bool,
    /// The functions it has containers of, or calls for.
    pub functions: Vec<FunctionState>,
    /// How loaded it is.
    pub load: Option<NodeLoad>,
    /// It takes no new calls.
    pub draining: bool,
}

/// A runner's containers and calls of one function; all zero: forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionState {
    /// The key of the function's containers.
    pub slot_key: SlotKey,
    /// Containers that wait for a call.
    pub idle: u32,
    /// Containers that run a call.
    pub busy: u32,
    /// Calls that wait for a container.
    pub waiting: u32,
    /// Moving average of how long calls waited.
    pub wait: Duration,
}

/// How loaded a runner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeLoad {
    /// Memory for containers, in bytes.
    pub memory_total_bytes: u64,
    /// What no container has, in bytes.
    pub memory_free_bytes: u64,
    /// CPU, in thousandths of one.
    pub cpu_total_millis: u64,
    /// What no container has, in thousandths of one.
    pub cpu_free_millis: u64,
    /// Calls that run.
    pub running: u32,
    /// Calls that wait.
    pub waiting: u32,
}

/// What is known of a runner, for people and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct RunnerView {
    /// The runner.
    pub id: RunnerId,
    /// Where it is.
    pub address: Arc<str>,
    /// Its share of the functions.
    pub weight: u32,
    /// Whether it is given calls.
    pub health: Health,
    /// This load balancer's calls that it has.
    pub in_flight: u32,
    /// All calls that it has, as far as is known.
    pub load: u32,
    /// How long calls waited there of late.
    pub wait: Duration,
}
