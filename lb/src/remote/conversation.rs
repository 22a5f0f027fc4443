//! A call that a runner has, on a stream of its own or beside others: what happens in it, and how it
//! ends.
//!
//! From the moment the first byte is handed to the connection the call belongs to the runner, unless
//! the runner gives it back, or says that it never looked at it.

use std::task::{Context, Poll};

use bytes::Bytes;
use domain::{ApiError, ErrorCode};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::carry::CarriedCall;
use super::engaged::Engaged;
use super::input::Input;
use super::outcome::Account;

/// What the client is told when its runner is gone.
const RUNNER_LOST: &str = "The runner was lost while it had the call";

/// Headers for which there is room from the start.
const MANY_HEADERS: usize = 64;

/// Why a call was not placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotPlaced {
    /// The runner says that it has no room.
    Refused,
    /// The call did not reach it.
    Unreachable,
}

/// What happens next in a conversation.
pub(crate) enum Event {
    /// The head of the answer.
    Start(Head),
    /// Output. Only after the head.
    Data(Bytes),
    /// Nothing follows.
    End(End),
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: i32,
    pub(crate) headers: HeaderMap,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            status: 200,
            headers: HeaderMap::new(),
        }
    }
}

impl Head {
    /// What is no header cannot be told, and is left out, and so is what a map has no room for: too
    /// many would end the process.
    pub(super) fn new<'a>(
        status: i32,
        list: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Self {
        let mut headers = HeaderMap::with_capacity(list.len().min(MANY_HEADERS));
        for (name, value) in list {
            let name = HeaderName::from_bytes(name);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                let _ = headers.try_append(name, value);
            }
        }
        Self { status, headers }
    }
}

/// How a conversation ends.
pub(crate) enum End {
    Done(Account),
    NotPlaced(NotPlaced),
    Failed(ApiError),
}

/// A call that a runner has. Dropped before its end, it is cancelled there.
pub(crate) enum Conversation {
    Engaged(Box<Engaged>),
    Carried(CarriedCall),
}

impl Conversation {
    /// The input of a call that was not placed.
    pub(super) fn give_back(&mut self) -> Option<Input> {
        match self {
            Self::Engaged(call) => call.give_back(),
            Self::Carried(call) => call.give_back(),
        }
    }

    /// Hears the runner out about a call whose client is gone.
    pub(crate) async fn listen(mut self: Box<Self>) {
        while !matches!(self.next().await, Event::End(_)) {}
    }

    /// See [`poll_event`](Self::poll_event).
    pub(super) async fn next(&mut self) -> Event {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Sends what can be sent, and says what the runner does next. Nothing follows the end.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        match self {
            Self::Engaged(call) => call.poll_event(cx),
            Self::Carried(call) => call.poll_event(cx),
        }
    }

    /// Whether the rest of the answer is here, and need not be waited for.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Engaged(_) => false,
            Self::Carried(call) => call.is_whole(),
        }
    }
}

/// The runner is gone, or says what no runner may.
pub(super) fn lost(why: &str) -> ApiError {
    ApiError::with_message(ErrorCode::Internal, RUNNER_LOST)
        .status_override(502)
        .detail(why)
}
