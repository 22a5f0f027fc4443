//! How the API answers: JSON with the original's content type, errors as `{"message": …}`
//! (spec/01 1.2).

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::{ApiError, Blame};
use http::header::CONTENT_TYPE;
use nodekit::error_response;
use serde::Serialize;

/// A 200 with a JSON body.
pub(super) struct Json<T>(pub(super) T);

/// An error on its way to the client.
#[derive(Debug)]
pub(super) struct Failure(pub(super) ApiError);

/// What most handlers return.
pub(super) type Reply<T> = Result<Json<T>, Failure>;

/// Left on an error response for the metrics: who is to blame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blamed(pub(super) Blame);

impl<E: Into<ApiError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match json(&self.0) {
            Ok(response) => response,
            Err(error) => Failure(ApiError::internal(error)).into_response(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let error = self.0;
        if let Some(detail) = error.internal_detail() {
            tracing::error!(error = error.code().name(), detail, "request failed");
        }
        let response: http::Response<Bytes> = error_response::response(&error);
        let mut response = response.map(Body::from);
        response
            .extensions_mut()
            .insert(Blamed(error.code().blame()));
        response
    }
}

/// A 200 whose body is `value` and a newline.
fn json(value: &impl Serialize) -> serde_json::Result<Response> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    let mut response = Response::new(Body::from(text));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, error_response::JSON);
    Ok(response)
}
