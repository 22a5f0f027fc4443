//! The runner: an agent that keeps containers hot and runs calls in them, and the drivers that make
//! containers.

pub mod agent;
pub mod config;
pub mod driver;
pub mod evictor;
pub mod grpc;
pub mod metrics;
pub mod resources;
pub mod stream;

pub use agent::Agent;
