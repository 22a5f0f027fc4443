//! What the fields of a request must be. Every refusal names its field.

use domain::{ApiError, HostPort, RegisteredRunner};
use proto::hybrid::RegisterRequest;
use tonic::Status;

/// The longest id or version, in bytes.
const MAX_TEXT: usize = 255;

/// `field` is not there.
pub(super) fn missing(field: &str) -> Status {
    Status::invalid_argument(format!("{field}: missing"))
}

/// `field` is what it must not be.
pub(super) fn refused(field: &str, error: ApiError) -> Status {
    let error = ApiError::with_message(error.code(), format!("{field}: {}", error.message()));
    proto::status::of_error(&error)
}

/// `value` must not be empty.
pub(super) fn given(field: &str, value: &str) -> Result<(), Status> {
    if value.is_empty() {
        return Err(missing(field));
    }
    Ok(())
}

/// The runner that wants to register.
pub(super) fn runner(request: RegisterRequest) -> Result<RegisteredRunner, Status> {
    runner_id(&request.runner_id)?;
    given("version", &request.version)?;
    printable("version", &request.version)?;
    Ok(RegisteredRunner {
        address: address(&request.address)?,
        id: request.runner_id.into(),
        version: request.version.into(),
        draining: request.draining,
    })
}

/// A runner's id is printable and not too long.
pub(super) fn runner_id(id: &str) -> Result<(), Status> {
    given("runner_id", id)?;
    printable("runner_id", id)
}

fn printable(field: &str, value: &str) -> Result<(), Status> {
    if value.len() > MAX_TEXT || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Status::invalid_argument(format!(
            "{field}: must be up to {MAX_TEXT} printable ASCII characters without spaces"
        )));
    }
    Ok(())
}

/// The address of a node.
pub(super) fn address(text: &str) -> Result<HostPort, Status> {
    given("address", text)?;
    let address = HostPort::parse(text)
        .map_err(|error| Status::invalid_argument(format!("address: {error}")))?;
    if address.is_unspecified() {
        return Err(Status::invalid_argument(
            "address: must be one at which other machines reach the node",
        ));
    }
    Ok(address)
}
