//! The front door: takes `/invoke` and `/t` over HTTP, resolves the function and hands the call to
//! a runner.

pub mod config;
pub mod front_door;
pub mod metrics;
pub mod placement;
pub mod runner;
pub mod simulator;

pub use front_door::{FrontDoor, FrontDoorParts};
pub use metrics::FrontDoorMetrics;
pub use runner::Runner;
