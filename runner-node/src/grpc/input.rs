//! What a load balancer sends after the first message: the input of the call, in pieces, up to the
//! one that says that it is the last (spec/08 8.4).
//!
//! Nothing is kept here: a piece is read when the function can take it, and HTTP/2 makes the load
//! balancer wait.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_util::Stream as _;
use http_body::Frame;
use nodekit::body::{self, Body};
use proto::runner::ClientMsg;
use proto::runner::client_msg;
use tonic::{Code, Status, Streaming};

use super::carried_input::SMALL_PIECE;

/// The input as the engagement sees it. Its body goes to the function.
#[derive(Debug, Clone)]
pub(super) struct Input(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    stream: Streaming<ClientMsg>,
    /// What was read before the function wants it.
    ahead: VecDeque<Bytes>,
    end: Option<End>,
    /// The function may still read.
    wanted: bool,
    /// Something was thrown away because it did not.
    cut: bool,
    /// Who waits for the end.
    waiting: Option<Waker>,
}

#[derive(Debug, Clone)]
enum End {
    /// The last piece was read.
    Complete,
    Broken(Status),
}

/// The input ended before its last piece.
#[derive(Debug, thiserror::Error)]
#[error("the load balancer broke off: {0}")]
struct Broken(Status);

impl Input {
    /// The input that comes next on `stream`.
    pub(super) fn new(stream: Streaming<ClientMsg>) -> Self {
        Self(Arc::new(Mutex::new(State {
            stream,
            ahead: VecDeque::new(),
            end: None,
            wanted: true,
            cut: false,
            waiting: None,
        })))
    }

    /// The input as a body; there must be only one.
    pub(super) fn body(&self) -> Body {
        body::stream(InputBody(Arc::clone(&self.0)))
    }

    /// Reads up to `most` bytes of it before the function does.
    pub(super) async fn read_ahead(&self, most: usize) {
        let mut read = 0;
        std::future::poll_fn(|cx| {
            let mut state = lock(&self.0);
            while state.end.is_none() && read < most {
                let piece = ready!(state.poll_stream(cx)).unwrap_or_default();
                read += piece.len().max(SMALL_PIECE);
                if !piece.is_empty() {
                    state.ahead.push_back(piece);
                }
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Why there will be no more of it.
    pub(super) fn broken(&self) -> Option<Status> {
        match &lock(&self.0).end {
            Some(End::Broken(status)) => Some(status.clone()),
            _ => None,
        }
    }

    /// Whether all of it was read.
    pub(super) fn is_complete(&self) -> bool {
        matches!(lock(&self.0).end, Some(End::Complete))
    }

    /// Whether something of it was thrown away.
    pub(super) fn is_cut(&self) -> bool {
        lock(&self.0).cut
    }

    /// Completes when it is known that there will be no more of it, with the reason.
    pub(super) async fn breaks(&self) -> Status {
        std::future::poll_fn(|cx| {
            let mut state = lock(&self.0);
            if let Some(End::Broken(status)) = &state.end {
                return Poll::Ready(status.clone());
            }
            state.wait(cx);
            Poll::Pending
        })
        .await
    }

    /// Completes at the end of the input. What the function does not want any more is thrown away.
    pub(super) async fn ended(&self) {
        std::future::poll_fn(|cx| {
            let mut state = lock(&self.0);
            if state.end.is_none() && state.wanted {
                state.wait(cx);
                return Poll::Pending;
            }
            while state.end.is_none() {
                let piece = ready!(state.poll_piece(cx));
                state.cut |= piece.is_some_and(|piece| !piece.is_empty());
            }
            Poll::Ready(())
        })
        .await;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // The state stays consistent: an end is noted once.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// The next piece; nothing when the end was reached.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match self.ahead.pop_front() {
            Some(piece) => Poll::Ready(Some(piece)),
            None => self.poll_stream(cx),
        }
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        let message = ready!(Pin::new(&mut self.stream).poll_next(cx));
        let (piece, end) = match message {
            Some(Ok(ClientMsg {
                body: Some(client_msg::Body::Data(frame)),
            })) => (Some(frame.data), frame.eof.then_some(End::Complete)),
            // Also when the load balancer ends the stream: half an input must not look whole.
            Some(Ok(_)) | None => (None, Some(End::Broken(expected_data()))),
            Some(Err(status)) => (None, Some(End::Broken(status))),
        };
        if end.is_some() {
            self.end = end;
            self.wake();
        }
        Poll::Ready(piece)
    }

    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waiting {
            Some(waiting) => waiting.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    fn wake(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

fn expected_data() -> Status {
    Status::new(Code::Unknown, "Protocol failure: expected ClientMsg_Data")
}

struct InputBody(Arc<Mutex<State>>);

impl http_body::Body for InputBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut state = lock(&self.0);
        loop {
            let piece = ready!(state.poll_piece(cx));
            match (piece, &state.end) {
                (Some(piece), _) if !piece.is_empty() => {
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                (_, Some(End::Complete)) => return Poll::Ready(None),
                (_, Some(End::Broken(status))) => {
                    return Poll::Ready(Some(Err(Broken(status.clone()))));
                }
                (_, None) => {}
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.0);
        state.ahead.is_empty() && matches!(state.end, Some(End::Complete))
    }
}

impl Drop for InputBody {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.wanted = false;
        state.wake();
    }
}
