//! What runs in a fake container: a real HTTP server on the real socket. Its start follows the
//! function's environment, and each call says what is to be done with it.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nodekit::body::{self, Body};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::driver::contract::directory;
use crate::driver::fake::FakeProcess;
use crate::driver::{ContainerSpec, Exit, Output};

/// What the functions of one test share.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// The calls that functions have received, and their containers, in order.
    pub(crate) seen: watch::Sender<Vec<(String, String)>>,
    /// The calls that may go on.
    open: watch::Sender<Open>,
    /// What must never be.
    pub(crate) violations: Mutex<Vec<String>>,
    /// The containers that have come up, by name.
    containers: Mutex<BTreeMap<String, Arc<Container>>>,
    /// Starts of containers that wait for [`World::let_start`].
    start: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Open {
    calls: HashSet<String>,
    all: bool,
}

impl World {
    /// Lets the call `id` go on.
    pub(crate) fn release(&self, id: &str) {
        self.open.send_modify(|open| {
            open.calls.insert(id.to_owned());
        });
    }

    /// Lets all calls go on, now and later.
    pub(crate) fn release_all(&self) {
        self.open.send_modify(|open| open.all = true);
    }

    /// Lets containers start.
    pub(crate) fn let_start(&self) {
        self.start.send_replace(true);
    }

    /// Ends the process of a container.
    pub(crate) fn kill(&self, name: &str) {
        self.container(name).exit.cancel();
    }

    /// Closes the socket and all connections of a container, whose process goes on.
    pub(crate) async fn deafen(&self, name: &str) {
        let container = self.container(name);
        container.deaf.cancel();
        container.deafened.cancelled().await;
    }

    fn container(&self, name: &str) -> Arc<Container> {
        let containers = self.containers.lock().expect("no panic");
        Arc::clone(containers.get(name).expect("it has come up"))
    }

    /// Waits for [`World::let_start`].
    pub(crate) async fn may_start(&self) {
        let mut start = self.start.subscribe();
        let started = start.wait_for(|start| *start).await;
        drop(started.expect("the world goes on"));
    }

    async fn released(&self, id: &str) {
        let mut open = self.open.subscribe();
        let open = open
            .wait_for(|open| open.all || open.calls.contains(id))
            .await;
        drop(open.expect("the world goes on"));
    }

    /// The containers that have received calls, by call.
    pub(crate) fn container_of(&self, id: &str) -> String {
        let seen = self.seen.borrow();
        let found = seen.iter().find(|(call, _)| call == id);
        found.expect("the call was seen").1.clone()
    }
}

/// One container.
#[derive(Debug)]
struct Container {
    name: String,
    world: Arc<World>,
    busy: AtomicBool,
    output: Option<Arc<dyn Output>>,
    /// Ends the process.
    exit: CancellationToken,
    /// Closes the socket and all connections, and lets the process stand.
    deaf: CancellationToken,
    /// They are closed.
    deafened: CancellationToken,
}

const FAILURE: Exit = Exit {
    code: 1,
    out_of_memory: false,
};

/// The process of a container.
pub(crate) async fn run(process: FakeProcess, world: Arc<World>) -> Exit {
    let spec = process.spec;
    if let (Some(output), Some(text)) = (&spec.output, spec.env.get("PRINT")) {
        output.printed(text.clone().into(), Instant::now());
    }
    match start_of(&spec) {
        "exit" => return FAILURE,
        "hang" => return std::future::pending().await,
        "wait" => {
            world.may_start().await;
        }
        // By its name: one of them exits, one never listens.
        "moody" => match spec.name.bytes().last() {
            Some(b'0'..=b'9') => return FAILURE,
            Some(b'A'..=b'F') => return std::future::pending().await,
            _ => {}
        },
        "slow" => tokio::time::sleep(Duration::from_millis(20)).await,
        _ => {}
    }
    let container = Arc::new(Container {
        name: spec.name.clone(),
        world,
        busy: AtomicBool::new(false),
        output: spec.output.clone(),
        exit: CancellationToken::new(),
        deaf: CancellationToken::new(),
        deafened: CancellationToken::new(),
    });
    container
        .world
        .containers
        .lock()
        .expect("no panic")
        .insert(spec.name.clone(), Arc::clone(&container));
    let listener = listen(&directory(&spec));
    if start_of(&spec) == "deaf" {
        let _ = listener.accept().await;
        drop(listener);
        return std::future::pending().await;
    }
    let serving = container
        .deaf
        .run_until_cancelled(serve(listener, &container));
    tokio::select! {
        _closed = serving => container.deafened.cancel(),
        () = container.exit.cancelled() => return FAILURE,
    }
    std::future::pending().await
}

