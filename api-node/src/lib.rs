//! The API node: the REST API v2 and the stores behind it.

pub mod store;

pub use store::Store;
