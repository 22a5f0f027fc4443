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
    if let Some(seconds) = error.retry_after_seconds() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_json_with_a_newline() {
        let error = ApiError::with_message(ErrorCode::AppInvalidName, "a \"b\"\n<c>");
        let response: Response<Bytes> = response(&error);
        assert_eq!(response.status(), 400);
        assert_eq!(
            response.headers()[CONTENT_TYPE],
            "application/json; charset=utf-8"
        );
        assert!(!response.headers().contains_key(RETRY_AFTER));
        assert_eq!(response.body(), "{\"message\":\"a \\\"b\\\"\\n<c>\"}\n");
    }

    #[test]
    fn a_busy_server_says_when_to_come_back() {
        let response: Response<Bytes> = response(&ErrorCode::ServerBusy.into());
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "15");
        let error = ApiError::from(ErrorCode::ServerBusy).retry_after(3);
        let response: Response<Bytes> = super::response(&error);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
    }

    #[test]
    fn a_caller_that_went_away_is_told_nothing() {
        let response: Response<Bytes> = response(&ErrorCode::ClientCancelled.into());
        assert_eq!(response.status().as_u16(), 444);
        assert!(response.body().is_empty() && response.headers().is_empty());
    }

    #[test]
    fn what_happened_inside_stays_inside() {
        let response: Response<Bytes> = response(&ApiError::internal("password=hunter2"));
        assert_eq!(response.status(), 500);
        assert_eq!(response.body(), "{\"message\":\"internal server error\"}\n");
    }
}
