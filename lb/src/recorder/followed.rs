//! An answer's body that tells its call's end: the output is part of the call.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use domain::{ApiError, ErrorCode};
use http_body::{Body as _, Frame, SizeHint};
use nodekit::body::{self, Body, BodyError};

use super::Recording;

/// A body and the record of the call whose output it is.
struct Followed {
    body: Body,
    recording: Option<Recording>,
}

/// The same body; when it ends, breaks or is dropped, the call is recorded.
pub(super) fn follow(body: Body, recording: Recording) -> Body {
    if body.is_end_stream() {
        recording.succeeded();
        return body;
    }
    body::stream(Followed {
        body,
        recording: Some(recording),
    })
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => {
                if let Some(recording) = self.recording.take() {
                    recording.succeeded();
                }
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(recording) = self.recording.take() {
                    recording.failed(&public(error));
                }
            }
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Followed {
    /// The listener does not ask for an end that it can foresee.
    fn drop(&mut self) {
        let over = self.body.is_end_stream() || self.body.size_hint().exact() == Some(0);
        if over && let Some(recording) = self.recording.take() {
            recording.succeeded();
        }
    }
}

/// What may be told of an output that broke.
fn public(error: &BodyError) -> ApiError {
    match error.downcast_ref::<ApiError>() {
        Some(error) => error.clone(),
        None => ErrorCode::FunctionResponseError.into(),
    }
}
