//! What a function answered to a durable call, told again as it was.

use axum::body::Body;
use axum::response::Response;
use domain::{ApiError, CallId};
use http::header::{CONTENT_LENGTH, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use nodekit::hop;

use super::Kept;
use crate::rest::openapi::{ErrorBody, ServerErrors};
use crate::rest::path::PathParams;
use crate::rest::reply::Failure;

static FN_CALL_ID: HeaderName = HeaderName::from_static("fn-call-id");
static FN_RESULT_TRUNCATED: HeaderName = HeaderName::from_static("fn-result-truncated");

/// Answers what the function answered: its status, its headers and its output. The header
/// `Fn-Call-Id` tells that from an answer of this server's own.
#[utoipa::path(
    get, path = "/v2/calls/{call_id}/result", tag = "calls", operation_id = "GetCallResult",
    params(("call_id" = String, Path, min_length = 1)),
    responses(
        (status = "default", description = "The function's answer, with the status it chose.", content_type = "*/*",
            headers(
                ("Fn-Call-Id" = String, description = "Names the call; absent from this server's own errors."),
                ("Fn-Result-Truncated" = Option<String>, description = "`true` if the output was longer than what is kept."),
            )),
        (status = 200, description = "The function's answer.", content_type = "*/*"),
        (status = 404, description = "There is no such call, or it has no answer (yet).", body = ErrorBody),
        (status = 410, description = "This server keeps no calls.", body = ErrorBody),
        ServerErrors,
    )
)]
pub(super) async fn result(
    Kept(calls): Kept,
    PathParams(id): PathParams<CallId>,
) -> Result<Response, Failure> {
    let result = calls.store().call_result(&id).await?;
    let mut headers = HeaderMap::new();
    for (name, value) in result.headers.iter() {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(&value),
        ) {
            headers.append(name, value);
        }
    }
    hop::strip(&mut headers);
    headers.remove(CONTENT_LENGTH);
    // What a function says must not act in the name of this server when a browser shows it.
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        &FN_CALL_ID,
        HeaderValue::try_from(id.as_str()).map_err(ApiError::internal)?,
    );
    if result.truncated {
        headers.insert(&FN_RESULT_TRUNCATED, HeaderValue::from_static("true"));
    }
    let mut response = Response::new(Body::from(result.body));
    *response.status_mut() = StatusCode::from_u16(result.status).map_err(ApiError::internal)?;
    *response.headers_mut() = headers;
    Ok(response)
}
