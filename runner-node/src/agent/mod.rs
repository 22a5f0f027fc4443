//! The agent: takes calls, keeps the containers of each function hot, and runs the calls in them
//! (spec/04).
//!
//! A call takes an idle slot of its function, or waits in the function's queue while the launcher
//! decides whether another container is worth it. With the slot it has the container for itself
//! until its answer has been read to the end; then the slot goes to the next call.

mod account;
mod container;
mod ending;
mod feed;
mod fenced;
mod function;
mod launch_policy;
mod launcher;
mod mark;
mod refusal;
mod settings;
mod slot;
mod slot_queue;
mod state;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use domain::call::LeaseRef;
use domain::{ApiError, CallId, ErrorCode, IdSource, SlotKey, Timestamp};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use nodekit::body::{self, Body, BodyError};
use nodekit::exchange::{CallRequest, CallResponse, CallResult, CallTimings, Target};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use self::account::CallAccount;
use self::feed::Feed;
use self::function::Function;
use self::refusal::Refusal;
use self::slot::{ColdStart, HotSlot};
use self::slot_queue::{Acquired, Class};
use crate::call_log::CallLogs;
use crate::driver::Driver;
use crate::evictor::Evictor;
use crate::metrics::RunnerMetrics;
use crate::resources::Resources;
use crate::resources::pool::Pool;
use crate::stream::{
    Answer, Call, Cause, DispatchError, Dispatcher, Link, Outcome, Report, SocketDirConfig,
};

pub use self::feed::{FunctionView, NodeView, Update, Watcher};
pub(crate) use self::fenced::Witness;
pub use self::settings::Settings;

/// How often unused functions are looked for.
const RETIRE_INTERVAL: Duration = Duration::from_secs(60);
/// Functions are found under one of this many locks, so that they do not share one.
const SHARDS: usize = 64;

/// The agent. Clones share it.
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
}

/// What the agent is made of.
pub struct Parts {
    /// Its settings.
    pub settings: Settings,
    /// Where the sockets of functions are.
    pub socket_dirs: SocketDirConfig,
    /// The container engine.
    pub driver: Arc<dyn Driver>,
    /// Memory and CPU of this node.
    pub pool: Pool,
    /// Names containers.
    pub ids: Arc<IdSource>,
    /// Where the agent reports to.
    pub metrics: RunnerMetrics,
    /// Where what functions print goes to; none keeps nothing of it.
    pub logs: Option<CallLogs>,
}

struct Shared {
    settings: Settings,
    socket_dirs: SocketDirConfig,
    driver: Arc<dyn Driver>,
    pool: Pool,
    evictor: Evictor,
    ids: Arc<IdSource>,
    metrics: RunnerMetrics,
    logs: Option<CallLogs>,
    functions: [RwLock<HashMap<SlotKey, Arc<Function>>>; SHARDS],
    /// Functions whose containers get no network.
    isolated: RwLock<HashSet<SlotKey>>,
    feed: Feed,
    start_permits: Semaphore,
    dispatcher: Dispatcher,
    /// Calls that are accepted and not yet over.
    calls: TaskTracker,
    /// Containers, watchers of queues and the search for unused functions.
    tasks: TaskTracker,
    /// No new calls, and those that wait are refused.
    closing: CancellationToken,
    /// Everything ends now.
    stopping: CancellationToken,
}

impl Shared {
    fn new_id(&self) -> Arc<str> {
        self.ids.next(unix_millis())
    }

    fn shard(&self, key: &SlotKey) -> &RwLock<HashMap<SlotKey, Arc<Function>>> {
        &self.functions[usize::from(key.as_bytes()[0]) % SHARDS]
    }

