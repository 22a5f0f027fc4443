//! Posts the outcomes of calls to callback URLs.

mod network;

pub use network::{Network, NoNetwork};
