//! One call: runs the handler within its deadline and turns what becomes of it into an answer.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::body::{Body, Unread};
use crate::context::Context;
use crate::response::{Payload, Response};
use crate::streaming::BodyError;
use crate::timer::Timer;

/// How long the rest of a request is read for a handler that did not want it, when the call has no
/// deadline.
const DISCARD_LIMIT: Duration = Duration::from_secs(30);

/// The handler and what all of its calls share.
pub(crate) struct Function<H> {
    handler: H,
    config: Arc<BTreeMap<String, String>>,
    /// The platform sends one call at a time; a handler may rely on it.
    turn: Arc<Semaphore>,
}

/// What the calls of one connection share.
pub(crate) struct Link {
    unread: Unread,
    timer: Timer,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            unread: Unread::default(),
            timer: Timer::new(),
        }
    }
}

impl<H, R, E> Function<H>
where
    H: AsyncFn(Context, Body) -> Result<R, E>,
    R: Into<Response>,
    E: fmt::Display,
{
    pub(crate) fn new(handler: H, config: Arc<BTreeMap<String, String>>) -> Self {
        Self {
            handler,
            config,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Answers one request; `link` belongs to its connection.
    pub(crate) async fn call(
        &self,
        request: Request<Incoming>,
        link: &Link,
    ) -> http::Response<AnswerBody> {
        let (parts, incoming) = request.into_parts();
        let context = Context::new(Arc::clone(&self.config), parts.headers);
        let intent = context.intent();
        let deadline = context.remaining().map(|left| Instant::now() + left);
        let body = Body::new(incoming, link.unread.clone());

        let outcome = self.run(context, body);
        let outcome = match deadline {
            Some(deadline) => {
                let limited = link.timer.limit(deadline, outcome).await;
                limited.unwrap_or(Err(StatusCode::GATEWAY_TIMEOUT))
            }
            None => outcome.await,
        };
        let limit = deadline.unwrap_or_else(|| Instant::now() + DISCARD_LIMIT);
        // A body that does not end in time costs the connection, not the answer.
        let _ = link.timer.limit(limit, link.unread.discard()).await;

        let rendered = outcome.and_then(|(response, turn)| match response.render(intent) {
            Ok((headers, payload)) => Ok((
                headers,
                AnswerBody {
                    payload,
                    _turn: Some(turn),
                },
            )),
            Err(status) => {
                log(format_args!("the handler answered with status {status}"));
                Err(StatusCode::BAD_GATEWAY)
            }
        });
        match rendered {
            Ok((headers, body)) => answer(StatusCode::OK, headers, body),
            Err(status) => {
                let payload = Payload::Whole(Bytes::new());
                let body = AnswerBody {
                    payload,
                    _turn: None,
                };
                answer(status, HeaderMap::with_capacity(1), body)
            }
        }
    }

    async fn run(
        &self,
        context: Context,
        body: Body,
    ) -> Result<(Response, OwnedSemaphorePermit), StatusCode> {
        let failed = StatusCode::BAD_GATEWAY;
        // The semaphore is never closed.
        let turn = Arc::clone(&self.turn)
            .acquire_owned()
            .await
            .map_err(|_| failed)?;
        let called = async { (self.handler)(context, body).await };
        match AssertUnwindSafe(called).catch_unwind().await {
            Ok(Ok(response)) => Ok((response.into(), turn)),
            Ok(Err(error)) => {
                log(format_args!("the handler failed: {error:#}"));
                Err(failed)
            }
            // The panic's own message is on stderr already.
            Err(_) => Err(failed),
        }
    }
}

fn answer(status: StatusCode, headers: HeaderMap, body: AnswerBody) -> http::Response<AnswerBody> {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.headers_mut().insert(
        HeaderName::from_static("fn-fdk-version"),
        HeaderValue::from_static(crate::VERSION),
    );
    response
}

/// Writes a line to stderr, which may be closed.
pub(crate) fn log(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "hearth-fdk: {line}");
}

/// The body of an answer. The call's turn ends when it is sent, or when nobody wants it any more.
pub(crate) struct AnswerBody {
    payload: Payload,
    _turn: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.payload).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.payload.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.payload.size_hint()
    }
}
