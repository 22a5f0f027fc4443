//! The agent as a whole, over a driver without an engine whose containers are real HTTP servers on
//! real sockets.

mod calls;
mod eviction;
pub(crate) mod function;
mod idle;
mod launches;
mod random;
mod shutdown;

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::{CallId, ErrorCode, FnSpec, IdSource};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use nodekit::body::{self, Body};
use nodekit::exchange::{CallRequest, CallResponse, CallResult, Target};
use nodekit::metrics::Metrics;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::function::World;
use super::{Agent, Parts, Settings};
use crate::call_log::{self, CallLogs, LogMetrics};
use crate::driver::contract::{eventually, function_spec};
use crate::driver::fake::{FakeDriver, FakeState, Script, Step};
use crate::metrics::RunnerMetrics;
use crate::resources::{MIB, Pool, Resources};
use crate::stream::{Limits, SocketDirConfig};

/// Every wait of a test that should end ends long before this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// What a container of the tests holds.
pub(crate) const MEMORY_MB: u64 = 64;
/// A time that no test reaches.
pub(crate) const NEVER: Duration = Duration::from_secs(600);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("the test waits in vain")
}

/// An agent with everything that it needs.
pub(crate) struct Bench {
    pub(crate) agent: Agent,
    pub(crate) driver: FakeDriver,
    pub(crate) world: Arc<World>,
    pool: Pool,
    pub(crate) metrics: RunnerMetrics,
    registry: Metrics,
    base: TempDir,
}

/// Times that no test reaches; each test sets the one that it is about.
pub(crate) fn settings() -> Settings {
    Settings {
        freeze_idle: None,
        hot_poll: Duration::from_millis(20),
        hot_launcher_timeout: Some(NEVER),
        hot_pull_timeout: Some(NEVER),
        hot_start_timeout: Some(NEVER),
        limits: Limits::default(),
        max_header_bytes: Limits::MAX_HEADER_BYTES,
        non_blocking_resources: false,
        processors: 2,
    }
}

impl Bench {
    /// With room for `containers`.
    pub(crate) fn new(containers: u64) -> Self {
        Self::with(containers, settings())
    }

    pub(crate) fn with(containers: u64, settings: Settings) -> Self {
        let base = tempfile::tempdir().expect("a directory");
        let world = Arc::<World>::default();
        let driver = FakeDriver::new(script(&world));
        let mut registry = Metrics::new();
        let metrics = RunnerMetrics::new(&mut registry);
        let pool = Pool::new(Resources {
            memory_bytes: containers * MEMORY_MB * MIB,
            cpu_millis: 1000,
        });
        let log_settings = call_log::Settings {
            max_bytes: 1000,
            sync_calls: true,
        };
        let logs = CallLogs::new(log_settings, LogMetrics::new(&mut registry));
        let agent = Agent::start(Parts {
            settings,
            socket_dirs: SocketDirConfig {
                path: Some(base.path().to_owned()),
                ..SocketDirConfig::default()
            },
            driver: Arc::new(driver.clone()),
            pool: pool.clone(),
            ids: Arc::new(IdSource::new(rand::random())),
            metrics: metrics.clone(),
            logs: Some(logs),
        });
        Self {
            agent,
            driver,
            world,
            pool,
            metrics,
            registry,
            base,
        }
    }

