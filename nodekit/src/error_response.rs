//! An error as an answer (spec/01 1.2).

use bytes::Bytes;
use domain::{ApiError, ErrorCode};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

/// The `Content-Type` of every JSON answer.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// The answer that `error` is: status, JSON body with a newline, `Retry-After` where the table has
/// one. A caller that went away gets a bare 444. The body may be [`Bytes`], a full body or axum's.
pub fn response<B: From<Bytes>>(error: &ApiError) -> Response<B> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if error.code() == ErrorCode::ClientCancelled {
        let mut response = Response::new(Bytes::new().into());
        *response.status_mut() = status;
        return response;
    }
    let mut response = Response::new(json(error.message()).into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if let Some(seconds) = error.code().retry_after_seconds() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The body of an error: `{"message":"..."}` and a newline.
pub fn json(message: &str) -> Bytes {
    let mut body = serde_json::json!({ "message": message }).to_string();
    body.push('\n');
    body.into()
}
