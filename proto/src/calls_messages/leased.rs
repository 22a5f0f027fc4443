//! Claims of calls.

use std::sync::Arc;
use std::time::Duration;

use domain::call::lease::Snapshot;
use domain::call::{LeaseRef, LeasedCall};
use domain::{CallId, Timestamp};

use super::MAX_ITEMS;
use super::answer::{headers_message, headers_of};
use super::field::{Malformed, document, duration_ms, id, present};
use crate::calls;

/// `lease` as a message.
pub fn lease_message(lease: &LeaseRef) -> calls::Lease {
    calls::Lease {
        call_id: lease.call_id.to_string(),
        epoch: lease.epoch,
    }
}

/// The claim of a message.
///
/// # Errors
/// It names no call, or no claim of it.
pub fn lease_of(message: calls::Lease) -> Result<LeaseRef, Malformed> {
    let lease = attempt_of(message)?;
    if lease.epoch < 1 {
        return Err(Malformed::new("epoch", "must be at least 1"));
    }
    Ok(lease)
}

/// The attempt of a message: a claim, or the only one of a call whose client waits, which nobody
/// claims, and which has the number 0.
///
/// # Errors
/// There is no call, or the number is below 0.
pub fn attempt_of(message: calls::Lease) -> Result<LeaseRef, Malformed> {
    let call_id = id("call_id", message.call_id)?;
    if message.epoch < 0 {
        return Err(Malformed::new("epoch", "must be at least 0"));
    }
    Ok(LeaseRef {
        call_id: CallId::from(call_id),
        epoch: message.epoch,
    })
}

/// The claim of a message that must be there.
pub(super) fn lease_in(message: Option<calls::Lease>) -> Result<LeaseRef, Malformed> {
    lease_of(present("lease", message)?).map_err(|error| error.within("lease"))
}

/// The claims of a message.
///
/// # Errors
/// There are too many, or one is none.
pub fn leases_of(messages: Vec<calls::Lease>) -> Result<Vec<LeaseRef>, Malformed> {
    if messages.len() > MAX_ITEMS {
        let rule = format!("must be at most {MAX_ITEMS}");
        return Err(Malformed::new("leases", rule));
    }
    let leases = messages.into_iter().map(lease_of);
    let leases: Result<_, _> = leases.collect();
    leases.map_err(|error| error.within("leases"))
}

/// `call` as a message.
///
/// # Errors
/// Its function cannot be written as a document.
pub fn leased_call_message(call: &LeasedCall) -> Result<calls::LeasedCall, serde_json::Error> {
    Ok(calls::LeasedCall {
        lease: Some(lease_message(&call.lease)),
        lease_ms: duration_ms(call.lease_for),
        attempt: call.attempt,
        snapshot: serde_json::to_vec(&*call.snapshot)?.into(),
        headers: headers_message(&call.headers),
        body: call.body.clone(),
        created_at: call.created_at.unix_millis(),
    })
}

/// The call of a message.
///
/// # Errors
/// A field is missing or not what it must be.
pub fn leased_call_of(message: calls::LeasedCall) -> Result<LeasedCall, Malformed> {
    let lease = lease_in(message.lease)?;
    if message.lease_ms == 0 {
        return Err(Malformed::missing("lease_ms"));
    }
    if message.attempt == 0 {
        return Err(Malformed::missing("attempt"));
    }
    Ok(LeasedCall {
        lease,
        lease_for: Duration::from_millis(message.lease_ms),
        attempt: message.attempt,
        snapshot: Arc::new(document::<Snapshot>("snapshot", &message.snapshot)?),
        headers: headers_of(message.headers)?,
        body: message.body,
        created_at: Timestamp::from_unix_millis(message.created_at),
    })
}
