//! The clients: each call is sent once, and what became of it is kept.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hearth_tests::Deployed;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::LIMIT;
use super::ledger::Ledger;
use super::plan::{Manner, Plan};

/// A call that has no answer after this much more than its limit has none at all.
const PATIENCE: Duration = Duration::from_secs(15);

/// A client of one load balancer, which keeps its connections.
#[derive(Debug, Clone)]
pub(super) struct Client {
    uri: String,
    ledger: String,
    http: HyperClient<HttpConnector, Pieces>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What became of a call.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) plan: Plan,
    pub(super) took: Duration,
    pub(super) end: End,
}

/// How a call ended for its client.
#[derive(Debug)]
pub(super) enum End {
    Answered(Answer),
    /// The connection or the answer broke.
    Broken(String),
    /// It hung up.
    Left,
    /// It waits still.
    Hangs,
}

impl Outcome {
    pub(super) fn is_success(&self) -> bool {
        matches!(&self.end, End::Answered(answer) if answer.status == 200)
    }
}

impl Client {
    /// A client of the load balancer at `base`.
    pub(super) fn new(base: &str, func: &Deployed, ledger: &Ledger) -> Self {
        let mut http = HyperClient::builder(TokioExecutor::new());
        // What runs twice was sent twice by the system.
        http.retry_canceled_requests(false);
        Self {
            uri: format!("{base}{}", func.path),
            ledger: ledger.address().to_owned(),
            http: http.build_http(),
        }
    }

    pub(super) async fn call(&self, plan: &Plan) -> Outcome {
        let knobs = plan.knobs(&self.ledger).to_string();
        let request = Request::post(&self.uri)
            .header("Test-Knobs", knobs)
            .body(plan.input())
            .expect("a request");
        let began = Instant::now();
        let call = async {
            let (head, body) = self.http.request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        let (patience, then) = match plan.manner {
            Manner::GoesAway(after) => (after, End::Left),
            _ => (LIMIT + PATIENCE, End::Hangs),
        };
        let end = match timeout(patience, call).await {
            Ok(Ok(answer)) => End::Answered(answer),
            Ok(Err(error)) => End::Broken(format!("{error:#}")),
            Err(_) => then,
        };
        Outcome {
            plan: plan.clone(),
            took: began.elapsed(),
            end,
        }
    }
}

/// A body that comes in pieces, each after a pause.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: VecDeque<(Duration, Bytes)>,
    pause: Option<Pin<Box<Sleep>>>,
    ends: bool,
}

impl Pieces {
    pub(super) fn new(pieces: impl IntoIterator<Item = (Duration, Bytes)>) -> Self {
        Self {
            pieces: pieces.into_iter().collect(),
            pause: None,
            ends: true,
        }
    }

    /// After the last piece it is only waited for more.
    pub(super) fn and_no_end(self) -> Self {
        Self {
            ends: false,
            ..self
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(&(pause, _)) = self.pieces.front() else {
            return if self.ends {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        };
        if !pause.is_zero() {
            let timer = self.pause.get_or_insert_with(|| Box::pin(sleep(pause)));
            ready!(timer.as_mut().poll(cx));
            self.pause = None;
        }
        let piece = self
            .pieces
            .pop_front()
            .map(|(_, piece)| Ok(Frame::data(piece)));
        Poll::Ready(piece)
    }

    fn size_hint(&self) -> SizeHint {
        if !self.ends {
            return SizeHint::default();
        }
        let lengths = self.pieces.iter().map(|(_, piece)| piece.len());
        SizeHint::with_exact(u64::try_from(lengths.sum::<usize>()).expect("a length"))
    }
}
