//! Calls with an idempotency key whose clients wait: a repetition of the request gets the answer of
//! the first one, and makes no second call.
//!
//! Such a call goes on when its client goes away, because the client will come back with its key. A
//! call that ends without an answer of the function frees the key, so that it can be tried again. An
//! answer that is too large to be kept still ends the key: the function is not run twice.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::call::{CallResult, fingerprint};
use domain::{ApiError, CallId, ErrorCode, FnId};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use hybrid_client::{BeginKeyed, CallPlane, Keyed};
use nodekit::body::{self, Body};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::call::{Asked, Caller};
use super::durable::{IDEMPOTENT_REPLAYED, TRUE, kept_headers};
use super::outcome::{Outcome, output_error};
use super::way::{self, Rendered};
use super::{content_type, input};
use crate::metrics::Answer;

/// How long a key is held at most for a call that nobody speaks of any more.
const MAX_HOLD: Duration = Duration::from_secs(24 * 3600);

/// How long a client waits at most until its answer is kept, and the pauses before it is tried again.
const KEEP_PATIENCE: Duration = Duration::from_secs(2);
const KEEP_PAUSE_MIN: Duration = Duration::from_millis(100);
const KEEP_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The calls of a front door that go on without their clients.
#[derive(Debug, Clone, Default)]
pub struct CallTasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl CallTasks {
    /// Waits for the end of all of them, at most for `patience`; then they are given up. Call it when
    /// no call comes any more.
    pub async fn stop(&self, patience: Duration) {
        self.tracker.close();
        if timeout(patience, self.tracker.wait()).await.is_err() {
            self.stop.cancel();
            self.tracker.wait().await;
        }
    }
}

/// A key, while its call is being made.
struct Held {
    plane: Arc<dyn CallPlane>,
    fn_id: FnId,
    key: String,
    call_id: CallId,
}

impl Caller {
    /// Makes the call unless it was made before.
    pub(super) async fn keyed(
        &self,
        plane: Arc<dyn CallPlane>,
        key: String,
        asked: Asked,
    ) -> Result<Outcome, ApiError> {
        let Asked { body, .. } = asked;
        let body = input::whole(body, self.shared.parts.limits.max_body).await?;
        let asked = Asked {
            body: body::empty(),
            ..asked
        };
        let caller = self.clone();
        let (answer, answered) = oneshot::channel();
        let tasks = &self.shared.parts.tasks;
        let stop = tasks.stop.clone();
        tasks.tracker.spawn(async move {
            let making = caller.make_once(plane, key, asked, body, answer);
            stop.run_until_cancelled(making).await
        });
        // The task is given up only when the node ends.
        answered
            .await
            .unwrap_or_else(|_| Err(ErrorCode::ServerBusy.into()))
    }

    async fn make_once(
        self,
        plane: Arc<dyn CallPlane>,
        key: String,
        asked: Asked,
        input: Bytes,
        answer: oneshot::Sender<Result<Outcome, ApiError>>,
    ) {
        let content_type = asked.headers.get(CONTENT_TYPE);
        let content_type = content_type.map_or(String::new(), |value| {
            value.as_bytes().iter().copied().map(char::from).collect()
        });
        let begin = BeginKeyed {
            fn_id: self.target.spec.fn_id.clone(),
            key: key.clone(),
            fingerprint: fingerprint(asked.method.as_str(), &asked.url, &content_type, &input),
            call_id: self.id.clone(),
            hold: self.hold(),
        };
        match plane.begin_keyed(begin).await {
            Ok(Keyed::Fresh) => {}
            Ok(Keyed::Made { call_id, result }) => {
                // A client that is gone needs no answer.
                let _ = answer.send(replay(call_id, result));
                return;
            }
            Err(error) => {
                let _ = answer.send(Err(error));
                return;
            }
        }
        let held = Held {
            plane,
            fn_id: self.target.spec.fn_id.clone(),
            key,
            call_id: self.id.clone(),
        };
        let (outcome, result) = self.make(asked, input).await;
        let kept = timeout(KEEP_PATIENCE, held.end(result.clone())).await;
        if let Err(Ok(unheard)) = answer.send(outcome) {
            // It is the function's container that pays for an answer that is dropped.
            let _ = way::drain(unheard.response.into_body()).await;
        }
        if !matches!(kept, Ok(Ok(()))) {
            held.end_at_last(result).await;
        }
    }

