//! The front door: answers `/invoke` and `/t`, and hands every other path to a fallback.
//!
//! It resolves the function, names the call, hands it to the runner and turns the outcome into an
//! answer. When a client goes away its request's future is dropped, and with it the call.

mod call;
mod content_type;
mod durable;
mod input;
mod invoke;
mod keyed;
mod options;
mod outcome;
mod route;
mod timings;
mod way;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::call::new_call::DEFAULT_MAX_BODY;
use domain::{ApiError, CallId, ErrorCode, IdSource, Timestamp};
use futures_util::TryFutureExt as _;
use http::header::{ALLOW, LOCATION};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hybrid_client::{CachedControlPlane, CallPlane};
use nodekit::api_metrics::method_label;
use nodekit::body::{self, Body, BodyError};
use nodekit::error_response;
use nodekit::request_id::RequestIds;
use nodekit::trigger_headers as trigger;
use tower::ServiceExt as _;

use self::call::Caller;
use self::route::Route;
use self::way::Way;
use crate::config::LbConfig;
use crate::metrics::{Answer, FrontDoorMetrics};
use crate::recorder::Recorder;
use crate::runner::Runner;

pub use self::keyed::CallTasks;

static FN_CALL_ID: HeaderName = HeaderName::from_static("fn-call-id");

/// What a front door works with.
pub struct FrontDoorParts {
    /// Where functions, apps and triggers are found.
    pub targets: CachedControlPlane,
    /// Where calls are run.
    pub runner: Arc<dyn Runner>,
    /// Where their ids come from.
    pub ids: Arc<IdSource>,
    /// The source of trace and span ids.
    pub random: fn() -> u64,
    /// Names requests in the log, if `FN_RID_HEADER` is set.
    pub request_ids: Option<RequestIds>,
    /// Where calls are counted.
    pub metrics: Arc<FrontDoorMetrics>,
    /// Where durable calls are accepted and idempotency keys are known; without it, detached calls
    /// go to a runner at once, and keys mean nothing.
    pub calls: Option<Arc<dyn CallPlane>>,
    /// Where calls whose clients wait are recorded, if they are.
    pub recorder: Option<Recorder>,
    /// The calls that go on without their clients.
    pub tasks: CallTasks,
    /// How much is kept of calls.
    pub limits: CallLimits,
}

/// How much is kept of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Bytes of input that a durable call, and one with an idempotency key, may have.
    pub max_body: usize,
    /// Bytes of an answer that are kept for an idempotency key.
    pub max_result: usize,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            max_body: DEFAULT_MAX_BODY,
            max_result: 1 << 20,
        }
    }
}

/// The HTTP service of a front door, for [`nodekit::http_server`]. Limits of size and time are the
/// listener's.
///
/// A percent-encoded path is matched after decoding; trigger sources match exactly, with `//`, `.`
/// and `..` as they are (see `route`).
pub struct FrontDoor<F> {
    shared: Arc<Shared>,
    fallback: F,
}

struct Shared {
    parts: FrontDoorParts,
    placement_timeout: Option<Duration>,
    detached_placement_timeout: Option<Duration>,
    execution_headroom: Option<Duration>,
}

impl<F> FrontDoor<F> {
    /// A front door that sends every path but its own to `fallback`.
    pub fn new(parts: FrontDoorParts, config: &LbConfig, fallback: F) -> Self {
        Self {
            shared: Arc::new(Shared {
                parts,
                placement_timeout: config.placement_timeout,
                detached_placement_timeout: config.detached_placement_timeout,
                execution_headroom: config.execution_headroom,
            }),
            fallback,
        }
    }
}

impl<F> fmt::Debug for FrontDoor<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrontDoor")
    }
}

