//! One call: who waits for it, its request for the runner, and its outcome as an answer.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use domain::call::CallOptions;
use domain::{ApiError, Blame, CallId, ErrorCode, Timestamp};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hybrid_client::CallPlane;
use nodekit::body::{self, Body};
use nodekit::error_response;
use nodekit::exchange::{CallRequest, CallResponse, Target};
use nodekit::trace_context;
use tracing::Instrument as _;

use super::options::{self, Waiting};
use super::outcome::Outcome;
use super::way::{Rendered, Way};
use super::{
    Account, FN_CALL_ID, Shared, bare, call_id_value, input, timestamp, timings, trigger,
    unix_millis,
};
use crate::metrics::Answer;
use crate::recorder::{Recording, SyncCall};

/// The most that a detached call's input may hold when the platform keeps no calls: it is read before
/// the client is answered, since the connection is the client's again after the answer.
const DETACHED_BODY_MAX_BYTES: usize = 6 << 20;

/// A call to a target that was found.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) shared: Arc<Shared>,
    pub(super) target: Arc<Target>,
    pub(super) way: Way,
    pub(super) id: CallId,
    /// The client's name for its request, in logs only.
    request_id: Option<Arc<str>>,
    /// The same moment by two clocks.
    created_at: Timestamp,
    arrived: Instant,
}

/// What a client asks for.
pub(super) struct Asked {
    pub(super) method: Method,
    /// The absolute URL, where it is needed.
    pub(super) url: String,
    /// The path that names the function: the source of its trigger.
    pub(super) source: Option<Box<str>>,
    /// What the function sees of the headers.
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// Whether it leaves a record as a call whose client waits.
    pub(super) recorded: bool,
    /// Whether the client wants to know the stages.
    pub(super) timings: bool,
}

/// How a call is made.
enum Mode {
    /// The client waits.
    Sync,
    /// The client waits, and a repetition of its request makes no second call.
    Keyed(Arc<dyn CallPlane>, String),
    /// The call is accepted, and the client told so.
    Durable {
        plane: Arc<dyn CallPlane>,
        options: CallOptions,
        /// It was only a preference, which is to be acknowledged.
        preferred: bool,
    },
    /// The client is answered when the execution starts; nothing is kept.
    Detached,
}

impl Caller {
    /// Names the call.
    pub(super) fn new(
        shared: &Arc<Shared>,
        target: Arc<Target>,
        way: Way,
        request_id: Option<Arc<str>>,
        arrived: Instant,
    ) -> Self {
        let millis = unix_millis();
        Self {
            id: CallId::from(shared.parts.ids.next(millis)),
            shared: Arc::clone(shared),
            target,
            way,
            request_id,
            created_at: timestamp(millis),
            arrived,
        }
    }

    /// Answers a request for the target; `source` is that of its trigger.
    pub(super) async fn answer(
        self,
        source: Option<&str>,
        request: Request<Body>,
        mut account: Account,
    ) -> Response<Body> {
        account.calling = true;
        let (mut parts, body) = request.into_parts();
        let mode = match self.mode(&mut parts) {
            Ok(mode) => mode,
            Err(error) => return self.finish(Err(error), account),
        };
        let kept = !matches!(mode, Mode::Sync | Mode::Detached);
        let recorder = self.shared.parts.recorder.as_ref();
        // Durable calls leave a record of their own.
        let waits = matches!(mode, Mode::Sync | Mode::Keyed(..));
        let recorded = waits && recorder.is_some_and(|it| it.admits(self.arrived));
        let url = match kept || recorded {
            true => trigger::url(&parts),
            false => String::new(),
        };
        let timings = timings::asked(&parts.headers);
        let mut headers = self.way.request_headers(&mut parts);
        trace_context::continue_trace(&mut headers, self.shared.parts.random);
        let asked = Asked {
            method: parts.method,
            url,
            source: source.map(Into::into),
            headers,
            body,
            recorded,
            timings,
        };
        let outcome = match mode {
            Mode::Sync => self.sync(asked).await,
            Mode::Detached => self.detached(asked).await,
            Mode::Durable {
                plane,
                options,
                preferred,
            } => self.enqueue(&*plane, options, preferred, asked).await,
            Mode::Keyed(plane, key) => {
                // The call has a task of its own, which outlives the client.
                account.calling = false;
                self.keyed(plane, key, asked).await
            }
        };
        self.finish(outcome, account)
    }

    /// How the call is made. Takes the headers that say so, but for those that functions have always
    /// seen; options of durable calls are not for functions, whoever waits. A verb that changes nothing needs no key.
    fn mode(&self, parts: &mut Parts) -> Result<Mode, ApiError> {
        let waiting = options::waiting(&parts.headers);
        let plane = self.shared.parts.calls.as_ref();
        if plane.is_some() && waiting == Waiting::Client {
            options::strip(&mut parts.headers);
        }
        Ok(match (plane, waiting) {
            (Some(plane), Waiting::Client) if !parts.method.is_safe() => {
                match options::take_key(&mut parts.headers)? {
                    Some(key) => Mode::Keyed(Arc::clone(plane), key),
                    None => Mode::Sync,
                }
            }
            (Some(plane), Waiting::Nobody | Waiting::PreferablyNobody) => Mode::Durable {
                plane: Arc::clone(plane),
                options: options::take(&mut parts.headers)?,
                preferred: waiting == Waiting::PreferablyNobody,
            },
            (None, Waiting::Nobody) if self.way == Way::Invoke => Mode::Detached,
            _ => Mode::Sync,
        })
    }

