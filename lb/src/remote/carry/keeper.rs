//! Keeps a connection's stream of many calls: asks the runner for it, moves it, and asks again when
//! it is over.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::SendRequest;
use http::Uri;
use nodekit::exchange::Target;
use prost::Message as _;
use proto::runner_extension::CarryOut;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::carrier::{Carrier, Sendable};
use crate::remote::connection::request;
use crate::remote::stream::{self, Received, Receiving};

/// How long a connection waits for the runner to say whether it knows this; until it has said so,
/// calls have streams of their own.
const ANSWER: Duration = Duration::from_secs(1);

/// The pause before a stream is asked for again.
const AGAIN: Duration = Duration::from_millis(250);

/// Messages that are read before others on the connection have their turn.
const BATCH: usize = 256;

/// The stream of a connection, if it has one.
#[derive(Debug, Default)]
pub(crate) struct Carrying {
    carrier: Mutex<Option<Arc<Carrier>>>,
    answered: CancellationToken,
}

impl Carrying {
    /// For a runner that is not asked.
    pub(crate) fn unused() -> Self {
        let carrying = Self::default();
        carrying.answered.cancel();
        carrying
    }

    /// Waits until it is known whether there is one.
    pub(crate) async fn answered(&self) {
        let _ = tokio::time::timeout(ANSWER, self.answered.cancelled()).await;
    }

    /// The stream, if a call of `target` may be begun on it.
    pub(crate) fn with_room(&self, target: &Target) -> Option<Arc<Carrier>> {
        let carrier = self.lock().clone()?;
        carrier.has_room(target).then_some(carrier)
    }

    /// Gives up calls that should have been over.
    pub(crate) fn expire(&self, now: Instant) {
        let carrier = self.lock().clone();
        if let Some(carrier) = carrier {
            carrier.expire(now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Carrier>>> {
        self.carrier.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a stream as long as the runner knows what that is. To be polled before and after the
/// connection, in the same task: so what calls say goes out, and what comes reaches them, at once.
pub(crate) async fn keep(
    carrying: Arc<Carrying>,
    mut streams: SendRequest<Bytes>,
    uri: Uri,
) -> Infallible {
    loop {
        match ask(&mut streams, &uri).await {
            Ok((send, receive)) => {
                let carried = Carried {
                    carrying: &carrying,
                    carrier: Arc::default(),
                };
                *carrying.lock() = Some(Arc::clone(&carried.carrier));
                carrying.answered.cancel();
                let mut ends = Ends {
                    carrier: &carried.carrier,
                    streams: &mut streams,
                    send,
                    receive,
                    open: true,
                };
                let (well, why) = std::future::poll_fn(|cx| ends.poll(cx)).await;
                tracing::debug!(why, "a stream of many calls is over");
                carried.carrier.end(well, &why);
            }
            Err(Refusal::Unknown) => {
                carrying.answered.cancel();
                return std::future::pending().await;
            }
            Err(Refusal::Other(why)) => {
                tracing::debug!(why, "a runner has no stream of many calls");
                carrying.answered.cancel();
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Takes the stream back when it is over, or its connection is.
struct Carried<'a> {
    carrying: &'a Carrying,
    carrier: Arc<Carrier>,
}

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        *self.carrying.lock() = None;
        self.carrier.end(false, "the connection is over");
    }
}

/// Why there is no stream.
enum Refusal {
    /// The runner does not know what that is.
    Unknown,
    Other(String),
}

/// Opens a stream. It has no calls before the runner has answered, so that none is lost by asking.
async fn ask(
    streams: &mut SendRequest<Bytes>,
    uri: &Uri,
) -> Result<(SendStream<Bytes>, Receiving), Refusal> {
    let other = |error: h2::Error| Refusal::Other(error.to_string());
    std::future::poll_fn(|cx| streams.poll_ready(cx))
        .await
        .map_err(other)?;
    let opened = streams.send_request(request(uri.clone()), false);
    let (head, send) = opened.map_err(other)?;
    let mut receive = Receiving::new(head);
    match std::future::poll_fn(|cx| receive.poll_head(cx)).await {
        Ok(None) => Ok((send, receive)),
        Ok(Some(status)) if status.code == stream::UNIMPLEMENTED => Err(Refusal::Unknown),
        Ok(Some(status)) => Err(Refusal::Other(format!("status {}", status.code))),
        Err(error) => Err(Refusal::Other(error.to_string())),
    }
}

/// Both ends of the stream.
struct Ends<'a> {
    carrier: &'a Carrier,
    streams: &'a mut SendRequest<Bytes>,
    send: SendStream<Bytes>,
    receive: Receiving,
    /// There is more to send, as far as is known.
    open: bool,
}

impl Ends<'_> {
    /// Whether the stream ended well, and why.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(bool, String)> {
        self.flush(cx);
        let mut read = false;
        for _ in 0..BATCH {
            match self.receive.poll_next(cx) {
                Poll::Pending => {
                    if self.is_closing(cx) {
                        self.carrier.retire();
                        read = true;
                    }
                    if read {
                        self.flush(cx);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Received::Message(message))) => match CarryOut::decode(message) {
                    Ok(message) => self.carrier.deliver(message),
                    Err(error) => {
                        self.send.send_reset(h2::Reason::CANCEL);
                        let why = format!("a message cannot be read: {error}");
                        return Poll::Ready((false, why));
                    }
                },
                Poll::Ready(Ok(Received::End(status))) => {
                    let why = format!("status {} {}", status.code, status.message);
                    return Poll::Ready((status.code == stream::OK, why));
                }
                Poll::Ready(Err(error)) => return Poll::Ready((false, error.to_string())),
            }
            read = true;
        }
        self.flush(cx);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the connection takes no new streams: it is to end with the calls that it has.
    fn is_closing(&mut self, cx: &mut Context<'_>) -> bool {
        matches!(self.streams.poll_ready(cx), Poll::Ready(Err(_)))
    }

    /// Hands to the connection all that it takes.
    fn flush(&mut self, cx: &mut Context<'_>) {
        while self.open {
            match self.carrier.sendable(cx.waker()) {
                Sendable::Nothing => return,
                Sendable::End => {
                    self.open = false;
                    let _ = self.send.send_data(Bytes::new(), true);
                }
                Sendable::Bytes(length) => {
                    self.send.reserve_capacity(length);
                    let capacity = match self.send.capacity() {
                        0 => match self.send.poll_capacity(cx) {
                            Poll::Pending => return,
                            Poll::Ready(Some(Ok(_))) => continue,
                            Poll::Ready(_) => 0,
                        },
                        capacity => capacity,
                    };
                    // A stream that the runner has closed takes nothing; what it says tells why.
                    self.open = capacity > 0
                        && self
                            .send
                            .send_data(self.carrier.hand(capacity), false)
                            .is_ok();
                }
            }
        }
    }
}
