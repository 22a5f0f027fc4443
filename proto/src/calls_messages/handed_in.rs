//! Calls as front doors hand them in.

use bytes::Bytes;
use domain::call::NewCall;
use domain::call::new_call::Accepted;
use domain::{CallId, CallRecord};

use super::answer::check;
use super::field::{Malformed, document, id, text};
use crate::calls::{EnqueueReply, EnqueueRequest};

/// `call` as a message.
///
/// # Errors
/// It cannot be written as a document.
pub fn new_call_message(call: &NewCall) -> Result<EnqueueRequest, serde_json::Error> {
    Ok(EnqueueRequest {
        json: serde_json::to_vec(call)?.into(),
        body: call.body.clone(),
    })
}

/// The call of a message; its options are the caller's to look at.
///
/// # Errors
/// A field is missing or not what it must be.
pub fn new_call_of(message: EnqueueRequest) -> Result<NewCall, Malformed> {
    let call: NewCall = document("json", &message.json)?;
    let within = |error: Malformed| error.within("json");
    id("id", call.id.to_string()).map_err(within)?;
    id("fn_id", call.fn_id.to_string()).map_err(within)?;
    for (field, value) in [
        ("path", &call.path),
        ("method", &call.method),
        ("url", &call.url),
    ] {
        text(field, value).map_err(within)?;
    }
    for (name, value) in call.headers.iter() {
        check(name, &value).map_err(within)?;
    }
    Ok(NewCall {
        body: message.body,
        ..call
    })
}

/// `accepted` as a message.
pub fn accepted_message(accepted: &Accepted) -> EnqueueReply {
    EnqueueReply {
        call_id: accepted.id.to_string(),
        replayed: accepted.replayed,
    }
}

/// What a message says of an accepted call.
///
/// # Errors
/// It names none.
pub fn accepted_of(message: EnqueueReply) -> Result<Accepted, Malformed> {
    Ok(Accepted {
        id: CallId::from(id("call_id", message.call_id)?),
        replayed: message.replayed,
    })
}

/// `record` as a document.
///
/// # Errors
/// It cannot be written as one.
pub fn record_message(record: &CallRecord) -> Result<Bytes, serde_json::Error> {
    serde_json::to_vec(record).map(Bytes::from)
}

/// The record of a call that is over.
///
/// # Errors
/// It is none, or the call is not over.
pub fn record_of(json: &[u8]) -> Result<CallRecord, Malformed> {
    let record: CallRecord = document("json", json)?;
    let within = |error: Malformed| error.within("json");
    id("id", record.id.to_string()).map_err(within)?;
    id("fn_id", record.fn_id.to_string()).map_err(within)?;
    id("app_id", record.app_id.to_string()).map_err(within)?;
    if !record.status.is_final() {
        return Err(Malformed::new("json", "status: must be a final one"));
    }
    Ok(record)
}