    async fn sync(&self, mut asked: Asked) -> Result<Outcome, ApiError> {
        let mut recording = self.record(&mut asked);
        let made = async {
            let body = input::ahead(asked.body).await?;
            let answer = self.run(asked.headers, body, false).await?;
            self.way.render(&asked.method, answer).await
        };
        let rendered = match made.await {
            Ok(rendered) => rendered,
            Err(error) => {
                if let Some(recording) = recording {
                    recording.failed(&error);
                }
                return Err(error);
            }
        };
        if let Some(recording) = &mut recording {
            recording.answered(&rendered.timings, rendered.own_status);
        }
        let mut outcome = self.outcome(rendered, asked.timings);
        if let Some(recording) = recording {
            outcome.response = outcome.response.map(|body| recording.follow(body));
        }
        Ok(outcome)
    }

    async fn detached(&self, asked: Asked) -> Result<Outcome, ApiError> {
        let body = input::whole(asked.body, DETACHED_BODY_MAX_BYTES).await?;
        self.run(asked.headers, body::full(body), true).await?;
        Ok(Outcome {
            id: self.id.clone(),
            response: bare(StatusCode::ACCEPTED),
            counted: Answer::bare(StatusCode::ACCEPTED),
        })
    }

    /// Begins the record of a call whose client waits, if there are records.
    pub(super) fn record(&self, asked: &mut Asked) -> Option<Recording> {
        let recorder = self.shared.parts.recorder.as_ref();
        let recorder = recorder.filter(|_| asked.recorded)?;
        Some(recorder.begin(SyncCall {
            id: self.id.clone(),
            target: Arc::clone(&self.target),
            source: asked.source.take(),
            method: asked.method.clone(),
            url: std::mem::take(&mut asked.url),
            created_at: self.created_at,
            arrived: self.arrived,
            waited: None,
            status: None,
            end: None,
        }))
    }

    /// The answer that the client gets, with the stages if it asks for them.
    pub(super) fn outcome(&self, rendered: Rendered, timings_asked: bool) -> Outcome {
        let mut response = Response::new(rendered.body);
        *response.status_mut() = rendered.status;
        *response.headers_mut() = rendered.headers;
        if timings_asked {
            timings::tell(response.headers_mut(), &rendered.timings);
        }
        if self.shared.parts.runner.tells_wait() {
            timings::tell_wait(response.headers_mut(), &rendered.timings);
        }
        Outcome {
            id: self.id.clone(),
            response,
            counted: rendered.counted,
        }
    }

    pub(super) async fn run(
        &self,
        headers: HeaderMap,
        body: Body,
        detached: bool,
    ) -> Result<CallResponse, ApiError> {
        let spec = &self.target.spec;
        let span = tracing::debug_span!(
            "call",
            call_id = %self.id,
            fn_id = %spec.fn_id,
            app_id = %spec.app_id,
            request_id = self.request_id.as_deref(),
        );
        let patience = match detached {
            true => self.shared.detached_placement_timeout,
            false => self.shared.placement_timeout,
        };
        let call = CallRequest {
            id: self.id.clone(),
            target: Arc::clone(&self.target),
            headers,
            body,
            arrived: self.arrived,
            // A time too far off to be written down is no limit.
            wait_deadline: patience.and_then(|patience| self.arrived.checked_add(patience)),
            detached,
        };
        let answer = self.shared.parts.runner.run(call).instrument(span).await?;
        self.shared
            .parts
            .metrics
            .call_succeeded(self.arrived.elapsed(), &answer.timings);
        Ok(answer)
    }

    /// Counts and logs the outcome, and puts the call's id on the answer.
    fn finish(&self, outcome: Result<Outcome, ApiError>, account: Account) -> Response<Body> {
        let (id, mut response) = match outcome {
            Ok(outcome) => outcome.finish(account),
            Err(error) => {
                self.shared
                    .parts
                    .metrics
                    .call_failed(error.code(), self.arrived.elapsed());
                self.log(&error);
                account.finish(Answer::error(&error));
                let response = error_response::response::<Bytes>(&error).map(body::full);
                (self.id.clone(), response)
            }
        };
        if let Some(id) = call_id_value(&id) {
            // A full map drops what it cannot take, which is the function's doing.
            let _ = response.headers_mut().try_insert(&FN_CALL_ID, id);
        }
        response
    }

    /// One line per failed call. Being busy is no fault and would fill the log when it matters most.
    fn log(&self, error: &ApiError) {
        let is_fault = error.code().blame() == Blame::Service
            && !matches!(
                error.code(),
                ErrorCode::ServerBusy | ErrorCode::ClientCancelled
            );
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    call_id = %self.id,
                    fn_id = %self.target.spec.fn_id,
                    app_id = %self.target.spec.app_id,
                    request_id = self.request_id.as_deref(),
                    code = error.code().name(),
                    %error,
                    detail = error.internal_detail(),
                    "call failed"
                )
            };
        }
        if is_fault { line!(warn) } else { line!(debug) }
    }
}
