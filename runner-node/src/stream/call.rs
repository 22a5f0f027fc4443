//! A call as the function gets it: `POST /call` with the platform's headers (spec/03 3.1, 13.1).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use domain::{ApiError, CallId, Timestamp};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body::{Frame, SizeHint};
use nodekit::body::{Body, BodyError};
use nodekit::http_server::body_error_code;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const FN_CALL_ID: HeaderName = HeaderName::from_static("fn-call-id");
const FN_DEADLINE: HeaderName = HeaderName::from_static("fn-deadline");

/// One call to be sent to a function.
#[derive(Debug)]
pub struct Call {
    /// Sent as `Fn-Call-Id`.
    pub id: CallId,
    /// The client's headers, without hop-by-hop headers and mapped if it is a trigger's call.
    pub headers: HeaderMap,
    /// The input.
    pub body: Body,
    /// When the answer must be complete.
    pub deadline: Instant,
    /// The same by the wall clock; sent as `Fn-Deadline`, in whole seconds.
    pub deadline_at: Timestamp,
}

impl Call {
    /// The request that carries the call. The platform's headers win over the client's.
    ///
    /// # Errors
    /// `Internal` for an id or a deadline that no header can hold, or for more headers than a
    /// request can hold.
    pub(super) fn into_request(self) -> Result<Request<Input>, ApiError> {
        let mut request = Request::new(Input(self.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static("/call");
        let mut headers = self.headers;
        // The framing on the socket is ours alone.
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
        let platform = [
            (HOST, HeaderValue::from_static("localhost")),
            (FN_CALL_ID, header(self.id.as_str())?),
            (FN_DEADLINE, header(&whole_seconds(self.deadline_at)?)?),
        ];
        for (name, value) in platform {
            headers
                .try_insert(name, value)
                .map_err(|error| ApiError::internal(format_args!("call headers: {error}")))?;
        }
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn header(text: &str) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_str(text)
        .map_err(|error| ApiError::internal(format_args!("call header {text:?}: {error}")))
}

/// Rounded up: a function kit gives up at this time by itself, which must not be before the call's
/// time is over. The platform keeps the exact one.
fn whole_seconds(at: Timestamp) -> Result<String, ApiError> {
    OffsetDateTime::from_unix_timestamp(at.unix_millis().saturating_add(999).div_euclid(1000))
        .map_err(|error| error.to_string())
        .and_then(|at| at.format(&Rfc3339).map_err(|error| error.to_string()))
        .map_err(|error| ApiError::internal(format_args!("call deadline {at}: {error}")))
}

/// The body of the request. It hides its length, so that it is always sent in chunks: that is what
/// FDKs have always been sent, an empty body included (spec/13 13.1).
pub(super) struct Input(pub(super) Body);

/// The client's body broke before its end.
#[derive(Debug, thiserror::Error)]
#[error("request body: {0}")]
pub(super) struct InputBroken(BodyError);

impl InputBroken {
    /// The error that the client gets: the front door's own if it sent one, such as
    /// `RequestTooLarge`.
    pub(super) fn to_api_error(&self) -> ApiError {
        match self.0.downcast_ref::<ApiError>() {
            Some(error) => error.clone(),
            None => ApiError::from(body_error_code(self.0.as_ref())).detail(&self.0),
        }
    }
}

impl http_body::Body for Input {
    type Data = Bytes;
    type Error = InputBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, InputBroken>>> {
        loop {
            match std::task::ready!(Pin::new(&mut self.0).poll_frame(cx)) {
                // Trailers are hop-by-hop.
                Some(Ok(frame)) if frame.is_trailers() => {}
                other => return Poll::Ready(other.map(|read| read.map_err(InputBroken))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