    /// Follows another script, whose containers still are HTTP servers.
    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        let mut script = script(&self.world);
        change(&mut script);
        self.driver.set_script(script);
    }

    /// Starts a call, which does `what`.
    pub(crate) fn start(
        &self,
        target: &Arc<Target>,
        id: &str,
        what: &str,
    ) -> JoinHandle<CallResult> {
        let agent = self.agent.clone();
        let call = call(target, id, what);
        tokio::spawn(async move { agent.submit(call).await })
    }

    /// Starts a call, and waits until its function has received it.
    async fn running(&self, target: &Arc<Target>, id: &str, what: &str) -> JoinHandle<CallResult> {
        let handle = self.start(target, id, what);
        self.seen(id).await;
        handle
    }

    /// Starts a call, and waits until it is the nth that waits.
    async fn waiting(
        &self,
        target: &Arc<Target>,
        id: &str,
        what: &str,
        nth: usize,
    ) -> JoinHandle<CallResult> {
        let handle = self.start(target, id, what);
        let function = self.agent.shared.function(target);
        eventually("a waiting call", async || function.queue.waiting() == nth).await;
        handle
    }

    pub(crate) async fn seen(&self, id: &str) {
        let mut seen = self.world.seen.subscribe();
        let seen = soon(seen.wait_for(|seen| seen.iter().any(|(call, _)| call == id)))
            .await
            .map(drop);
        seen.expect("the world goes on");
    }

    /// Waits until functions have received a hundred calls more.
    async fn seen_more(&self) {
        let mut seen = self.world.seen.subscribe();
        let until = seen.borrow().len() + 100;
        let more = soon(seen.wait_for(|seen| seen.len() >= until)).await;
        more.map(drop).expect("the world goes on");
    }

    /// A whole call; its container and its output.
    pub(crate) async fn call(&self, target: &Arc<Target>, id: &str) -> (String, String) {
        answer(
            soon(self.agent.submit(call(target, id, "echo")))
                .await
                .expect("an answer"),
        )
        .await
    }

    async fn error(&self, target: &Arc<Target>, id: &str, what: &str) -> ErrorCode {
        soon(self.agent.submit(call(target, id, what)))
            .await
            .expect_err("an error")
            .code()
    }

    async fn until(&self, condition: impl Fn(&FakeState) -> bool) -> FakeState {
        soon(self.driver.until(condition)).await
    }

    /// The sum of a metric over all its labels.
    fn metric(&self, name: &str) -> i64 {
        let text = self.registry.render();
        let lines = text
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines
            .map(|line| {
                line.rsplit(' ')
                    .next()
                    .expect("a value")
                    .parse::<i64>()
                    .expect("a number")
            })
            .sum()
    }

    /// Ends the agent, and sees to it that nothing is left.
    pub(crate) async fn end(self) {
        self.world.release_all();
        self.agent.drain();
        soon(self.agent.drained()).await;
        self.close().await;
    }

    pub(crate) async fn close(self) {
        soon(self.agent.close()).await;
        let state = self.driver.state();
        assert!(state.containers.is_empty(), "{state:?}");
        assert_eq!(state.created, state.removed, "{state:?}");
        let left = std::fs::read_dir(self.base.path())
            .expect("a directory")
            .count();
        assert_eq!(left, 0, "socket directories");
        assert!(
            self.pool.utilisation().used.is_zero(),
            "{:?}",
            self.pool.utilisation()
        );
        eventually("all calls are over", async || {
            self.metrics.running.get() == 0
        })
        .await;
        assert_eq!(self.metrics.queued.get(), 0);
        for state in ["wait", "start", "idle", "paused", "busy"] {
            assert_eq!(
                self.metric(&format!("fn_container_{state}_total")),
                0,
                "{state}"
            );
        }
        let violations = self.world.violations.lock().expect("no panic");
        assert!(violations.is_empty(), "{violations:?}");
    }
}

fn script(world: &Arc<World>) -> Script {
    let world = Arc::clone(world);
    Script {
        run: Arc::new(move |process| Box::pin(function::run(process, Arc::clone(&world)))),
        ..Script::default()
    }
}

pub(crate) fn spec(name: &str) -> FnSpec {
    FnSpec {
        fn_id: name.into(),
        memory_mb: MEMORY_MB,
        idle_timeout: NEVER,
        ..function_spec("image")
    }
}

/// A function whose containers start at once.
pub(crate) fn function(name: &str) -> Arc<Target> {
    Target::new(spec(name))
}

/// A function whose containers start in a certain way.
fn starting(name: &str, how: &str) -> Arc<Target> {
    Target::new(FnSpec {
        env: [("START".to_owned(), how.to_owned())].into(),
        ..spec(name)
    })
}

pub(crate) fn call(target: &Arc<Target>, id: &str, what: &str) -> CallRequest {
    let mut headers = HeaderMap::new();
    headers.insert("do", what.parse().expect("a header"));
    CallRequest {
        id: CallId::from(id),
        target: Arc::clone(target),
        headers,
        body: body::full(format!("input of {id}")),
        arrived: Instant::now(),
        wait_deadline: Some(Instant::now() + PATIENCE),
        detached: false,
    }
}

async fn text(body: Body) -> String {
    let bytes = soon(body.collect()).await.expect("a whole body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The container and the output of an answer.
async fn answer(response: CallResponse) -> (String, String) {
    let container = response.headers["container"]
        .to_str()
        .expect("text")
        .to_owned();
    (container, text(response.body).await)
}

async fn answered(handle: JoinHandle<CallResult>) -> (String, String) {
    answer(soon(handle).await.expect("no panic").expect("an answer")).await
}

async fn refused(handle: JoinHandle<CallResult>) -> ErrorCode {
    soon(handle)
        .await
        .expect("no panic")
        .expect_err("an error")
        .code()
}
