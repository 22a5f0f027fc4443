//! The two ways to a function, and what differs between them: the headers that it sees, and what its
//! answer becomes (spec/01 1.8, 1.9).

use domain::ApiError;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use nodekit::body::{self, Body, BodyError};
use nodekit::exchange::{CallResponse, CallTimings};
use nodekit::trace_context::{TRACEPARENT, TRACESTATE};

use super::outcome::output_error;
use super::{content_type, invoke, trigger};
use crate::metrics::Answer;

/// How a client calls a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `/invoke/<fn id>`
    Invoke,
    /// `/t/<app name>/...`
    Trigger,
}

/// A function's answer as its client gets it.
pub(super) struct Rendered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// The function's own status, which `/invoke` tells in a header only.
    pub(super) own_status: StatusCode,
    pub(super) counted: Answer,
    pub(super) timings: CallTimings,
}

impl Way {
    /// What the function sees of a request's headers.
    pub(super) fn request_headers(self, parts: &mut Parts) -> HeaderMap {
        match self {
            Self::Invoke => invoke::request_headers(std::mem::take(&mut parts.headers)),
            Self::Trigger => {
                let mut headers = trigger::request_headers(parts);
                for name in [&TRACEPARENT, &TRACESTATE] {
                    let values = parts.headers.get_all(name).iter().cloned();
                    trigger::append_all(&mut headers, name, values);
                }
                headers
            }
        }
    }

    /// What the client sees of an answer to a request with this verb.
    pub(super) async fn render(
        self,
        method: &Method,
        answer: CallResponse,
    ) -> Result<Rendered, ApiError> {
        let own_status = trigger::status(&answer.headers);
        let (status, own_status) = match self {
            Self::Invoke => (StatusCode::OK, own_status.unwrap_or(StatusCode::OK)),
            Self::Trigger => {
                let status = own_status?;
                (status, status)
            }
        };
        let counted = Answer::success(status, &answer.headers);
        let mut headers = match self {
            Self::Invoke => invoke::response_headers(answer.headers),
            Self::Trigger => trigger::response_headers(&answer.headers),
        };
        let mut body = content_type::complete(&mut headers, answer.body)
            .await
            .map_err(output_error)?;
        if self == Self::Trigger && has_no_body(method, status) {
            let length = drain(body).await.map_err(output_error)?;
            if method == Method::HEAD {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            }
            body = body::empty();
        }
        Ok(Rendered {
            status,
            headers,
            body,
            own_status,
            counted,
            timings: answer.timings,
        })
    }
}

/// Whether an answer of this status to this verb has no body, whatever the function says.
fn has_no_body(method: &Method, status: StatusCode) -> bool {
    method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Reads a body that nobody will get, and counts its bytes: dropping it would cancel the call, and
/// that costs the function its container.
pub(super) async fn drain(mut body: Body) -> Result<u64, BodyError> {
    let mut length = 0;
    while let Some(frame) = body.frame().await.transpose()? {
        length += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(length)
}
