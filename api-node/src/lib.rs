//! The API node: the REST API v2, the hybrid service for other nodes, and the stores behind both.

pub mod calls;
pub mod config;
pub mod hybrid;
pub mod local;
pub mod logs;
pub mod queue;
pub mod rest;
pub mod store;

pub use local::LocalControlPlane;
pub use logs::LogStore;
pub use store::Store;
