//! The input of one call among many on a stream: what has come of it and not yet been read, which is
//! never more than its load balancer had credit for.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Frame;
use nodekit::body::{self, Body};
use proto::carry::INITIAL_CREDIT;

/// Credit is given back in pieces of at least this size.
const GRANT: u64 = INITIAL_CREDIT / 2;

/// What a piece costs at least when it is kept.
pub(super) const SMALL_PIECE: usize = 256;

/// The input. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct CarriedInput(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    pieces: VecDeque<Bytes>,
    end: Option<End>,
    /// Bytes that may still come.
    credit: u64,
    /// Bytes that were read, for which no new credit was given.
    taken: u64,
    reader: Option<Waker>,
    granter: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Complete,
    Broken,
}

/// The load balancer sends more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more input than there is credit for, or after its end")]
pub(super) struct Overrun;

/// The stream ended before the input did.
#[derive(Debug, thiserror::Error)]
#[error("the load balancer broke off")]
struct Broken;

impl CarriedInput {
    /// An input of which nothing has come.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            pieces: VecDeque::new(),
            end: None,
            credit: INITIAL_CREDIT,
            taken: 0,
            reader: None,
            granter: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece has come.
    pub(super) fn push(&self, data: Bytes, eof: bool) -> Result<(), Overrun> {
        let mut state = self.lock();
        if state.end.is_some() {
            return Err(Overrun);
        }
        state.credit = state.credit.checked_sub(data.len() as u64).ok_or(Overrun)?;
        if !data.is_empty() {
            state.pieces.push_back(data);
        }
        if eof {
            state.end = Some(End::Complete);
        }
        wake(&mut state.reader);
        Ok(())
    }

    /// Nothing more will come.
    pub(super) fn break_off(&self) {
        let mut state = self.lock();
        state.end.get_or_insert(End::Broken);
        wake(&mut state.reader);
    }

    /// The input as a body; there must be only one reader.
    pub(super) fn body(&self) -> Body {
        body::stream(InputBody {
            ahead: VecDeque::new(),
            input: self.clone(),
        })
    }

    /// The same, after up to `most` bytes of it have come.
    pub(super) async fn body_ahead(&self, most: usize) -> Body {
        let mut ahead = VecDeque::new();
        let mut length = 0;
        std::future::poll_fn(|cx| {
            let mut state = self.lock();
            while let Some(piece) = state.take() {
                length += piece.len().max(SMALL_PIECE);
                ahead.push_back(piece);
            }
            if state.end.is_some() || length >= most {
                return Poll::Ready(());
            }
            state.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        body::stream(InputBody {
            ahead,
            input: self.clone(),
        })
    }

    /// Completes when the load balancer may be given credit for so many more bytes; they count as
    /// given.
    pub(super) async fn grant(&self) -> u64 {
        std::future::poll_fn(|cx| {
            let mut state = self.lock();
            if state.taken >= GRANT && state.end.is_none() {
                let bytes = std::mem::take(&mut state.taken);
                state.credit += bytes;
                return Poll::Ready(bytes);
            }
            state.granter = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl State {
    fn take(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front()?;
        self.taken += piece.len() as u64;
        if self.taken >= GRANT {
            wake(&mut self.granter);
        }
        Some(piece)
    }
}

struct InputBody {
    ahead: VecDeque<Bytes>,
    input: CarriedInput,
}

impl http_body::Body for InputBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(piece) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let mut state = self.input.lock();
        if let Some(piece) = state.take() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match state.end {
            Some(End::Complete) => Poll::Ready(None),
            Some(End::Broken) => Poll::Ready(Some(Err(Broken))),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
