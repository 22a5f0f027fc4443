//! One call among many on a stream: a task that runs it and sends its answer as far as the load
//! balancer has credit for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{ApiError, CallId, ErrorCode};
use futures_util::FutureExt as _;
use http::header::{EXPECT, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use nodekit::body::Body;
use nodekit::exchange::{CallRequest, Target};
use nodekit::hop;
use proto::carry::INITIAL_CREDIT;
use proto::runner_extension::{Begin, CarryOut, Credit, Head, Header, Outcome};
use tokio::sync::{Notify, mpsc};

use super::Shared;
use super::carried_input::CarriedInput;
use super::counters::Counted;
use super::engage::DETACHED_AHEAD;
use crate::agent::{Started, output_error};

/// The largest piece of an output, so that calls take turns.
const MAX_PIECE: usize = 16 * 1024;

/// How much of its output the load balancer can take.
#[derive(Debug)]
pub(super) struct OutputCredit {
    bytes: AtomicU64,
    more: Notify,
}

impl OutputCredit {
    pub(super) fn new() -> Self {
        Self {
            bytes: AtomicU64::new(INITIAL_CREDIT),
            more: Notify::new(),
        }
    }

    /// The load balancer can take more.
    pub(super) fn add(&self, bytes: u64) {
        // Only the stream's own task adds, and the call's takes.
        let now = self.bytes.load(Ordering::Acquire);
        self.bytes
            .fetch_add(bytes.min(u64::MAX - now), Ordering::AcqRel);
        self.more.notify_one();
    }

    /// Takes up to `most` of what there is.
    fn try_take(&self, most: usize) -> usize {
        let there = self.bytes.load(Ordering::Acquire);
        let taken = usize::try_from(there).unwrap_or(usize::MAX).min(most);
        self.bytes.fetch_sub(taken as u64, Ordering::AcqRel);
        taken
    }

    /// Waits until there is credit, and takes up to `most` of it.
    async fn take(&self, most: usize) -> usize {
        loop {
            match self.try_take(most) {
                0 => self.more.notified().await,
                taken => return taken,
            }
        }
    }
}

/// A call that has been asked for.
pub(super) struct CarriedCall {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
    pub(super) target: Result<Arc<Target>, ApiError>,
    pub(super) begin: Begin,
    pub(super) input: CarriedInput,
    pub(super) credit: Arc<OutputCredit>,
    pub(super) out: mpsc::Sender<CarryOut>,
}

/// Nobody listens any more.
struct Gone;

/// Why a call is not answered to its end.
enum Failure {
    Gone,
    Call(ApiError),
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Call(error)
    }
}

