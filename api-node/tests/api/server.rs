//! A served API, a client for it, and the things that tests start from.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api_node::calls::{Calls, CallsMetrics, CallsParts, CallsSettings};
use api_node::logs::{self, LogParts};
use api_node::queue::{EmbeddedQueue, QueueMetrics};
use api_node::rest::{self, ApiSettings, ApiState, FrontDoor};
use api_node::store::{self, OpenOptions, Store};
use bytes::Bytes;
use domain::{Change, IdSource};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use nodekit::admin_routes::AdminRoutes;
use nodekit::api_metrics::ApiMetrics;
use nodekit::http_server::{self, HttpServer, Limits};
use nodekit::metrics::Metrics;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::broadcast;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// No request of a test takes longer.
const DEADLINE: Duration = Duration::from_secs(30);

/// An API on a port of its own, with a database of its own.
pub(crate) struct Api {
    /// `host:port`.
    pub(crate) address: String,
    /// The database's file.
    pub(crate) database: String,
    /// What the node's readiness is set to.
    pub(crate) ready: Arc<AtomicBool>,
    client: Client<HttpConnector, Full<Bytes>>,
    changes: Mutex<broadcast::Receiver<Change>>,
    calls: Option<Calls>,
    document: Value,
    _stop: DropGuard,
    _directory: TempDir,
}

/// What a request was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_with(ApiSettings::default(), Limits::default()).await
    }

    pub(crate) async fn start_with(settings: ApiSettings, limits: Limits) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let database = directory.path().join("fn.db").display().to_string();
        let url = format!("sqlite3://{database}");
        Self::open((settings, limits), directory, database, &url, None).await
    }

    /// An API that keeps calls, in the database at `url` or else in one of its own.
    pub(crate) async fn keeping_calls(url: Option<&str>, calls: CallsSettings) -> Self {
        let settings = ApiSettings {
            max_call_body: calls.max_body,
            ..ApiSettings::default()
        };
        let directory = tempfile::tempdir().expect("a directory");
        let database = directory.path().join("fn.db").display().to_string();
        let own = format!("sqlite3://{database}");
        let (url, limits) = (url.unwrap_or(&own), Limits::default());
        Self::open((settings, limits), directory, database, url, Some(calls)).await
    }

    async fn open(
        (settings, limits): (ApiSettings, Limits),
        directory: TempDir,
        database: String,
        url: &str,
        calls: Option<CallsSettings>,
    ) -> Self {
        let stop = CancellationToken::new();
        let options = OpenOptions {
            ping_max_retries: 1,
            ids: Arc::new(IdSource::new(7)),
            clock: store::wall_clock(),
            cancel: stop.clone(),
        };
        let store = store::open(url, options).await.expect("a store");
        let mut metrics = Metrics::new();
        let api_metrics = ApiMetrics::new(&mut metrics);
        let changes = Mutex::new(store.changes());
        let calls = match calls {
            None => None,
            Some(settings) => {
                let parts: Arc<dyn LogParts> = Arc::<dyn Store>::clone(&store);
                Some(Calls::start(CallsParts {
                    store: Arc::clone(&store),
                    queue: Arc::new(EmbeddedQueue::new(QueueMetrics::new(&mut metrics))),
                    logs: logs::open("", parts).await.expect("a store of logs"),
                    ids: Arc::new(IdSource::new(9)),
                    settings,
                    metrics: CallsMetrics::new(&mut metrics),
                }))
            }
        };
        let ready = Arc::new(AtomicBool::new(true));
        let is_ready = Arc::clone(&ready);
        let router = rest::router(ApiState {
            store,
            settings: Arc::new(settings),
            ids: Arc::new(IdSource::new(8)),
            metrics: api_metrics,
            admin: AdminRoutes::new(Arc::new(metrics), move || is_ready.load(Ordering::Relaxed)),
            calls: calls.clone(),
            stop: stop.clone(),
        });
        let listener = HttpServer::bind(([127, 0, 0, 1], 0).into(), limits)
            .await
            .expect("a port");
        let address = listener.local_addr().to_string();
        tokio::spawn(listener.serve(http_server::tower(router), stop.clone()));
        Self {
            address,
            database,
            ready,
            client: Client::builder(TokioExecutor::new()).build_http(),
            changes,
            calls,
            document: serde_json::to_value(rest::document(FrontDoor::Elsewhere))
                .expect("a document"),
            _stop: stop.drop_guard(),
            _directory: directory,
        }
    }

    /// Sends a request with headers and a raw body. Whatever the answer, its status must be one that
    /// the document promises.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let uri: Uri = format!("http://{}{path}", self.address)
            .parse()
            .expect("a URI");
        let mut request = Request::builder().method(&method).uri(uri.clone());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let answer = timeout(DEADLINE, async {
            let (head, body) = self
                .client
                .request(request)
                .await
                .expect("an answer")
                .into_parts();
            let body = body.collect().await.expect("a whole answer").to_bytes();
            Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                text: String::from_utf8(body.to_vec()).expect("UTF-8"),
            }
        })
        .await
        .expect("an answer in time");
        self.check_documented(&method, uri.path(), &answer);
        answer
    }

    /// The service of calls of an API that keeps some.
    pub(crate) fn calls(&self) -> &Calls {
        self.calls.as_ref().expect("it keeps calls")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[], body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, &[], body.to_string()).await
    }

    /// Creates an app; answers its id.
    pub(crate) async fn app(&self, name: &str) -> String {
        self.post("/v2/apps", &json!({"name": name})).await.id()
    }

    /// Creates a function; answers its id.
    pub(crate) async fn func(&self, app: &str, name: &str) -> String {
        let draft = json!({"app_id": app, "name": name, "image": "x/y:1"});
        self.post("/v2/fns", &draft).await.id()
    }

    /// Creates a trigger; answers its id.
    pub(crate) async fn trigger(&self, app: &str, func: &str, name: &str, source: &str) -> String {
        let draft =
            json!({"app_id": app, "fn_id": func, "name": name, "type": "http", "source": source});
        self.post("/v2/triggers", &draft).await.id()
    }

    /// What was told of since the last time.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| changes.try_recv().ok()).collect()
    }

    #[track_caller]
    fn check_documented(&self, method: &Method, path: &str, answer: &Answer) {
        let method = method.as_str().to_lowercase();
        let paths = self.document["paths"].as_object().expect("paths");
        let operation = paths
            .iter()
            // A path of words wins over one with an id in it.
            .filter(|(template, _)| fits(template, path))
            .min_by_key(|(template, _)| template.matches('{').count())
            .and_then(|(_, item)| item.get(&method));
        if let Some(operation) = operation {
            let status = answer.status.to_string();
            assert!(
                ["default", &status]
                    .iter()
                    .any(|status| operation["responses"].get(status).is_some()),
                "{method} {path}: {status} is undocumented"
            );
        }
    }
}

