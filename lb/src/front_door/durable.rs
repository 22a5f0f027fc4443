//! Durable calls: the request is handed to an API node, and the client is told so once it is
//! committed. Never before: an answer 202 is a promise.

use bytes::Bytes;
use domain::ApiError;
use domain::call::{CallHeaders, CallOptions, NewCall};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use hybrid_client::CallPlane;
use nodekit::body;
use nodekit::error_response::JSON;

use super::call::{Asked, Caller};
use super::input;
use super::outcome::Outcome;
use crate::metrics::Answer;

static PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
pub(super) static IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
pub(super) const TRUE: HeaderValue = HeaderValue::from_static("true");

impl Caller {
    /// Has the call accepted.
    pub(super) async fn enqueue(
        &self,
        plane: &dyn CallPlane,
        options: CallOptions,
        preferred: bool,
        asked: Asked,
    ) -> Result<Outcome, ApiError> {
        let body = input::whole(asked.body, self.shared.parts.limits.max_body).await?;
        let fn_id = self.target.spec.fn_id.clone();
        let call = NewCall {
            id: self.id.clone(),
            trigger_id: self.target.trigger_id.clone(),
            path: match asked.source {
                Some(source) => source.into(),
                None => format!("/invoke/{fn_id}"),
            },
            fn_id,
            method: asked.method.as_str().to_owned(),
            url: asked.url,
            headers: kept_headers(&asked.headers),
            options,
            origin_id: None,
            body,
        };
        let accepted = plane.enqueue(call).await?;
        let document = serde_json::json!({ "call_id": accepted.id.as_str() });
        let mut response = Response::new(body::full(Bytes::from(format!("{document}\n"))));
        *response.status_mut() = StatusCode::ACCEPTED;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        if let Ok(location) = HeaderValue::try_from(format!("/v2/calls/{}", accepted.id)) {
            headers.insert(LOCATION, location);
        }
        if preferred {
            headers.insert(
                &PREFERENCE_APPLIED,
                HeaderValue::from_static("respond-async"),
            );
        }
        if accepted.replayed {
            headers.insert(&IDEMPOTENT_REPLAYED, TRUE);
        }
        Ok(Outcome {
            id: accepted.id,
            response,
            counted: Answer::bare(StatusCode::ACCEPTED),
        })
    }
}

/// Headers as they are kept.
pub(super) fn kept_headers(headers: &HeaderMap) -> CallHeaders {
    let mut kept = CallHeaders::default();
    for (name, value) in headers {
        kept.push(name.as_str(), value.as_bytes());
    }
    kept
}
