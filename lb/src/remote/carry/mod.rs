//! Many calls on one stream: `Carry` of the runner's extension, one stream per connection.
//!
//! ```text
//!  CarriedCall ──► Carrier: outbox ──► keeper, in the connection's task ──► runner
//!       ▲                                   │
//!       └──────────── Slot ◄────────────────┘  by the call's number
//! ```
//!
//! Calls write into one buffer, and whatever is in it goes out together; what comes is handed to the
//! slots of the calls at once, so that no call holds up another. A slot never holds more than the
//! runner had credit for.

mod call;
mod carrier;
mod keeper;
mod slot;
mod wire;

pub(super) use call::CarriedCall;
pub(super) use carrier::Place;
pub(super) use keeper::{Carrying, keep};