/// Whether a path fits a template of the document, whose `{source}` may hold slashes.
fn fits(template: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for expected in template.split('/') {
        match segments.next() {
            Some(_) if expected == "{source}" => return true,
            Some(segment)
                if segment == expected || (expected.starts_with('{') && !segment.is_empty()) => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

impl Answer {
    /// The body of a success.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        assert_eq!(
            self.headers["content-type"],
            "application/json; charset=utf-8"
        );
        serde_json::from_str(&self.text).expect("JSON")
    }

    /// The id of what was created.
    #[track_caller]
    pub(crate) fn id(&self) -> String {
        self.json()["id"].as_str().expect("an id").to_owned()
    }

    /// Checks an error: status, message, and its exact form.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, message: &str) {
        let body = format!("{}\n", json!({ "message": message }));
        assert_eq!((self.status, self.text.as_str()), (status, body.as_str()));
        assert_eq!(
            self.headers["content-type"],
            "application/json; charset=utf-8"
        );
    }

    /// Checks a deletion.
    #[track_caller]
    pub(crate) fn deleted(&self) {
        assert_eq!((self.status, self.text.as_str()), (204, ""));
    }
}

/// The names of the items of a list.
#[track_caller]
pub(crate) fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| item["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// The object `base` with the fields of `over` on top.
pub(crate) fn with(base: &Value, over: &Value) -> Value {
    let mut merged = base.as_object().expect("an object").clone();
    merged.extend(over.as_object().expect("an object").clone());
    merged.into()
}
