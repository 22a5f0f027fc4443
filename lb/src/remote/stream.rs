//! The receiving half of a gRPC stream, and why a stream broke.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::ResponseFuture;
use http::{HeaderMap, StatusCode};

use super::message::{FrameError, Unframer};

/// Statuses of gRPC that mean something here.
pub(crate) const OK: i32 = 0;
pub(crate) const UNIMPLEMENTED: i32 = 12;

/// The status at the end of a stream. Peers use numbers beyond gRPC's list (spec/08 8.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrpcStatus {
    pub(crate) code: i32,
    pub(crate) message: String,
}

/// Why a stream has no proper end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error(transparent)]
    Http(#[from] h2::Error),
    #[error("the peer answered HTTP {0} instead of gRPC")]
    NotGrpc(StatusCode),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the stream ended without a status")]
    NoStatus,
}

impl StreamError {
    /// Whether the peer promises that it never looked at the stream: it refused it, or its GOAWAY
    /// names an earlier one as its last (RFC 9113 6.8, 8.7).
    pub(crate) fn is_unprocessed(&self) -> bool {
        match self {
            // The library gives a remote GOAWAY to no stream that the GOAWAY covers.
            Self::Http(error) if error.is_remote() => {
                error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM)
            }
            _ => false,
        }
    }
}

/// What comes next on a stream.
#[derive(Debug)]
pub(crate) enum Received {
    Message(Bytes),
    End(GrpcStatus),
}

/// The receiving half. It reads from the connection only when it is asked, so that the flow control
/// of HTTP/2 stops a peer whose output nobody takes.
#[derive(Debug)]
pub(crate) struct Receiving {
    state: State,
    unframer: Unframer,
}

#[derive(Debug)]
enum State {
    Head(ResponseFuture),
    Body(RecvStream),
    Trailers(RecvStream),
    Over,
}

impl Receiving {
    pub(crate) fn new(head: ResponseFuture) -> Self {
        Self {
            state: State::Head(head),
            unframer: Unframer::default(),
        }
    }

    /// What comes next; nothing after the end or an error.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Received, StreamError>> {
        let next = ready!(self.poll_inner(cx));
        if !matches!(next, Ok(Received::Message(_))) {
            self.state = State::Over;
        }
        Poll::Ready(next)
    }

    /// See [`poll_next`](Self::poll_next).
    pub(crate) async fn next(&mut self) -> Result<Received, StreamError> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Waits until the peer has begun to answer; a status if that was all.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<GrpcStatus>, StreamError>> {
        let State::Head(head) = &mut self.state else {
            return Poll::Ready(Ok(None));
        };
        let response = ready!(std::pin::Pin::new(head).poll(cx))?;
        if response.status() != StatusCode::OK {
            return Poll::Ready(Err(StreamError::NotGrpc(response.status())));
        }
        let status = status(response.headers());
        self.state = match status {
            Some(_) => State::Over,
            None => State::Body(response.into_body()),
        };
        Poll::Ready(Ok(status))
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, StreamError>> {
        loop {
            match &mut self.state {
                State::Head(_) => {
                    if let Some(status) = ready!(self.poll_head(cx))? {
                        return Poll::Ready(Ok(Received::End(status)));
                    }
                }
                State::Body(body) => {
                    if let Some(message) = self.unframer.next()? {
                        return Poll::Ready(Ok(Received::Message(message)));
                    }
                    match ready!(body.poll_data(cx)) {
                        Some(piece) => {
                            let piece = piece?;
                            // What is held beyond this is less than one message.
                            body.flow_control().release_capacity(piece.len())?;
                            self.unframer.put(piece);
                        }
                        None => {
                            self.unframer.end()?;
                            let State::Body(body) = std::mem::replace(&mut self.state, State::Over)
                            else {
                                return Poll::Ready(Err(StreamError::NoStatus));
                            };
                            self.state = State::Trailers(body);
                        }
                    }
                }
                State::Trailers(body) => {
                    let trailers = ready!(body.poll_trailers(cx))?;
                    let status = trailers.as_ref().and_then(status);
                    return Poll::Ready(match status {
                        Some(status) => Ok(Received::End(status)),
                        None => Err(StreamError::NoStatus),
                    });
                }
                State::Over => return Poll::Ready(Err(StreamError::NoStatus)),
            }
        }
    }
}

fn status(headers: &HeaderMap) -> Option<GrpcStatus> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = headers.get("grpc-message").map(|message| {
        let message = percent_encoding::percent_decode(message.as_bytes());
        message.decode_utf8_lossy().into_owned()
    });
    Some(GrpcStatus {
        code,
        message: message.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_may_be_any_number() {
        let mut headers = HeaderMap::new();
        assert_eq!(status(&headers), None);
        headers.insert("grpc-status", "503".parse().expect("a value"));
        headers.insert("grpc-message", "too%20busy".parse().expect("a value"));
        let read = status(&headers).expect("a status");
        assert_eq!((read.code, read.message.as_str()), (503, "too busy"));
        headers.insert("grpc-status", "x".parse().expect("a value"));
        assert_eq!(status(&headers), None);
    }
}
