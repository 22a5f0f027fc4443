//! Calls as they are kept: what was asked, how far it is, what came of it (spec/02 2.5, and the
//! promises of durable calls). The moves between states are pure functions in [`machine`].

pub mod fault;
pub mod fingerprint;
pub mod headers;
pub mod lease;
pub mod machine;
pub mod new_call;
pub mod options;
pub mod record;
pub mod retry;
pub mod state;

pub use fault::Fault;
pub use fingerprint::fingerprint;
pub use headers::CallHeaders;
pub use lease::{AttemptEnd, AttemptOutcome, LeaseRef, LeasedCall};
pub use machine::{Move, Progress, Refused};
pub use new_call::NewCall;
pub use options::CallOptions;
pub use record::{Attempt, AttemptState, CallRecord, CallResult};
pub use state::{CallKind, CallState, DeadReason};
