//! What is read of a call's input before a container is asked for.

use bytes::{Bytes, BytesMut};
use domain::{ApiError, ErrorCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use nodekit::body::{self, Body, BodyError};
use nodekit::http_server::body_error_code;

/// The longest input that is read ahead.
const AHEAD_MAX_BYTES: u64 = 64 << 10;

/// Reads an input that is known to be small to its end, so that a client that sends it slowly holds
/// no container meanwhile: a few hundred of them would take them all. What is longer, or has no
/// known length, streams, because the function may answer it piece by piece.
pub(super) async fn ahead(body: Body) -> Result<Body, ApiError> {
    match body.size_hint().exact() {
        Some(1..=AHEAD_MAX_BYTES) => {
            let whole = whole(body, AHEAD_MAX_BYTES as usize).await?;
            Ok(body::full(whole))
        }
        _ => Ok(body),
    }
}

/// Reads all of an input, which may have `most` bytes.
pub(super) async fn whole(mut body: Body, most: usize) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > most as u64 {
        return Err(ErrorCode::RequestTooLarge.into());
    }
    let mut all = BytesMut::new();
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        let Ok(data) = frame.map_err(broken)?.into_data() else {
            continue;
        };
        if data.len() > most - all.len() {
            return Err(ErrorCode::RequestTooLarge.into());
        }
        // Most inputs come in one piece, which is not copied.
        if all.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

fn broken(error: BodyError) -> ApiError {
    ApiError::from(body_error_code(&*error)).detail(error)
}
