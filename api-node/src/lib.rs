//! The API node: the REST API v2 and the stores behind it.

pub mod config;
pub mod local;
pub mod rest;
pub mod store;

pub use local::LocalControlPlane;
pub use store::Store;