    fn function(&self, target: &Arc<Target>) -> Arc<Function> {
        let shard = self.shard(&target.slot_key);
        if let Some(function) = shard
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&target.slot_key)
        {
            return Arc::clone(function);
        }
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        let function = shard.entry(target.slot_key).or_insert_with(|| {
            let metrics = self.metrics.owner(&target.spec);
            Arc::new(Function::new(
                Arc::clone(target),
                self.settings.processors,
                metrics,
                self.feed.mark(target.slot_key),
            ))
        });
        Arc::clone(function)
    }

    fn known_function(&self, key: &SlotKey) -> Option<Arc<Function>> {
        let shard = self.shard(key).read();
        let shard = shard.unwrap_or_else(PoisonError::into_inner);
        shard.get(key).map(Arc::clone)
    }

    fn has_no_network(&self, key: &SlotKey) -> bool {
        let isolated = self.isolated.read();
        isolated
            .unwrap_or_else(PoisonError::into_inner)
            .contains(key)
    }

    /// Forgets functions that were not used for long (spec/04 4.4).
    fn retire_functions(&self) {
        let Some(launcher_timeout) = self.settings.hot_launcher_timeout else {
            return;
        };
        for shard in &self.functions {
            shard
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|_, function| {
                    let keep = launcher_timeout.max(2 * function.target.spec.idle_timeout);
                    !function.retire(keep)
                });
        }
    }
}

fn unix_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

impl Agent {
    /// Starts an agent. [`Agent::close`] ends it.
    pub fn start(parts: Parts) -> Self {
        let calls = TaskTracker::new();
        let shared = Arc::new(Shared {
            dispatcher: Dispatcher::new(parts.settings.limits, calls.clone()),
            start_permits: Semaphore::new(parts.settings.processors.max(2)),
            settings: parts.settings,
            socket_dirs: parts.socket_dirs,
            driver: parts.driver,
            pool: parts.pool,
            evictor: Evictor::new(),
            ids: parts.ids,
            metrics: parts.metrics,
            logs: parts.logs,
            functions: std::array::from_fn(|_| RwLock::default()),
            isolated: RwLock::default(),
            feed: Feed::default(),
            calls,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            stopping: CancellationToken::new(),
        });
        let retiring = Arc::clone(&shared);
        shared.tasks.spawn(async move {
            let mut interval = tokio::time::interval(RETIRE_INTERVAL);
            while retiring
                .stopping
                .run_until_cancelled(interval.tick())
                .await
                .is_some()
            {
                retiring.retire_functions();
            }
        });
        shared.tasks.spawn(feed::publish(Arc::clone(&shared)));
        Self { shared }
    }

    /// Runs one call (spec/04 4.2). Dropping the future, or the answer's body before its end, cancels
    /// the call; a detached call goes on once it was answered.
    ///
    /// # Errors
    /// Those of spec/01 1.10.
    pub async fn submit(&self, call: CallRequest) -> CallResult {
        if call.detached {
            self.submit_detached(call).await
        } else {
            self.submit_sync(call).await
        }
    }

    async fn submit_sync(&self, call: CallRequest) -> CallResult {
        self.submit_watched(call, &mut None).await
    }

    async fn submit_detached(&self, call: CallRequest) -> CallResult {
        let detached = self.submit_detached_watched(call).await?;
        Ok(CallResponse {
            headers: HeaderMap::new(),
            body: body::empty(),
            timings: detached.started.timings,
        })
    }

    /// Like [`Agent::submit`] for a call that is not detached, and notes in `started` when its
    /// execution started: known also when the call fails then.
    ///
    /// # Errors
    /// Those of spec/01 1.10.
    pub async fn submit_watched(
        &self,
        call: CallRequest,
        started: &mut Option<Started>,
    ) -> CallResult {
        let account = CallAccount::new(&self.shared.metrics, self.shared.calls.token());
        let (prepared, account) = self.prepare(Wish::of(&call), account).await?;
        *started = Some(prepared.started());
        self.run(prepared, call, account, started).await
    }

