//! The client of one runner: connections that are kept, and the runner protocol on them (spec/08 8.3).
//!
//! It speaks HTTP/2 itself, because three things must be known that a gRPC library hides: whether
//! any byte of a call was handed to the connection, whether the peer says that it never looked at
//! the call, and status numbers outside of gRPC's own list.

mod answer_body;
mod asked;
mod call_document;
mod carry;
mod connection;
mod connector;
mod conversation;
mod engage;
mod engaged;
mod input;
mod link;
mod message;
mod outcome;
mod sending;
mod state_feed;
mod status;
mod stream;

pub use connector::{Connector, Io, NodeConnector};
pub use link::{Link, LinkSettings};

pub(crate) use asked::Asked;
pub(crate) use conversation::NotPlaced;
pub(crate) use engage::{Attempt, Engagement, engage};
pub(crate) use input::Input;
pub(crate) use state_feed::{FeedEnd, watch_state};
pub(crate) use status::check;
