//! One HTTP/1.1 keep-alive connection to a function.
//!
//! The connection has no task of its own: whoever waits for an answer drives it. That costs the same
//! per call as a task would, saves the task of every idle container, closes the connection at once
//! when a call is dropped, and lets the end of an answer be judged where it is seen. Nobody watches
//! an idle connection, so [`Connection::is_quiet`] asks the socket itself before each use.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::net::UnixStream;

use super::call::Input;
use super::unread;

/// How far hyper reads ahead, unless the head of an answer may be larger.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// A connection, and what is needed to ask the socket about its state.
pub(super) struct Connection(Box<Inner>);

struct Inner {
    sender: SendRequest<Input>,
    driver: Driver,
    /// A second descriptor of the same socket: hyper owns the first one.
    probe: OwnedFd,
    /// The function answered in HTTP/1.0. hyper would send it the next call in its own way, which
    /// knows no chunks.
    outdated: bool,
}

#[expect(
    clippy::large_enum_variant,
    reason = "it lives in a box, and its size is that of the working state"
)]
enum Driver {
    Running(http1::Connection<TokioIo<UnixStream>, Input>),
    /// Closed, or failed with this error.
    Ended(Option<hyper::Error>),
}

/// How a call that was to be sent failed.
pub(super) enum SendError {
    /// Not a byte of it was written.
    NotSent(Box<Request<Input>>),
    /// It may have reached the function.
    Failed(hyper::Error),
}

/// What became of a connection after the function's answer was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remains {
    /// Both sides are at the start of the next call.
    Idle,
    /// It cannot be used again: closed, or the function left input unread. The function is fine.
    Spent,
    /// The function wrote more than its answer.
    ExtraBytes,
}

impl Connection {
    /// Starts HTTP on `stream`. A head of more than `max_header_bytes`, or of more than 100 headers,
    /// is an error: a higher number would cost every call, for hyper then allocates.
    pub(super) async fn start(stream: UnixStream, max_header_bytes: usize) -> io::Result<Self> {
        let probe = stream.as_fd().try_clone_to_owned()?;
        let (sender, driver) = http1::Builder::new()
            .title_case_headers(true)
            .max_header_size(max_header_bytes)
            .max_buf_size(max_header_bytes.max(READ_AHEAD_BYTES))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        Ok(Self(Box::new(Inner {
            sender,
            driver: Driver::Running(driver),
            probe,
            outdated: false,
        })))
    }

    /// Whether the function neither closed the connection nor wrote anything unasked, as of now.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(self.0.driver, Driver::Running(_))
            && matches!(
                rustix::net::recv(&self.0.probe, &mut byte, flags),
                Err(Errno::AGAIN | Errno::INTR)
            )
    }

    /// Sends `request` and waits for the head of the answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Input>,
    ) -> Result<Response<Incoming>, SendError> {
        let Inner {
            sender,
            driver,
            outdated,
            ..
        } = &mut *self.0;
        // Only the driver can complete this future, and it is always polled first: so nobody needs
        // to be woken by it, and the task's budget is the driver's to spend.
        let mut response = pin!(tokio::task::unconstrained(sender.try_send_request(request)));
        std::future::poll_fn(|cx| {
            driver.poll(cx);
            response
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
        .inspect(|response| *outdated = response.version() != Version::HTTP_11)
        .map_err(|mut error| match error.take_message() {
            Some(request) => SendError::NotSent(Box::new(request)),
            None => SendError::Failed(self.cause(error.into_error())),
        })
    }

    /// The next bytes of the answer's body; `None` at its end. Trailers are dropped.
    pub(super) async fn read(
        &mut self,
        body: &mut Incoming,
    ) -> Option<Result<Bytes, hyper::Error>> {
        let read = std::future::poll_fn(|cx| {
            let mut quiet = Context::from_waker(Waker::noop());
            loop {
                let mut frame = Pin::new(&mut *body).poll_frame(&mut quiet);
                if frame.is_pending() {
                    self.0.driver.poll(cx);
                    frame = Pin::new(&mut *body).poll_frame(&mut quiet);
                }
                match std::task::ready!(frame) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) => return Poll::Ready(Some(Ok(data))),
                        Err(_trailers) => {}
                    },
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => return Poll::Ready(None),
                }
            }
        })
        .await;
        read.map(|read| read.map_err(|error| self.cause(error)))
    }

    /// Looks at the connection after an answer was read to its end.
    pub(super) async fn remains(&mut self) -> Remains {
        // One poll is enough: everything that was read is taken into account in it.
        std::future::poll_fn(|cx| {
            self.0.driver.poll(cx);
            Poll::Ready(())
        })
        .await;
        match &self.0.driver {
            Driver::Running(_) if self.0.sender.is_ready() => {
                if !self.0.outdated && unread::bytes(&self.0.probe) == 0 {
                    Remains::Idle
                } else {
                    Remains::Spent
                }
            }
            Driver::Running(_) | Driver::Ended(None) => Remains::Spent,
            Driver::Ended(Some(error)) if is_harmless(error) => Remains::Spent,
            Driver::Ended(Some(_)) => Remains::ExtraBytes,
        }
    }

    /// The driver's own error says more than what it told the body.
    fn cause(&mut self, told: hyper::Error) -> hyper::Error {
        match &mut self.0.driver {
            Driver::Ended(error) => error.take().unwrap_or(told),
            Driver::Running(_) => told,
        }
    }
}

/// Whether the error is about the request, or the end of the connection, and not about bytes that
/// nobody asked for.
fn is_harmless(error: &hyper::Error) -> bool {
    let of_the_socket = std::error::Error::source(error)
        .is_some_and(|source| source.downcast_ref::<io::Error>().is_some());
    of_the_socket || error.is_user() || error.is_incomplete_message() || error.is_canceled()
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Self::Running(connection) = self
            && let Poll::Ready(end) = Pin::new(connection).poll(cx)
        {
            // Dropping hyper's side completes whatever still waits for it.
            *self = Self::Ended(end.err());
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection").field(&self.0.probe).finish()
    }
}