    /// Starts a detached call, which goes on by itself, and whose end can be waited for.
    ///
    /// # Errors
    /// Those of spec/01 1.10, as long as its execution has not started.
    pub async fn submit_detached_watched(&self, call: CallRequest) -> Result<Detached, ApiError> {
        let account = CallAccount::new(&self.shared.metrics, self.shared.calls.token());
        let (prepared, account) = self.prepare(Wish::of(&call), account).await?;
        let started = prepared.started();
        let (told, end) = oneshot::channel();
        let agent = self.clone();
        self.shared.calls.spawn(async move {
            let id = call.id.clone();
            let ran = agent.run(prepared, call, account, &mut None).await;
            let ended = match ran {
                Ok(response) => discard(response.body).await,
                Err(error) => Err(error),
            };
            if let Err(error) = &ended {
                info!(call_id = %id, ?error, "detached call failed");
            }
            // Nobody has to wait for it.
            let _ = told.send(ended);
        });
        Ok(Detached { started, end })
    }

    async fn prepare(
        &self,
        wish: Wish<'_>,
        account: CallAccount,
    ) -> Result<(Prepared, CallAccount), Refusal> {
        match self.find_container(wish).await {
            Ok(prepared) => Ok((prepared, account.started())),
            Err(refusal) => {
                account.failed(&refusal.error);
                Err(refusal)
            }
        }
    }

    /// Finds a container for a call and wakes it.
    async fn find_container(&self, call: Wish<'_>) -> Result<Prepared, Refusal> {
        let shared = &self.shared;
        if shared.closing.is_cancelled() {
            return Err(ErrorCode::ServerBusy.into());
        }
        if !shared.pool.possible(Resources::of(&call.target.spec)) {
            return Err(ErrorCode::ResourcesImpossible.into());
        }
        loop {
            let function = shared.function(call.target);
            let mut slot = match function.queue.acquire(call.class()) {
                Acquired::Slot(slot) => slot,
                Acquired::Wait(ticket) => {
                    launcher::call_waits(shared, &function);
                    tokio::select! {
                        slot = ticket => slot.map_err(|refusal| refusal.belongs_to(self.log_of(call)))?,
                        () = until(call.wait_deadline) => return Err(ErrorCode::ServerBusy.into()),
                        () = shared.closing.cancelled() => return Err(ErrorCode::ServerBusy.into()),
                    }
                }
                // Retired in this instant: the next look makes it anew.
                Acquired::Closed if !shared.stopping.is_cancelled() => continue,
                Acquired::Closed => return Err(ErrorCode::ServerBusy.into()),
            };
            let cold_start = slot.cold_start.take();
            let woken = tokio::select! {
                biased;
                woken = slot.wake() => woken,
                () = until(call.wait_deadline) => return Err(ErrorCode::ServerBusy.into()),
                () = shared.stopping.cancelled() => return Err(ErrorCode::ServerBusy.into()),
            };
            let link = match woken {
                Ok(link) => link,
                Err(error) => {
                    // Nothing was sent: another container may run the call.
                    warn!(call_id = %call.id, fn_id = %call.target.spec.fn_id, container_id = slot.container.engine.id(), ?error, "container did not wake up");
                    continue;
                }
            };
            let started = cold_start.unwrap_or_default();
            let timings = CallTimings {
                scheduling: call.arrived.elapsed(),
                image_pull: started.image_pull,
                container_create: started.create,
                container_init: started.init,
                execution: Duration::ZERO,
            };
            return Ok(Prepared {
                function,
                slot,
                link,
                cold_start,
                timings,
            });
        }
    }

    /// The log of a call; none if it is not kept.
    fn log_of(&self, call: Wish<'_>) -> Option<LeaseRef> {
        let sync = || self.shared.logs.as_ref()?.sync_call(call.id);
        call.lease.cloned().or_else(sync)
    }

