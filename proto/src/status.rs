//! Errors of the API as gRPC statuses, and back. The name of the error travels in the metadata, so
//! that the other side has the very same error and no guess of it.

use domain::{ApiError, ErrorCode};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The metadata entry with the error's name.
const ERROR_NAME: &str = "hearth-error";

/// `error` as a status. Its detail stays here.
pub fn of_error(error: &ApiError) -> Status {
    let code = match error.code() {
        ErrorCode::ServerBusy | ErrorCode::StoreUnavailable => Code::Unavailable,
        ErrorCode::ClientCancelled => Code::Cancelled,
        _ => match error.status() {
            404 => Code::NotFound,
            409 => Code::AlreadyExists,
            504 => Code::DeadlineExceeded,
            400..=499 => Code::InvalidArgument,
            _ => Code::Internal,
        },
    };
    let mut status = Status::new(code, error.message());
    status
        .metadata_mut()
        .insert(ERROR_NAME, MetadataValue::from_static(error.code().name()));
    status
}

/// The error that the other side meant; none if the status is not of its making, such as one of the
/// transport's.
pub fn to_error(status: &Status) -> Option<ApiError> {
    let name = status.metadata().get(ERROR_NAME)?.to_str().ok()?;
    let code = ErrorCode::named(name)?;
    Some(ApiError::with_message(code, status.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_comes_back_as_itself() {
        for code in ErrorCode::ALL {
            let sent = ApiError::from(*code).detail("secret");
            let status = of_error(&sent);
            assert!(!format!("{status:?}").contains("secret"));
            let read = to_error(&status).expect("named");
            assert_eq!((read.code(), read.message()), (*code, code.text()));
        }
    }

    #[test]
    fn a_status_of_the_transport_is_no_error_of_ours() {
        assert!(to_error(&Status::unavailable("connection refused")).is_none());
    }
}