impl CarriedCall {
    /// Runs it to its end. Dropping the future cancels it, unless it is detached and has begun.
    pub(super) async fn run(mut self) -> u64 {
        let number = self.number;
        let (input, out) = (self.input.clone(), self.out.clone());
        let granting = async move {
            loop {
                let credit = Some(Credit {
                    bytes: input.grant().await,
                });
                let grant = CarryOut {
                    call: number,
                    credit,
                    ..CarryOut::default()
                };
                if out.send(grant).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            _ = self.answer() => {}
            () = granting => {}
        }
        number
    }

    async fn answer(&mut self) -> Result<(), Gone> {
        let mut counted = Counted::new(Arc::clone(&self.shared.counters));
        let mut started = None;
        // What is ready to be sent; a small answer goes together with its outcome.
        let mut ready = self.message();
        let error = match self.execute(&mut started, &mut ready).await {
            Ok(()) => None,
            Err(Failure::Gone) => return Err(Gone),
            Err(Failure::Call(error)) => Some(error),
        };
        if error.as_ref().is_some_and(is_refusal) {
            counted.refused();
        }
        drop(counted);
        ready.outcome = Some(outcome(error.as_ref(), started.as_ref()));
        self.send(ready).await
    }

    async fn execute(
        &mut self,
        started: &mut Option<Started>,
        ready: &mut CarryOut,
    ) -> Result<(), Failure> {
        let arrived = Instant::now();
        let target = self.target.clone()?;
        let wait = Some(Duration::from_nanos(self.begin.wait_nanos));
        let waits = [
            wait.filter(|wait| !wait.is_zero()),
            self.shared.settings.max_wait,
        ];
        let shortest = waits.into_iter().flatten().min();
        let wait_deadline = shortest.and_then(|wait| arrived.checked_add(wait));
        let call = CallRequest {
            id: CallId::from(self.begin.id.as_str()),
            target,
            headers: headers(&self.begin.headers)?,
            body: self.body(wait_deadline).await?,
            arrived,
            wait_deadline,
            detached: self.begin.detached,
        };
        let agent = &self.shared.agent;
        if self.begin.detached {
            let detached = agent.submit_detached_watched(call).await?;
            *started = Some(detached.started);
            ready.head = Some(head(StatusCode::ACCEPTED, &HeaderMap::new()));
            self.flush(ready).await?;
            let ended = detached.end.await;
            ended.unwrap_or_else(|_| Err(ApiError::internal("the runner has stopped")))?;
            return Ok(());
        }
        let response = agent.submit_watched(call, started).await?;
        ready.head = Some(head(StatusCode::OK, &response.headers));
        self.output(response.body, ready).await
    }

    /// The input; that of a detached call when so much of it is there that it can do without its
    /// load balancer, which may take until `deadline`.
    async fn body(&self, deadline: Option<Instant>) -> Result<Body, ApiError> {
        if !self.begin.detached {
            return Ok(self.input.body());
        }
        let ahead = self.input.body_ahead(DETACHED_AHEAD);
        match deadline {
            None => Ok(ahead.await),
            Some(deadline) => tokio::time::timeout_at(deadline.into(), ahead)
                .await
                .map_err(|_| ErrorCode::RequestBodyTimeout.into()),
        }
    }

    /// Sends an output, but for its last piece.
    async fn output(&self, mut output: Body, ready: &mut CarryOut) -> Result<(), Failure> {
        loop {
            let frame = match output.frame().now_or_never() {
                Some(frame) => frame,
                None => {
                    self.flush(ready).await?;
                    output.frame().await
                }
            };
            let Some(frame) = frame else {
                return Ok(());
            };
            let frame = frame.map_err(output_error)?;
            let mut data = frame.into_data().unwrap_or_default();
            while !data.is_empty() {
                let most = data.len().min(MAX_PIECE);
                let taken = match self.credit.try_take(most) {
                    0 => {
                        self.flush(ready).await?;
                        self.credit.take(most).await
                    }
                    taken => taken,
                };
                if !ready.data.is_empty() {
                    self.flush(ready).await?;
                }
                ready.data = data.split_to(taken);
            }
        }
    }

    fn message(&self) -> CarryOut {
        CarryOut {
            call: self.number,
            ..CarryOut::default()
        }
    }

    async fn flush(&self, ready: &mut CarryOut) -> Result<(), Gone> {
        if ready.head.is_none() && ready.data.is_empty() {
            return Ok(());
        }
        self.send(std::mem::replace(ready, self.message())).await
    }

    async fn send(&self, message: CarryOut) -> Result<(), Gone> {
        self.out.send(message).await.map_err(|_| Gone)
    }
}

/// Nothing of the call was begun, and it may be tried elsewhere.
fn is_refusal(error: &ApiError) -> bool {
    error.code() == ErrorCode::ServerBusy
}

fn headers(list: &[Header]) -> Result<HeaderMap, ApiError> {
    let invalid =
        |what: &str| ApiError::with_message(ErrorCode::Internal, format!("headers: {what}"));
    let mut headers = HeaderMap::try_with_capacity(list.len()).map_err(|_| invalid("too many"))?;
    for header in list {
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| invalid("not the name of a header"))?;
        let value = HeaderValue::from_maybe_shared(header.value.clone())
            .map_err(|_| invalid("not the value of a header"))?;
        headers
            .try_append(name, value)
            .map_err(|_| invalid("too many"))?;
    }
    hop::strip(&mut headers);
    headers.remove(HOST);
    headers.remove(EXPECT);
    Ok(headers)
}

fn head(status: StatusCode, headers: &HeaderMap) -> Head {
    let headers = headers.iter().map(|(name, value)| Header {
        name: name.as_str().to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    });
    Head {
        status: i32::from(status.as_u16()),
        headers: headers.collect(),
    }
}

fn outcome(error: Option<&ApiError>, started: Option<&Started>) -> Outcome {
    let mut outcome = Outcome::default();
    if let Some(error) = error {
        outcome.error = error.code().name().to_owned();
        outcome.error_status = i32::from(error.status());
        outcome.error_text = error.message().to_owned();
        outcome.refused = is_refusal(error);
    }
    if let Some(started) = started {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        outcome.scheduling = nanos(started.timings.scheduling);
        outcome.image_pull = nanos(started.timings.image_pull);
        outcome.container_create = nanos(started.timings.container_create);
        outcome.container_init = nanos(started.timings.container_init);
        outcome.execution = nanos(started.at.elapsed());
    }
    outcome
}
