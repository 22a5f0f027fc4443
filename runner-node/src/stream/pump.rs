//! A long or live answer on its way to the client. A task of its own moves it, so that a client that
//! reads slowly, or not at all, cannot hold the container beyond the deadline.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use domain::{ApiError, ErrorCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use nodekit::body::{Body, BodyError};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::dispatch::function_error;
use super::exchange::Exchange;
use super::outcome::{Cause, Report};

/// Pieces that wait for the client. The function is made to wait when they are all taken.
const WAITING_PIECES: usize = 2;

enum Piece {
    Data(Bytes),
    End(Result<(), ApiError>),
}

/// What is known of an answer when it begins to flow.
pub(super) struct Flow {
    /// The rest of the body.
    pub(super) body: Incoming,
    /// What was already read of it.
    pub(super) head_start: Bytes,
    /// The length of all of it, if the function told it.
    pub(super) length: Option<u64>,
    /// The most that may come, `head_start` included.
    pub(super) max_bytes: Option<u64>,
    /// When it must be complete.
    pub(super) deadline: Instant,
}

/// Moves the answer in a task on `tasks`, which ends when the answer or the deadline does, or when
/// the returned body is dropped. The outcome is reported before the client can see the end.
pub(super) fn start<D>(flow: Flow, exchange: Exchange<D>, tasks: &TaskTracker) -> Body
where
    D: FnOnce(Report) + Send + 'static,
{
    // One more than may wait, so that the end always finds room.
    let (sender, receiver) = mpsc::channel(WAITING_PIECES + 1);
    let body = Streamed {
        head_start: flow.head_start.clone(),
        receiver,
        remaining: flow.length,
        ended: false,
    };
    if let Ok(end) = sender.clone().try_reserve_owned() {
        tasks.spawn(async move {
            let mut exchange = exchange;
            let result = run(flow, &mut exchange, sender).await;
            end.send(Piece::End(result));
        });
    }
    nodekit::body::stream(body)
}

async fn run<D: FnOnce(Report)>(
    mut flow: Flow,
    exchange: &mut Exchange<D>,
    sender: mpsc::Sender<Piece>,
) -> Result<(), ApiError> {
    let deadline = tokio::time::Instant::from_std(flow.deadline);
    let mut left = flow
        .max_bytes
        .map(|max| max.saturating_sub(flow.head_start.len() as u64));
    let moving = async {
        loop {
            let data = match exchange.connection().read(&mut flow.body).await {
                None => return Ok(()),
                Some(Ok(data)) => data,
                Some(Err(error)) => return Err(function_error(&error)),
            };
            if let Some(left) = &mut left {
                match left.checked_sub(data.len() as u64) {
                    Some(rest) => *left = rest,
                    None => {
                        let error = ErrorCode::ResponseBodyTooLarge.into();
                        return Err((Cause::ResponseTooLarge, error));
                    }
                }
            }
            if sender.send(Piece::Data(data)).await.is_err() {
                return Err((Cause::Abandoned, ErrorCode::ClientCancelled.into()));
            }
        }
    };
    let moved = tokio::select! {
        moved = tokio::time::timeout_at(deadline, moving) => moved,
        () = sender.closed() => Ok(Err((Cause::Abandoned, ErrorCode::ClientCancelled.into()))),
    };
    match moved {
        Ok(Ok(())) => {
            exchange.answered().await;
            Ok(())
        }
        Ok(Err((cause, error))) => {
            exchange.broken(cause);
            Err(error)
        }
        Err(_elapsed) => {
            exchange.broken(Cause::TimedOut);
            Err(ErrorCode::CallTimeout.into())
        }
    }
}

/// The client's end of the answer.
struct Streamed {
    head_start: Bytes,
    receiver: mpsc::Receiver<Piece>,
    remaining: Option<u64>,
    ended: bool,
}

impl Streamed {
    fn data(&mut self, data: Bytes) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.saturating_sub(data.len() as u64);
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.head_start.is_empty() {
            let data = std::mem::take(&mut self.head_start);
            return self.data(data);
        }
        if self.ended {
            return Poll::Ready(None);
        }
        match ready!(self.receiver.poll_recv(cx)) {
            Some(Piece::Data(data)) => self.data(data),
            Some(Piece::End(Ok(()))) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Some(Piece::End(Err(error))) => {
                self.ended = true;
                Poll::Ready(Some(Err(error.into())))
            }
            // The task was cut off, by the end of the runtime for example.
            None => {
                self.ended = true;
                let error = ApiError::from(ErrorCode::FunctionResponseError);
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
