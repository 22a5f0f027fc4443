//! The runner: an agent that keeps containers hot and runs calls in them, the drivers that make
//! containers, and the loop that runs durable calls.

pub mod agent;
pub mod call_log;
pub mod config;
pub mod driver;
pub mod evictor;
pub mod grpc;
pub mod metrics;
pub mod resources;
pub mod stream;
pub mod work;

pub use agent::Agent;
