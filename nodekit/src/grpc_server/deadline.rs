//! The deadline that a caller sets: a call ends with it, whether its answer has begun or not.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;
use tonic::body::Body;

const GRPC_TIMEOUT: &str = "grpc-timeout";

/// When the caller stops waiting; in the extensions of every request that has a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallDeadline(Instant);

impl CallDeadline {
    /// Reads the deadline from the headers of a request that came just now; one that is malformed,
    /// or beyond the end of time, is none.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let after = parse(headers.get(GRPC_TIMEOUT)?.as_bytes())?;
        Instant::now().checked_add(after).map(Self)
    }

    /// The instant.
    pub fn instant(self) -> Instant {
        self.0
    }
}

/// A number of at most eight digits and a unit, as the gRPC protocol writes it.
fn parse(value: &[u8]) -> Option<Duration> {
    let (&unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

fn exceeded() -> Status {
    Status::deadline_exceeded("the deadline of the caller has passed")
}

/// Ends a call at its deadline; whatever still works on it is dropped.
pub(super) async fn bound(
    deadline: Option<CallDeadline>,
    call: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Result<Response<Body>, Infallible> {
    let Some(CallDeadline(deadline)) = deadline else {
        return call.await;
    };
    match timeout_at(deadline, call).await {
        Ok(answer) => answer.map(|answer| {
            answer.map(|body| {
                Body::new(BoundBody {
                    state: State::Open(body, Box::pin(sleep_until(deadline))),
                })
            })
        }),
        Err(_) => Ok(exceeded().into_http()),
    }
}

/// The body of an answer that must end at a deadline.
struct BoundBody {
    state: State,
}

enum State {
    Open(Body, Pin<Box<Sleep>>),
    Cut,
}

impl http_body::Body for BoundBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let State::Open(body, sleep) = &mut self.state else {
            return Poll::Ready(None);
        };
        // First, so that a stream that always has something to send ends too.
        if sleep.as_mut().poll(cx).is_pending() {
            return Pin::new(body).poll_frame(cx);
        }
        self.state = State::Cut;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(
            exceeded()
                .add_header(&mut trailers)
                .map(|()| Frame::trailers(trailers)),
        ))
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Open(body, _) => body.is_end_stream(),
            State::Cut => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Open(body, _) => body.size_hint(),
            State::Cut => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use http_body_util::{BodyExt as _, StreamBody};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_units_are_the_protocols() {
        for (text, expected) in [
            ("3H", Some(Duration::from_secs(3 * 3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("42S", Some(Duration::from_secs(42))),
            ("13m", Some(Duration::from_millis(13))),
            ("2u", Some(Duration::from_micros(2))),
            ("0n", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("123456789S", None),
            ("1s", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1.5S", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    fn after(duration: Duration) -> Option<CallDeadline> {
        Some(CallDeadline(Instant::now() + duration))
    }

    fn status(headers: &HeaderMap) -> Option<i32> {
        Some(Status::from_header_map(headers)?.code().into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends_with_the_deadline() {
        let answer = bound(after(Duration::from_secs(1)), pending()).await;
        let answer = answer.expect("an answer");
        assert_eq!(status(answer.headers()), Some(4));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_an_end_ends_with_the_deadline() {
        let endless = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let frame = Frame::data(Bytes::from_static(b"x"));
            Some((Ok::<_, Status>(frame), ()))
        });
        let answer = Response::new(Body::new(StreamBody::new(Box::pin(endless))));
        let answer = bound(after(Duration::from_secs(1)), async { Ok(answer) }).await;
        let body = answer.expect("an answer").into_body();
        let collected = body.collect().await.expect("an end");
        let trailers = collected.trailers().cloned().expect("trailers");
        assert_eq!(status(&trailers), Some(4));
        assert_eq!(collected.to_bytes(), "xxx");
    }

    proptest! {
        #[test]
        fn no_bytes_upset_the_parser(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
