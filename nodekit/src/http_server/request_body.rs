//! A request's body: bounded in size and in time.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use domain::ErrorCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::limits::Limits;
use super::timer::LazyTimer;

/// Why a request's body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// There is more of it than the listener takes.
    #[error("request body too large")]
    TooLarge,
    /// It, or the next piece of it, did not arrive in time.
    #[error("request body not received in time")]
    TimedOut,
    /// The connection or the framing broke.
    #[error("request body broken")]
    Broken(#[source] hyper::Error),
}

impl RequestBodyError {
    /// What the client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge => ErrorCode::RequestTooLarge,
            Self::TimedOut => ErrorCode::RequestBodyTimeout,
            Self::Broken(_) => ErrorCode::RequestBodyBroken,
        }
    }
}

/// What the client is told when reading its body failed with `error`, which may wrap a
/// [`RequestBodyError`].
pub fn body_error_code(error: &(dyn StdError + 'static)) -> ErrorCode {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<RequestBodyError>() {
            return error.code();
        }
        cause = error.source();
    }
    ErrorCode::RequestBodyBroken
}

/// The body of a request. The clock of its pauses runs only while somebody waits for it, so that a
/// slow function is not blamed on the client.
#[derive(Debug)]
pub struct RequestBody {
    inner: Incoming,
    stall_timeout: Option<Duration>,
    deadline: Option<Instant>,
    /// Bytes that may still come.
    left: Option<u64>,
    waiting_since: Option<Instant>,
    timer: LazyTimer,
}

impl RequestBody {
    pub(super) fn new(inner: Incoming, limits: &Limits) -> Self {
        Self {
            inner,
            stall_timeout: limits.body_stall_timeout,
            deadline: limits.body_read_timeout.map(|limit| Instant::now() + limit),
            left: limits.max_body_bytes,
            waiting_since: None,
            timer: LazyTimer::default(),
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stall = self.stall_timeout.map(|limit| {
            let since = *self.waiting_since.get_or_insert_with(Instant::now);
            since + limit
        });
        match (stall, self.deadline) {
            (Some(one), Some(other)) => self.timer.poll(cx, one.min(other)),
            (Some(deadline), None) | (None, Some(deadline)) => self.timer.poll(cx, deadline),
            (None, None) => Poll::Pending,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
            ready!(this.poll_deadline(cx));
            return Poll::Ready(Some(Err(RequestBodyError::TimedOut)));
        };
        this.waiting_since = None;
        Poll::Ready(match frame {
            Some(Ok(frame)) => match (&mut this.left, frame.data_ref()) {
                (Some(left), Some(data)) => match left.checked_sub(data.len() as u64) {
                    Some(rest) => {
                        *left = rest;
                        Some(Ok(frame))
                    }
                    None => Some(Err(RequestBodyError::TooLarge)),
                },
                _ => Some(Ok(frame)),
            },
            Some(Err(error)) => Some(Err(RequestBodyError::Broken(error))),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