    /// Executes a call. If its container has died while it was idle, the call has not been seen by
    /// anybody, and looks for another container within the time that it may wait.
    async fn run(
        &self,
        mut prepared: Prepared,
        mut call: CallRequest,
        mut account: CallAccount,
        started: &mut Option<Started>,
    ) -> CallResult {
        let shared = &self.shared;
        let session = shared.calls.token();
        loop {
            let log = self.log_of(Wish::of(&call));
            if let Some(response) = self.execute(prepared, &mut call, log, account).await? {
                return Ok(response);
            }
            let again = CallAccount::again(&shared.metrics, session.clone());
            (prepared, account) = self.prepare(Wish::of(&call), again).await?;
            *started = Some(prepared.started());
        }
    }

    /// Executes a call in its container; nothing if it could not be sent and should be tried in
    /// another one. A function that cannot be reached for its very first call is at fault itself.
    async fn execute(
        &self,
        prepared: Prepared,
        call: &mut CallRequest,
        log: Option<LeaseRef>,
        account: CallAccount,
    ) -> Result<Option<CallResponse>, ApiError> {
        let Prepared {
            function,
            mut slot,
            link,
            cold_start,
            mut timings,
        } = prepared;
        let fresh = cold_start.is_some();
        let started = Instant::now();
        let timeout = call.target.spec.timeout;
        let message = Call {
            id: call.id.clone(),
            headers: std::mem::take(&mut call.headers),
            body: std::mem::replace(&mut call.body, body::empty()),
            deadline: started + timeout,
            deadline_at: Timestamp::from_unix_millis(
                i64::try_from(unix_millis())
                    .unwrap_or(i64::MAX)
                    .saturating_add(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX)),
            ),
        };
        let container = slot.container.number;
        // The wait for an image says nothing about the calls to come.
        let waited = timings.scheduling.saturating_sub(timings.image_pull);
        function.call_started(container, waited);
        if let Some(container_log) = &slot.container.log {
            container_log.begin(log);
        }
        let done = move |report: Report| {
            if let Some(container_log) = &slot.container.log {
                container_log.end(Instant::now());
            }
            let seen = report.failed != Some(ErrorCode::ClientCancelled);
            function.call_ended(
                container,
                seen && matches!(report.outcome, Outcome::Reusable(_)),
            );
            match report.outcome {
                Outcome::Broken(Cause::Unreachable) if !fresh => account.not_sent(),
                _ => account.ended(&report),
            }
            match report.outcome {
                Outcome::Reusable(link) => {
                    slot.rest(link);
                    if !slot.container.registration.yields() {
                        function.queue.offer(slot);
                    }
                }
                Outcome::Broken(cause) => {
                    debug!(
                        container_id = slot.container.engine.id(),
                        cause = cause.as_str(),
                        "container is discarded"
                    );
                    if cause == Cause::ConnectionLost {
                        slot.hung_up();
                    }
                }
            }
        };
        match self.shared.dispatcher.dispatch(link, message, done).await {
            Ok(Answer { headers, body }) => {
                timings.execution = started.elapsed();
                Ok(Some(CallResponse {
                    headers,
                    body,
                    timings,
                }))
            }
            Err(DispatchError::NotSent { call: unsent, .. }) if !fresh => {
                (call.headers, call.body) = (unsent.headers, unsent.body);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes no more calls, and refuses those that still wait; running ones go on.
    pub fn drain(&self) {
        self.shared.closing.cancel();
        self.shared.calls.close();
    }

    /// Waits until no call runs. Only after [`Agent::drain`].
    pub async fn drained(&self) {
        self.shared.calls.wait().await;
    }

    /// Ends the agent: running calls are cut off, containers are removed, the driver is closed.
    pub async fn close(&self) {
        self.drain();
        self.shared.stopping.cancel();
        for shard in &self.shared.functions {
            let functions =
                std::mem::take(&mut *shard.write().unwrap_or_else(PoisonError::into_inner));
            for function in functions.into_values() {
                function.queue.close();
            }
        }
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.driver.close().await;
    }

    /// The functions of this runner without looking at the feed.
    #[cfg(test)]
    pub(crate) fn views(&self) -> Vec<(SlotKey, FunctionView)> {
        self.shared.peek()
    }

    /// Runs something that [`Agent::drained`] waits for.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.shared.calls.spawn(work);
    }

    /// Cancelled when the agent takes no more calls.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.shared.closing.clone()
    }

