//! A durable call as it is handed in.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::headers::CallHeaders;
use super::options::CallOptions;
use crate::id::{CallId, FnId, TriggerId};

/// The largest input of a durable call, unless the settings say otherwise, in bytes.
pub const DEFAULT_MAX_BODY: usize = 6 << 20;

/// A call that is to be accepted. Handing in the same one twice makes one call: its id tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewCall {
    /// Names it: made by whoever takes it from the client.
    pub id: CallId,
    /// The function.
    pub fn_id: FnId,
    /// The trigger through which it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_id: Option<TriggerId>,
    /// The path that was called.
    pub path: String,
    /// The verb of its request.
    pub method: String,
    /// The URL of its request.
    pub url: String,
    /// What the function will see of its headers.
    pub headers: CallHeaders,
    /// What the client asks for.
    pub options: CallOptions,
    /// The call of which this is a repetition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_id: Option<CallId>,
    /// Its input; travels beside the document.
    #[serde(skip)]
    pub body: Bytes,
}

/// That a call was accepted, or had been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The call: another one than was handed in if its idempotency key was known.
    pub id: CallId,
    /// Whether the key was known: nothing new was accepted.
    pub replayed: bool,
}
