//! What passes between front doors, API nodes and runners about calls, as messages of the service
//! `Calls`, and back. Whatever a message lacks, or has too much of, is refused by the name of its
//! field.

mod answer;
mod field;
mod handed_in;
mod leased;
mod outcome;
#[cfg(test)]
mod tests;

pub use answer::{headers_message, headers_of, result_message, result_of};
pub use field::{Malformed, duration_ms, fn_id_of, id, present};
pub use handed_in::{
    accepted_message, accepted_of, new_call_message, new_call_of, record_message, record_of,
};
pub use leased::{
    attempt_of, lease_message, lease_of, leased_call_message, leased_call_of, leases_of,
};
pub use outcome::{finish_message, finish_of};

/// Most leases, records or log chunks in one message.
pub const MAX_ITEMS: usize = 1024;

/// What a message may have beside the input or the output of a call: its headers, and the function
/// and its app with their configuration.
const BESIDE_BODY: usize = 4 << 20;

/// The largest message about a call whose input or output may have `max_body` bytes.
pub const fn max_message(max_body: usize) -> usize {
    max_body.saturating_add(BESIDE_BODY)
}
