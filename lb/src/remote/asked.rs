//! A call as it is asked of runners, one after the other: all of it but its input.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use domain::{ApiError, CallId};
use http::HeaderMap;
use nodekit::body::Body;
use nodekit::exchange::{CallRequest, Target};

use super::call_document::first_message;

/// The call.
pub(crate) struct Asked {
    pub(crate) id: CallId,
    pub(crate) target: Arc<Target>,
    pub(crate) headers: HeaderMap,
    pub(crate) wait_deadline: Option<Instant>,
    pub(crate) detached: bool,
    /// The first message of `Engage`; made when the first runner needs it.
    first: OnceLock<Bytes>,
}

impl Asked {
    /// Separates the input.
    pub(crate) fn new(call: CallRequest) -> (Self, Body) {
        let asked = Self {
            id: call.id,
            target: call.target,
            headers: call.headers,
            wait_deadline: call.wait_deadline,
            detached: call.detached,
            first: OnceLock::new(),
        };
        (asked, call.body)
    }

    /// The first message of a call that has a stream of its own, as it goes to the connection.
    pub(super) fn first_message(&self) -> Result<&Bytes, ApiError> {
        if let Some(first) = self.first.get() {
            return Ok(first);
        }
        let first = first_message(self)
            .map_err(|error| ApiError::internal(format_args!("a call has no JSON: {error}")))?;
        Ok(self.first.get_or_init(|| first))
    }
}
