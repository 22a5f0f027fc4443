//! The front door: takes `/invoke` and `/t` over HTTP, resolves the function and hands the call to
//! a runner, in this process or one of many behind a network.

pub mod config;
pub mod front_door;
pub mod management;
pub mod metrics;
pub mod placed_runner;
pub mod placement;
pub mod recorder;
pub mod remote;
pub mod runner;
pub mod runners;
pub mod simulator;

pub use front_door::{CallLimits, CallTasks, FrontDoor, FrontDoorParts};
pub use metrics::{FrontDoorMetrics, PlacerMetrics, RecorderMetrics};
pub use placed_runner::PlacedRunner;
pub use recorder::{Recorder, RecorderTask};
pub use runner::Runner;

mod go_duration;

#[cfg(test)]
mod tests;
