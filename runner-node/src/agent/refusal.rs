//! Why a waiting call gets no container, and what the one that was started for it has printed.

use std::sync::Arc;

use domain::call::LeaseRef;
use domain::{ApiError, ErrorCode};

use crate::call_log::ContainerLog;

/// Why a call gets no container.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// The reason.
    pub(super) error: ApiError,
    /// The log of the container that was started for this call and did not come up.
    pub(super) log: Option<Arc<ContainerLog>>,
}

impl Refusal {
    /// What that container has printed is of this call.
    pub(super) fn belongs_to(self, lease: Option<LeaseRef>) -> Self {
        if let Some(log) = &self.log {
            log.begin(lease);
        }
        self
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self { error, log: None }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        ApiError::from(code).into()
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}