    /// Makes the call; returns the client's answer and what is kept of it.
    async fn make(
        &self,
        mut asked: Asked,
        input: Bytes,
    ) -> (Result<Outcome, ApiError>, Option<CallResult>) {
        let mut recording = self.record(&mut asked);
        let most = self.shared.parts.limits.max_result;
        let made = async {
            let answer = self.run(asked.headers, body::full(input), false).await?;
            let mut rendered = self.way.render(&asked.method, answer).await?;
            if let Some(recording) = &mut recording {
                recording.answered(&rendered.timings, rendered.own_status);
            }
            let (body, kept) = collect(rendered.body, most).await?;
            rendered.body = body;
            Ok((rendered, kept))
        };
        match made.await {
            Ok((rendered, kept)) => {
                let result = result(&rendered, kept);
                let mut outcome = self.outcome(rendered, asked.timings);
                if let Some(recording) = recording {
                    match result.truncated {
                        true => {
                            outcome.response = outcome.response.map(|body| recording.follow(body));
                        }
                        false => recording.succeeded(),
                    }
                }
                (Ok(outcome), Some(result))
            }
            Err(error) => {
                if let Some(recording) = recording {
                    recording.failed(&error);
                }
                (Err(error), None)
            }
        }
    }

    /// Longer than the call can take.
    fn hold(&self) -> Duration {
        let or_long = |limit: Option<Duration>| limit.unwrap_or(MAX_HOLD);
        or_long(self.shared.placement_timeout)
            .saturating_add(self.target.spec.timeout)
            .saturating_add(or_long(self.shared.execution_headroom))
            .min(MAX_HOLD)
    }
}

impl Held {
    async fn end(&self, result: Option<CallResult>) -> Result<(), ApiError> {
        let (fn_id, key) = (self.fn_id.clone(), self.key.clone());
        self.plane
            .end_keyed(fn_id, key, self.call_id.clone(), result)
            .await
    }

    /// Tries again until it succeeds or is refused; the time for which the key is held ends it anyway.
    async fn end_at_last(&self, result: Option<CallResult>) {
        let mut pause = KEEP_PAUSE_MIN;
        loop {
            sleep(pause).await;
            match self.end(result.clone()).await {
                Err(error) if error.code() == ErrorCode::StoreUnavailable => {
                    pause = (pause * 2).min(KEEP_PAUSE_MAX);
                }
                Err(error) => {
                    tracing::warn!(call_id = %self.call_id, ?error, "an answer was not kept");
                    return;
                }
                Ok(()) => return,
            }
        }
    }
}

/// Reads a body up to `most` bytes. Returns a body with the same bytes, and those bytes unless there
/// are more.
async fn collect(mut body: Body, most: usize) -> Result<(Body, Option<Bytes>), ApiError> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await.transpose().map_err(output_error)? {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        read.extend_from_slice(&data);
        if read.len() > most {
            return Ok((content_type::resume(read.freeze(), body), None));
        }
    }
    let read = read.freeze();
    Ok((body::full(read.clone()), Some(read)))
}

/// What is kept of an answer: all of it, or that it was too large.
fn result(rendered: &Rendered, kept: Option<Bytes>) -> CallResult {
    CallResult {
        status: rendered.status.as_u16(),
        headers: kept_headers(&rendered.headers),
        truncated: kept.is_none(),
        body: kept.unwrap_or_default(),
    }
}

/// The answer of a call that was made before.
fn replay(id: CallId, result: CallResult) -> Result<Outcome, ApiError> {
    if result.truncated {
        return Err(ErrorCode::IdempotentAnswerNotKept.into());
    }
    let status = StatusCode::from_u16(result.status).map_err(ApiError::internal)?;
    let mut headers = HeaderMap::new();
    for (name, value) in result.headers.iter() {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_bytes(&value),
        ) {
            headers.append(name, value);
        }
    }
    headers.insert(&IDEMPOTENT_REPLAYED, TRUE);
    let counted = Answer::success(status, &headers);
    let mut response = Response::new(body::full(result.body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(Outcome {
        id,
        response,
        counted,
    })
}
