//! The front door: takes `/invoke` and `/t` over HTTP, resolves the function and hands the call to
//! a runner.

pub mod config;
pub mod runner;

pub use runner::Runner;
