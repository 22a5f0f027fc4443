//! What a client is answered, and what is counted of it.

use domain::{ApiError, CallId, ErrorCode};
use http::Response;
use nodekit::body::{Body, BodyError};

use super::Account;
use crate::metrics::Answer;

/// An answer to a client whose call did not fail.
pub(super) struct Outcome {
    /// Names the call, which may be one that was made before.
    pub(super) id: CallId,
    pub(super) response: Response<Body>,
    pub(super) counted: Answer,
}

impl Outcome {
    /// Counts the answer.
    pub(super) fn finish(self, account: Account) -> (CallId, Response<Body>) {
        account.finish(self.counted);
        (self.id, self.response)
    }
}

/// What a client is told when the function's output breaks before the answer has begun.
pub(super) fn output_error(error: BodyError) -> ApiError {
    match error.downcast::<ApiError>() {
        Ok(error) => *error,
        Err(error) => ApiError::from(ErrorCode::FunctionResponseError).detail(error),
    }
}
