//! Bodies of detached calls: the input is taken whole before the client is answered, and the output
//! is read and dropped.

use bytes::{Bytes, BytesMut};
use domain::{ApiError, ErrorCode};
use http_body_util::BodyExt as _;
use nodekit::body::Body;
use nodekit::http_server::body_error_code;

/// Reads all of the input.
///
/// # Errors
/// `RequestTooLarge` above `limit` bytes, or why the client's body broke.
pub(super) async fn take_input(mut body: Body, limit: u64) -> Result<Bytes, ApiError> {
    let mut input = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::from(body_error_code(error.as_ref())).detail(error))?;
        if let Ok(data) = frame.into_data() {
            if (input.len() + data.len()) as u64 > limit {
                return Err(ErrorCode::RequestTooLarge.into());
            }
            input.extend_from_slice(&data);
        }
    }
    Ok(input.freeze())
}

/// Reads the output to its end, so that the function can write it.
///
/// # Errors
/// Why it broke.
pub(super) async fn discard_output(mut body: Body) -> Result<(), String> {
    while let Some(frame) = body.frame().await {
        frame.map_err(|error| error.to_string())?;
    }
    Ok(())
}