    /// Where what functions print goes to.
    pub(crate) fn logs(&self) -> Option<&CallLogs> {
        self.shared.logs.as_ref()
    }

    /// Memory and CPU of this node.
    pub(crate) fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    /// The containers of this node that could make room.
    pub(crate) fn evictor(&self) -> &Evictor {
        &self.shared.evictor
    }

    /// Names a call that the runner makes by itself.
    pub(crate) fn new_call_id(&self) -> CallId {
        CallId::from(self.shared.new_id())
    }

    /// Containers of this function get no network from now on.
    pub fn disable_network(&self, key: SlotKey) {
        let isolated = self.shared.isolated.write();
        isolated.unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    /// Follows the state of this runner: at most one update in `min_interval`, at least one in
    /// `heartbeat`.
    pub fn watch(&self, min_interval: Duration, heartbeat: Duration) -> Watcher {
        Watcher::new(&self.shared, min_interval, heartbeat)
    }

    /// Brings the metrics of held memory and CPU up to date.
    pub fn measure(&self) {
        self.shared
            .metrics
            .utilisation(&self.shared.pool.utilisation());
    }

    /// Whether the engine answers and the agent takes calls; for readiness.
    ///
    /// # Errors
    /// `ServerBusy` while it is being closed, or the driver's error.
    pub async fn ready(&self) -> Result<(), ApiError> {
        if self.shared.closing.is_cancelled() {
            return Err(ErrorCode::ServerBusy.into());
        }
        self.shared.driver.ping().await
    }
}

/// What a call wants, apart from its body, which cannot be shared between threads.
#[derive(Clone, Copy)]
struct Wish<'a> {
    /// Of a call that no client waits for.
    lease: Option<&'a LeaseRef>,
    id: &'a CallId,
    target: &'a Arc<Target>,
    arrived: Instant,
    wait_deadline: Option<Instant>,
}

impl<'a> Wish<'a> {
    fn of(call: &'a CallRequest) -> Self {
        Self {
            lease: None,
            id: &call.id,
            target: &call.target,
            arrived: call.arrived,
            wait_deadline: call.wait_deadline,
        }
    }

    fn class(&self) -> Class {
        match self.lease {
            None => Class::Foreground,
            Some(_) => Class::Background,
        }
    }
}

/// A call with its container.
struct Prepared {
    function: Arc<Function>,
    slot: HotSlot,
    link: Link,
    /// What the container's start took, if this is its first call.
    cold_start: Option<ColdStart>,
    timings: CallTimings,
}

impl Prepared {
    fn started(&self) -> Started {
        Started {
            at: Instant::now(),
            prepare: self.cold_start.unwrap_or_default().prepare,
            timings: self.timings,
        }
    }
}

/// The start of a call's execution.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    /// When it was.
    pub at: Instant,
    /// Making what the call's new container needs on this machine.
    pub prepare: Duration,
    /// The stages before it.
    pub timings: CallTimings,
}

/// A detached call that is being executed.
#[derive(Debug)]
pub struct Detached {
    /// When its execution started.
    pub started: Started,
    /// How it ended; dropped unsent only with the whole process.
    pub end: oneshot::Receiver<Result<(), ApiError>>,
}

/// Reads an output that nobody wants to its end, so that the function can write it.
async fn discard(mut output: Body) -> Result<(), ApiError> {
    while let Some(frame) = output.frame().await {
        frame.map_err(output_error)?;
    }
    Ok(())
}

/// Why the output of a function broke: as its body says it, or a break that nobody explained.
pub(crate) fn output_error(error: BodyError) -> ApiError {
    match error.downcast::<ApiError>() {
        Ok(error) => *error,
        Err(error) => ApiError::from(ErrorCode::FunctionResponseError).detail(error),
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
pub(crate) mod tests;
