//! A front door on a real loopback listener, over a scripted runner and control plane, and a client.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{
    ApiError, App, AppDraft, AppId, ErrorCode, FnId, Func, FuncDraft, IdSource, Timestamp, Trigger,
    TriggerDraft, TriggerId, TriggerKind,
};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hybrid_client::{CacheSettings, CachedControlPlane, CallPlane, Change, ControlPlane};
use hyper_util::rt::TokioIo;
use lb::config::LbConfig;
use lb::{
    CallLimits, CallTasks, FrontDoor, FrontDoorMetrics, FrontDoorParts, Recorder, RecorderMetrics,
    RecorderTask, Runner,
};
use nodekit::api_metrics::ApiMetrics;
use nodekit::body::{self, Body};
use nodekit::exchange::{CallRequest, CallResponse, CallResult, CallTimings};
use nodekit::http_server::{HttpServer, Limits};
use nodekit::metrics::Metrics;
use nodekit::request_id::RequestIds;
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than anything here takes, so that a test that hangs fails instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the runner does with a call.
pub(crate) type Script = dyn Fn(CallRequest) -> BoxFuture<'static, CallResult> + Send + Sync;

struct ScriptedRunner(Box<Script>);

#[async_trait]
impl Runner for ScriptedRunner {
    async fn run(&self, call: CallRequest) -> CallResult {
        (self.0)(call).await
    }
}

/// App `a` with function `f`, its triggers `/` and `/s`, a trigger `/lost` of a function that is gone,
/// and a function `orphan` without its app.
struct Plane {
    app: Arc<App>,
    fns: HashMap<&'static str, Arc<Func>>,
    triggers: HashMap<&'static str, Arc<Trigger>>,
    changes: broadcast::Sender<Change>,
}

impl Plane {
    fn new() -> Self {
        let now = Timestamp::from_unix_millis(1);
        let app = AppDraft {
            name: "a".into(),
            ..AppDraft::default()
        };
        let func = |id: &'static str, app: &str| {
            let draft = FuncDraft {
                app_id: app.into(),
                name: id.into(),
                image: "x/y:1".into(),
                ..FuncDraft::default()
            };
            let func = Func::create(draft, None, FnId::from(id), now).expect("valid");
            (id, Arc::new(func))
        };
        let trigger = |source: &'static str, func: &str| {
            let draft = TriggerDraft {
                app_id: "app".into(),
                fn_id: func.into(),
                name: "t".into(),
                kind: "http".into(),
                source: source.into(),
                ..TriggerDraft::default()
            };
            let trigger = Trigger::create(draft, TriggerId::from(source), now).expect("valid");
            (source, Arc::new(trigger))
        };
        Self {
            app: Arc::new(App::create(app, AppId::from("app"), now).expect("valid")),
            fns: [func("f", "app"), func("orphan", "gone")].into(),
            triggers: [
                trigger("/", "f"),
                trigger("/s", "f"),
                trigger("/lost", "gone"),
            ]
            .into(),
            changes: broadcast::channel(8).0,
        }
    }
}

#[async_trait]
impl ControlPlane for Plane {
    async fn app_by_name(&self, name: &str) -> Result<Arc<App>, ApiError> {
        let found = (self.app.name == name).then(|| self.app.clone());
        found.ok_or(ErrorCode::AppNotFound.into())
    }

    async fn app(&self, id: &AppId) -> Result<Arc<App>, ApiError> {
        let found = (self.app.id == *id).then(|| self.app.clone());
        found.ok_or(ErrorCode::AppNotFound.into())
    }

    async fn func(&self, id: &FnId) -> Result<Arc<Func>, ApiError> {
        let found = self.fns.get(id.as_str()).cloned();
        found.ok_or(ErrorCode::FnNotFound.into())
    }

    async fn trigger_by_source(
        &self,
        _app: &AppId,
        _kind: TriggerKind,
        source: &str,
    ) -> Result<Arc<Trigger>, ApiError> {
        let found = self.triggers.get(source).cloned();
        found.ok_or(ErrorCode::TriggerNotFound.into())
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

/// A running front door.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    metrics: Metrics,
    /// The calls that go on without their clients.
    pub(crate) tasks: CallTasks,
    /// Sends the records, if there are some.
    pub(crate) recorder: Option<RecorderTask>,
    _stop: DropGuard,
}

/// What a front door is made with, beside its runner.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) config: LbConfig,
    /// How much is kept of calls.
    pub(crate) kept: CallLimits,
    /// Where durable calls, keys and records go.
    pub(crate) calls: Option<Arc<dyn CallPlane>>,
}

/// Numbers that are not random, so that a test can name them.
fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

impl Node {
    /// A node whose calls are run by `script`.
    pub(crate) async fn start<F>(script: F) -> Self
    where
        F: Fn(CallRequest) -> BoxFuture<'static, CallResult> + Send + Sync + 'static,
    {
        Self::start_with(Limits::default(), script).await
    }

    pub(crate) async fn start_with<F>(limits: Limits, script: F) -> Self
    where
        F: Fn(CallRequest) -> BoxFuture<'static, CallResult> + Send + Sync + 'static,
    {
        let setup = Setup {
            limits,
            ..Setup::default()
        };
        Self::set_up(setup, script).await
    }