fn start_of(spec: &ContainerSpec) -> &str {
    spec.env.get("START").map_or("", String::as_str)
}

/// As a function kit does it: the name appears when the socket is ready.
fn listen(directory: &Path) -> UnixListener {
    let listener = UnixListener::bind(directory.join("phony.sock")).expect("bound");
    std::os::unix::fs::symlink("phony.sock", directory.join("lsnr.sock")).expect("linked");
    listener
}

async fn serve(listener: UnixListener, container: &Arc<Container>) {
    // Aborted with the process.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("accepted");
        let container = Arc::clone(container);
        connections.spawn(async move {
            let service = service_fn(move |request| call(Arc::clone(&container), request));
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // The agent may close it at any time.
            let _ = served.await;
        });
    }
}

/// A container runs one call at a time.
struct Busy(Arc<Container>);

impl Busy {
    fn begin(container: &Arc<Container>, id: &str) -> Self {
        if container.busy.swap(true, Ordering::SeqCst) {
            let violation = format!("{} got {id} during another call", container.name);
            container
                .world
                .violations
                .lock()
                .expect("no panic")
                .push(violation);
        }
        Self(Arc::clone(container))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::SeqCst);
    }
}

async fn call(
    container: Arc<Container>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let header = |name: &str| {
        let value = request.headers().get(name);
        value.map_or(String::new(), |value| {
            value.to_str().expect("text").to_owned()
        })
    };
    let (id, what) = (header("fn-call-id"), header("do"));
    let busy = Busy::begin(&container, &id);
    let printed = header("print");
    if let Some(output) = container.output.as_ref().filter(|_| !printed.is_empty()) {
        output.printed(printed.into(), Instant::now());
    }
    container
        .world
        .seen
        .send_modify(|seen| seen.push((id.clone(), container.name.clone())));
    match what.as_str() {
        // It answers first, and throws its input away as it comes.
        "early" => {
            tokio::spawn(request.into_body().collect());
            return Ok(Response::new(body::full("early")));
        }
        "vanish" => {
            container.exit.cancel();
            return std::future::pending().await;
        }
        _ => {}
    }
    let input = request
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let mut response = Response::new(body::full(input));
    response
        .headers_mut()
        .insert("container", container.name.parse().expect("a header"));
    match what.as_str() {
        "wait" => container.world.released(&id).await,
        "nap" => tokio::time::sleep(Duration::from_millis(3)).await,
        "crash" => {
            container.exit.cancel();
            return std::future::pending().await;
        }
        "hang" => return std::future::pending().await,
        "fail" => *response.status_mut() = StatusCode::BAD_GATEWAY,
        "invalid" => *response.status_mut() = StatusCode::IM_A_TEAPOT,
        "stream" => {
            // It flows until it is let go on, so that the agent cannot collect it.
            let headers = response.headers_mut();
            headers.insert(
                "content-type",
                "text/event-stream".parse().expect("a header"),
            );
            *response.body_mut() = stream(container, id, busy);
            return Ok(response);
        }
        // It may end before its answer is out, or afterwards.
        "die" => container.exit.cancel(),
        _ => {}
    }
    drop(busy);
    Ok(response)
}

/// A piece, then nothing until the call is let go on, then the rest.
fn stream(container: Arc<Container>, id: String, busy: Busy) -> Body {
    let pieces = futures_util::stream::unfold((0, busy), move |(piece, busy)| {
        let (container, id) = (Arc::clone(&container), id.clone());
        async move {
            let data = match piece {
                0 => "head,",
                1 => {
                    container.world.released(&id).await;
                    "tail"
                }
                _ => return None,
            };
            let frame = Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(data)));
            Some((frame, (piece + 1, busy)))
        }
    });
    body::stream(http_body_util::StreamBody::new(pieces))
}
