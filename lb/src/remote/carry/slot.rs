//! What has come for one call, and not yet been taken by it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use proto::carry::INITIAL_CREDIT;
use proto::runner_extension::{CarryOut, Outcome};

use crate::remote::conversation::Head;

/// Pieces below this are copied together: each would keep all that came with it in memory.
const SMALL_PIECE: usize = 4 << 10;

/// The meeting point of a call with the stream.
#[derive(Debug)]
pub(super) struct Slot(Mutex<Inbox>);

#[derive(Debug)]
struct Inbox {
    head: Option<Head>,
    started: bool,
    pieces: VecDeque<Bytes>,
    /// Small pieces that came after these.
    tail: BytesMut,
    /// Output that the runner may still send.
    window: u64,
    /// Input that the runner can take.
    credit: u64,
    end: Option<Ending>,
    waker: Option<Waker>,
}

#[derive(Debug)]
enum Ending {
    Outcome(Outcome),
    Lost(Loss),
}

/// Why there will be no outcome.
#[derive(Debug, Clone)]
pub(super) enum Loss {
    /// Nothing of the call was begun.
    NotBegun,
    /// It may have been.
    Begun(Arc<str>),
}

/// What a call takes from its slot.
#[derive(Debug)]
pub(super) enum Taken {
    Head(Head),
    Data(Bytes),
    Outcome(Outcome),
    Lost(Loss),
}

impl Slot {
    /// A call of whose input the first `sent` bytes go with its beginning.
    pub(super) fn new(sent: usize) -> Self {
        Self(Mutex::new(Inbox {
            head: None,
            started: false,
            pieces: VecDeque::new(),
            tail: BytesMut::new(),
            window: INITIAL_CREDIT,
            credit: INITIAL_CREDIT.saturating_sub(sent as u64),
            end: None,
            waker: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runner says something.
    ///
    /// # Errors
    /// What it may not; the call is lost.
    pub(super) fn put(&self, message: CarryOut) -> Result<(), &'static str> {
        let mut inbox = self.lock();
        let put = inbox.put(message);
        if let Err(why) = put {
            inbox.end = Some(Ending::Lost(Loss::Begun(Arc::from(why))));
        }
        let waker = inbox.waker.take();
        drop(inbox);
        wake(waker);
        put
    }

    /// Nothing more will come.
    pub(super) fn lose(&self, loss: Loss) {
        let mut inbox = self.lock();
        inbox.end.get_or_insert(Ending::Lost(loss));
        let waker = inbox.waker.take();
        drop(inbox);
        wake(waker);
    }

    /// Has the call look again.
    pub(super) fn wake(&self) {
        let waker = self.lock().waker.take();
        wake(waker);
    }

    /// Whether the answer has begun.
    pub(super) fn is_started(&self) -> bool {
        self.lock().started
    }

    /// Whether the outcome is here.
    pub(super) fn is_over(&self) -> bool {
        self.lock().end.is_some()
    }

    /// How much input the runner can take.
    pub(super) fn credit(&self) -> u64 {
        self.lock().credit
    }

    /// So much input was sent.
    pub(super) fn spend(&self, bytes: usize) {
        let mut inbox = self.lock();
        inbox.credit = inbox.credit.saturating_sub(bytes as u64);
    }

    /// The output that is returned makes room for so much more.
    pub(super) fn widen(&self, bytes: u64) {
        let mut inbox = self.lock();
        inbox.window = inbox.window.saturating_add(bytes);
    }

    /// What comes next; the waker is also woken when there is more credit.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Taken> {
        let mut inbox = self.lock();
        // Whoever is lost says no more, nor is heard with what came before.
        if let Some(Ending::Lost(loss)) = &inbox.end {
            return Poll::Ready(Taken::Lost(loss.clone()));
        }
        if let Some(head) = inbox.head.take() {
            return Poll::Ready(Taken::Head(head));
        }
        if let Some(piece) = inbox.pieces.pop_front() {
            return Poll::Ready(Taken::Data(piece));
        }
        if !inbox.tail.is_empty() {
            return Poll::Ready(Taken::Data(inbox.tail.split().freeze()));
        }
        if let Some(Ending::Outcome(outcome)) = &mut inbox.end {
            return Poll::Ready(Taken::Outcome(std::mem::take(outcome)));
        }
        match &mut inbox.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => inbox.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Inbox {
    fn put(&mut self, message: CarryOut) -> Result<(), &'static str> {
        if let Some(head) = message.head
            && !self.started
        {
            self.started = true;
            let headers = head.headers.iter();
            let headers = headers.map(|header| (header.name.as_bytes(), header.value.as_ref()));
            self.head = Some(Head::new(head.status, headers));
        }
        if !message.data.is_empty() {
            if !self.started {
                return Err("output came before the head of the answer");
            }
            let left = self.window.checked_sub(message.data.len() as u64);
            self.window = left.ok_or("more output came than there was credit for")?;
            self.keep(message.data);
        }
        if let Some(credit) = message.credit {
            self.credit = self.credit.saturating_add(credit.bytes);
        }
        if let Some(outcome) = message.outcome {
            self.end = Some(Ending::Outcome(outcome));
        }
        Ok(())
    }

    fn keep(&mut self, data: Bytes) {
        if data.len() < SMALL_PIECE {
            self.tail.extend_from_slice(&data);
            return;
        }
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.pieces.push_back(data);
    }
}