    pub(crate) async fn set_up<F>(setup: Setup, script: F) -> Self
    where
        F: Fn(CallRequest) -> BoxFuture<'static, CallResult> + Send + Sync + 'static,
    {
        let mut metrics = Metrics::new();
        let api = ApiMetrics::new(&mut metrics);
        let tasks = CallTasks::default();
        let recorder_metrics = RecorderMetrics::new(&mut metrics);
        let (recorder, task) = match &setup.calls {
            Some(plane) if setup.config.record_sync_calls => {
                let (recorder, task) = Recorder::start(Arc::clone(plane), None, recorder_metrics);
                (Some(recorder), Some(task))
            }
            _ => (None, None),
        };
        let parts = FrontDoorParts {
            targets: CachedControlPlane::new(Arc::new(Plane::new()), CacheSettings::default()),
            runner: Arc::new(ScriptedRunner(Box::new(script))),
            ids: Arc::new(IdSource::new(1)),
            random: next_number,
            request_ids: RequestIds::new("x-rid").expect("a name"),
            metrics: Arc::new(FrontDoorMetrics::new(&mut metrics, api)),
            calls: setup.calls,
            recorder,
            tasks: tasks.clone(),
            limits: setup.kept,
        };
        let fallback = tower::service_fn(|request: Request<Body>| async move {
            let text = format!("fallback {} {}", request.method(), request.uri());
            Ok(Response::new(body::full(text)))
        });
        let door = FrontDoor::new(parts, &setup.config, fallback);
        let any_port = "127.0.0.1:0".parse().expect("an address");
        let server = HttpServer::bind(any_port, setup.limits)
            .await
            .expect("a free port");
        let stop = CancellationToken::new();
        let address = server.local_addr();
        let _stop = stop.clone().drop_guard();
        // It ends with the guard, or with the test's runtime.
        tokio::spawn(server.serve(door, stop));
        Self {
            address,
            metrics,
            tasks,
            recorder: task,
            _stop,
        }
    }

    /// A node that answers each call with these headers and this body, and shows each call.
    pub(crate) async fn answering(
        headers: &[(&'static str, &'static str)],
        body: &'static str,
    ) -> (Self, Calls) {
        let headers = header_map(headers);
        let calls = Calls::default();
        let seen = calls.clone();
        let node = Self::start(move |call| {
            let (headers, seen) = (headers.clone(), seen.clone());
            Box::pin(async move {
                seen.take_in(call).await?;
                Ok(answer(headers, body::full(body)))
            })
        });
        (node.await, calls)
    }

    /// The rendered metrics.
    pub(crate) fn metrics(&self) -> String {
        self.metrics.render()
    }

    /// Waits until the metrics contain `line`.
    pub(crate) async fn wait_for_metric(&self, line: &str) {
        let there = async {
            while !self.metrics().contains(line) {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, there).await;
        assert!(in_time.is_ok(), "{line} is missing in {}", self.metrics());
    }

    /// Sends one request over a connection of its own.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = tokio::time::timeout(PATIENCE, self.open(request))
            .await
            .expect("an answer in time");
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect())
            .await
            .expect("a whole answer in time");
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: body.expect("a whole answer").to_bytes(),
        }
    }

    /// Sends one request and returns as soon as the head of the answer is there.
    pub(crate) async fn open(&self, mut request: Request<Body>) -> Response<hyper::body::Incoming> {
        if !request.headers().contains_key("host") {
            let host = self.address.to_string().parse().expect("a header value");
            request.headers_mut().insert("host", host);
        }
        let stream = TcpStream::connect(self.address).await.expect("a listener");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("a connection");
        // It ends when the answer is read or dropped.
        tokio::spawn(connection);
        sender.send_request(request).await.expect("an answer")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, &[], "")).await
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Answer {
        self.send(request(Method::POST, path, headers, body)).await
    }
}

pub(crate) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body::full(body)).expect("a request")
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Checks that this is the platform's JSON error.
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, message: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(
            self.headers["content-type"],
            "application/json; charset=utf-8"
        );
        let body: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        assert_eq!(body, serde_json::json!({ "message": message }));
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).expect("the header");
        value.to_str().expect("ASCII")
    }
}

/// What the runner was asked to do.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<Seen>>>);

/// A call with its whole input.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) detached: bool,
    pub(crate) patience: Option<Duration>,
}

impl Calls {
    /// Reads the call's input to its end, as a function does.
    pub(crate) async fn take_in(&self, call: CallRequest) -> Result<(), ApiError> {
        let collected = call.body.collect().await;
        let body = collected.map_err(|error| nodekit::http_server::body_error_code(&*error))?;
        self.0.lock().expect("not poisoned").push(Seen {
            id: call.id.to_string(),
            headers: call.headers,
            body: body.to_bytes(),
            detached: call.detached,
            patience: call.wait_deadline.map(|deadline| deadline - call.arrived),
        });
        Ok(())
    }

    /// The only call since the last look.
    #[track_caller]
    pub(crate) fn only(&self) -> Seen {
        let mut calls = self.0.lock().expect("not poisoned");
        assert_eq!(calls.len(), 1);
        calls.remove(0)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().expect("not poisoned").len()
    }
}

pub(crate) fn header_map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, value.parse().expect("a header value"));
    }
    headers
}

pub(crate) fn answer(headers: HeaderMap, body: Body) -> CallResponse {
    CallResponse {
        headers,
        body,
        timings: CallTimings {
            scheduling: Duration::from_millis(1),
            execution: Duration::from_millis(2),
            ..CallTimings::default()
        },
    }
}

/// The names of the headers, sorted.
pub(crate) fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    names
}
