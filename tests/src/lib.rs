//! What the tests of the whole need: the server as a process of its own, functions as images, an
//! HTTP client, and conditions with deadlines.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on panics, and says why"
)]

pub mod authority;
pub mod binary;
#[path = "../../api-node/tests/support/rabbitmq.rs"]
pub mod broker;
pub mod client;
pub mod cluster;
pub mod disk;
pub mod engine;
pub mod eventually;
pub mod functions;
pub mod ledger;
pub mod netns;
#[path = "../../api-node/tests/support/postgres.rs"]
pub mod postgres;
pub mod process;
pub mod random;
pub mod raw;
pub mod registry;
pub mod relay;
pub mod server;

pub use client::{Answer, Client};
pub use cluster::Cluster;
pub use eventually::{eventually, eventually_within};
pub use functions::Deployed;
pub use server::{Server, is_cluster};
