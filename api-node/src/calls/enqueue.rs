//! What is checked of a call before it is accepted.

use std::sync::Arc;

use domain::call::new_call::Accepted;
use domain::{ApiError, ErrorCode, NewCall};

use super::batcher::Batcher;
use super::snapshots::Snapshots;
use super::writes::{ANSWER_LIMIT, Accept};
use crate::store::{Acceptance, Store};

/// The largest head of a request that is kept: its headers, its verb and its URLs.
const MAX_HEAD: usize = 64 << 10;
/// The longest id that anybody gives a call.
const MAX_ID: usize = 64;

/// Accepts calls.
pub(super) struct Enqueue {
    pub(super) snapshots: Snapshots<dyn Store>,
    pub(super) accept: Batcher<Accept>,
    pub(super) max_body: usize,
}

impl Enqueue {
    /// See [`CallPlane::enqueue`](hybrid_client::CallPlane::enqueue).
    pub(super) async fn enqueue(&self, call: NewCall) -> Result<Accepted, ApiError> {
        self.check(&call)?;
        let snapshot = self.snapshots.of(&call.fn_id).await?;
        let acceptance = Acceptance {
            fingerprint: call.fingerprint(),
            snapshot: Arc::clone(&snapshot),
            call,
        };
        self.accept.submit(acceptance, ANSWER_LIMIT).await
    }

    fn check(&self, call: &NewCall) -> Result<(), ApiError> {
        call.options.validate()?;
        let id = call.id.as_str();
        if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ApiError::with_message(
                ErrorCode::InvalidCallOption,
                "id must be 1 to 64 visible characters",
            ));
        }
        let head = call.headers.bytes() + call.method.len() + call.url.len() + call.path.len();
        if head > MAX_HEAD {
            return Err(ApiError::with_message(
                ErrorCode::RequestTooLarge,
                "Request headers too large",
            ));
        }
        if call.body.len() > self.max_body {
            return Err(ErrorCode::RequestTooLarge.into());
        }
        Ok(())
    }
}
