//! The runner: an agent that keeps containers hot and runs calls in them, and the drivers that make
//! containers.

pub mod driver;
pub mod evictor;
pub mod resources;
