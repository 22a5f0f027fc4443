//! A connection's bytes under guard: framing judged as it arrives, and every wait bounded.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::connection::ConnectionState;
use super::framing::{Finding, Framing};
use super::limits::Limits;
use super::timer::LazyTimer;

/// How long a connection that the server closes goes on swallowing what its client still sends. To
/// close it with input unread would reset it, and the client might never see its answer.
const LINGER: Duration = Duration::from_secs(1);

/// How long after its connection a client may begin its first request although the server is told
/// to stop.
const FIRST_HEAD: Duration = Duration::from_secs(1);

/// A stand-in for a byte that must not reach the parser: in a head it is refused anywhere, so that
/// the parser itself answers 400, in turn, and closes.
const POISON: u8 = 0;

/// The connection of one client.
pub(super) struct GuardedIo<T> {
    io: T,
    framing: Framing,
    state: Arc<ConnectionState>,
    limits: Arc<Limits>,
    verdict: Verdict,
    /// What was read before the parser was there, and how much of it the parser has.
    opening: Vec<u8>,
    opening_read: usize,
    read_timer: LazyTimer,
    write_timer: LazyTimer,
    /// Since when the client is waited for, before its first request or within a head.
    waiting_since: Option<Instant>,
    /// When the client last took something.
    last_write: Option<Instant>,
    /// Since when the client takes nothing of what is there for it.
    stalled_since: Option<Instant>,
    /// When the last head was complete; kept only if the time of answers is limited.
    answering_since: Option<Instant>,
    linger_until: Option<Instant>,
}

/// What became of the input.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Sound,
    /// A bad head: the parser has been told, and there is no more input.
    BadHead,
    /// A bad body: its reader is told next.
    BadBody,
}

impl<T> GuardedIo<T> {
    pub(super) fn new(io: T, state: Arc<ConnectionState>, limits: Arc<Limits>) -> Self {
        Self {
            io,
            framing: Framing::new(),
            state,
            limits,
            verdict: Verdict::Sound,
            opening: Vec::new(),
            opening_read: 0,
            read_timer: LazyTimer::default(),
            write_timer: LazyTimer::default(),
            waiting_since: None,
            last_write: None,
            stalled_since: None,
            answering_since: None,
            linger_until: None,
        }
    }

    /// Gives the parser what was read before it was there; false if there is nothing of it left.
    fn read_opening(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let left = &self.opening[self.opening_read..];
        if left.is_empty() {
            return false;
        }
        let count = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..count]);
        self.opening_read += count;
        if self.opening_read == self.opening.len() {
            self.opening = Vec::new();
            self.opening_read = 0;
        }
        true
    }

    /// Judges what was just read, behind the first `before` bytes of `buffer`.
    fn inspect(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let (was_between, heads) = (self.framing.is_between(), self.framing.heads());
        let new = &mut buffer.filled_mut()[before..];
        let end = match self.framing.inspect(new) {
            Finding::Sound => new.len(),
            Finding::BadHead(at) => {
                new[at] = POISON;
                self.verdict = Verdict::BadHead;
                at + 1
            }
            Finding::BadBody(at) => {
                self.verdict = Verdict::BadBody;
                at
            }
        };
        buffer.set_filled(before + end);
        let new_head = self.framing.heads() != heads;
        if was_between || new_head {
            self.waiting_since = None;
        }
        if new_head && self.limits.write_timeout.is_some() {
            self.answering_since = Some(Instant::now());
        }
    }

    /// Nothing can be read: is it time to give up?
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let limits = &self.limits;
        // While a request is being answered, its body and its answer have limits of their own. The
        // parser may not come back here when that is over, so the timer must bring it.
        if self.state.is_busy() {
            self.waiting_since = None;
            if let Some(limit) = limits.idle_timeout {
                self.read_timer.remind(cx, limit);
            }
            return Poll::Pending;
        }
        let between = self.framing.is_between();
        if between && self.state.is_draining() {
            // A client that has just connected is sending its request.
            if self.framing.heads() == 0 {
                let since = *self.waiting_since.get_or_insert_with(Instant::now);
                ready!(self.read_timer.poll(cx, since + FIRST_HEAD));
            }
            return Poll::Ready(Ok(()));
        }
        let (since, limit) = match self.last_write {
            Some(since) if between => (since, limits.idle_timeout),
            _ => {
                let since = *self.waiting_since.get_or_insert_with(Instant::now);
                (since, limits.header_read_timeout)
            }
        };
        let Some(limit) = limit else {
            return Poll::Pending;
        };
        ready!(self.read_timer.poll(cx, since + limit));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Bounds the outcome of a write by the times that the client has for taking it.
    fn bound_write<R>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let answer_deadline = self
            .answering_since
            .zip(self.limits.write_timeout)
            .map(|(since, limit)| since + limit);
        if outcome.is_ready() {
            let now = Instant::now();
            self.stalled_since = None;
            self.last_write = Some(now);
            return match answer_deadline {
                Some(deadline) if now >= deadline => {
                    Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                }
                _ => outcome,
            };
        }
        let since = *self.stalled_since.get_or_insert_with(Instant::now);
        let stall_deadline = self.limits.write_stall_timeout.map(|limit| since + limit);
        let deadline = match (stall_deadline, answer_deadline) {
            (Some(one), Some(other)) => one.min(other),
            (one, other) => match one.or(other) {
                Some(deadline) => deadline,
                None => return Poll::Pending,
            },
        };
        ready!(self.write_timer.poll(cx, deadline));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> GuardedIo<T> {
    /// Waits for the first head, so that a client that is slow to send one, or never does, costs its
    /// bytes and not the parser's buffers. False if the connection ended before.
    ///
    /// # Errors
    /// The connection broke, or the head did not come in time. May be dropped and called again.
    pub(super) async fn open(&mut self) -> io::Result<bool> {
        poll_fn(|cx| self.poll_open(cx)).await
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut scratch = [0; 1024];
        // A bad head and one that is too large are the parser's to answer.
        while self.framing.heads() == 0
            && self.verdict == Verdict::Sound
            && self.opening.len() < self.limits.max_header_bytes
        {
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(self.poll_read_io(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(false));
            }
            let strange = buffer
                .filled()
                .iter()
                .any(|byte| byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n' | b'\t'));
            self.opening.extend_from_slice(buffer.filled());
            // Another protocol, such as TLS: its head would never end. The body behind a head may
            // hold anything, but then the head is here and the parser's turn has come.
            if strange {
                break;
            }
        }
        Poll::Ready(Ok(true))
    }

    fn poll_read_io(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.verdict {
            Verdict::Sound => {}
            Verdict::BadHead => return Poll::Ready(Ok(())),
            Verdict::BadBody => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                self.inspect(buffer, before);
                if self.verdict == Verdict::BadBody && buffer.filled().len() == before {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_read_deadline(cx),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for GuardedIo<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read_opening(buffer) {
            return Poll::Ready(Ok(()));
        }
        this.poll_read_io(cx, buffer)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for GuardedIo<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.bound_write(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.bound_write(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger_until.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        if this.verdict == Verdict::Sound && this.framing.is_between() {
            return Poll::Ready(Ok(()));
        }
        let until = *this
            .linger_until
            .get_or_insert_with(|| Instant::now() + LINGER);
        let mut scratch = [0; 4096];
        loop {
            if this.read_timer.poll(cx, until).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.io).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}