/// The answer to a request, on its way.
pub type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<B, F, R> hyper::service::Service<Request<B>> for FrontDoor<F>
where
    B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    F: tower::Service<Request<Body>, Response = Response<R>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<B>) -> Answering {
        let request = request.map(body::stream);
        let path = route::decode(request.uri().path());
        let own = !matches!(route::route(&path), Route::Elsewhere);
        drop(path);
        if own {
            let shared = Arc::clone(&self.shared);
            return Box::pin(async move { Ok(shared.answer(request).await) });
        }
        let fallback = self.fallback.clone();
        let answering = fallback.oneshot(request);
        Box::pin(answering.map_ok(|response| response.map(body::stream)))
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, mut request: Request<Body>) -> Response<Body> {
        let arrived = Instant::now();
        let request_ids = self.parts.request_ids.as_ref();
        let request_id = request_ids.map(|ids| ids.assign(request.headers_mut(), || self.new_id()));
        let uri = request.uri().clone();
        let path = route::decode(uri.path());
        let method = request.method();
        match route::route(&path) {
            Route::Invoke { fn_id } => {
                let account = self.account(route::INVOKE, method, arrived);
                if method != Method::POST {
                    return account.finish_error(&method_not_allowed(method, &path));
                }
                match self.parts.targets.target_by_fn(fn_id).await {
                    Ok(target) => {
                        Caller::new(&self, target, Way::Invoke, request_id, arrived)
                            .answer(None, request, account)
                            .await
                    }
                    Err(error) => account.finish_error(&error),
                }
            }
            Route::Trigger {
                template,
                app_name,
                source,
            } => {
                let account = self.account(template, method, arrived);
                match self.parts.targets.target_by_trigger(app_name, source).await {
                    Ok(target) => {
                        Caller::new(&self, target, Way::Trigger, request_id, arrived)
                            .answer(Some(source), request, account)
                            .await
                    }
                    Err(error) => account.finish_error(&error),
                }
            }
            Route::Unknown { template, error } => {
                let account = self.account(template, method, arrived);
                account.finish_error(&error.into())
            }
            Route::InvokeSlash => {
                let account = self.account(route::INVOKE, method, arrived);
                match (method, without_slash(&uri)) {
                    (&Method::POST, Some(location)) => account.finish_redirect(location),
                    _ => account.finish_error(&path_not_found(method, &path)),
                }
            }
            // Such a path is the fallback's; see `call`.
            Route::Elsewhere => {
                let account = self.account("/", method, arrived);
                account.finish_error(&path_not_found(method, &path))
            }
        }
    }

    fn account(&self, path: &'static str, method: &Method, arrived: Instant) -> Account {
        let method = method_label(method);
        self.parts.metrics.request(path, method);
        Account {
            metrics: Arc::clone(&self.parts.metrics),
            path,
            method,
            arrived,
            calling: false,
            answered: false,
        }
    }

    fn new_id(&self) -> Arc<str> {
        self.parts.ids.next(unix_millis())
    }
}

/// Counts the answer of one request, or that its client went away before there was one.
struct Account {
    metrics: Arc<FrontDoorMetrics>,
    path: &'static str,
    method: &'static str,
    arrived: Instant,
    /// The function was found, and a call made of the request.
    calling: bool,
    answered: bool,
}

impl Account {
    fn finish(mut self, answer: Answer) {
        self.answered = true;
        self.metrics
            .answer(self.path, self.method, answer, self.arrived.elapsed());
    }

    fn finish_error(self, error: &ApiError) -> Response<Body> {
        let mut response = error_response::response::<Bytes>(error).map(body::full);
        if error.code() == ErrorCode::MethodNotAllowed {
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("POST"));
        }
        self.finish(Answer::error(error));
        response
    }

    fn finish_redirect(self, location: HeaderValue) -> Response<Body> {
        let status = StatusCode::TEMPORARY_REDIRECT;
        let mut response = bare(status);
        response.headers_mut().insert(LOCATION, location);
        self.finish(Answer::bare(status));
        response
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let (code, elapsed) = (ErrorCode::ClientCancelled, self.arrived.elapsed());
        if self.calling {
            self.metrics.call_failed(code, elapsed);
        }
        let answer = Answer::error(&code.into());
        self.metrics.answer(self.path, self.method, answer, elapsed);
    }
}

/// The wall clock. One before 1970 costs the ids their order and nothing else.
fn unix_millis() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// The same as a point in time.
fn timestamp(unix_millis: u64) -> Timestamp {
    Timestamp::from_unix_millis(i64::try_from(unix_millis).unwrap_or(i64::MAX))
}

fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}

/// The value of the header that names the call; ids are made of letters and digits.
fn call_id_value(id: &CallId) -> Option<HeaderValue> {
    HeaderValue::from_str(id.as_str()).ok()
}

fn method_not_allowed(method: &Method, path: &[u8]) -> ApiError {
    let path = String::from_utf8_lossy(path);
    ApiError::with_message(
        ErrorCode::MethodNotAllowed,
        format!("{}: {method} {path}", ErrorCode::MethodNotAllowed.text()),
    )
}

fn path_not_found(method: &Method, path: &[u8]) -> ApiError {
    let path = String::from_utf8_lossy(path);
    ApiError::with_message(
        ErrorCode::PathNotFound,
        format!("{}: {method} {path}", ErrorCode::PathNotFound.text()),
    )
}

/// The request's target without the slash at the end of its path; none if that slash is escaped.
fn without_slash(uri: &http::Uri) -> Option<HeaderValue> {
    let path = uri.path().strip_suffix('/')?;
    let location = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    HeaderValue::try_from(location).ok()
}
