//! The life of one container: resources, image, creation, socket, then idle and busy in turns until
//! it breaks, idles out, is evicted or the runner stops (spec/04 4.5, 4.6).

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::{ApiError, ContainerState, ErrorCode};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::function::Function;
use super::slot::{ColdStart, HotContainer, HotSlot};
use super::slot_queue::{Offered, Slot as _, WaiterId};
use super::state::StateTracker;
use super::{Shared, launcher};
use crate::driver::{ContainerSpec, Exit};
use crate::metrics::UdsOutcome;
use crate::resources::pool::Token;
use crate::stream::{Link, SocketDir};

/// A freeze delay of zero means this: a container is looked at in turns, not at the end of a call.
const MIN_FREEZE_DELAY: Duration = Duration::from_millis(5);

/// Why a container ended.
#[derive(Debug)]
enum End {
    Exited(Exit),
    Broken,
    IdleTimeout,
    Evicted,
    FreezeFailed,
}

/// Runs one container from its launch to its removal, on behalf of the waiting call `waiter`.
pub(super) async fn run(shared: Arc<Shared>, function: Arc<Function>, waiter: WaiterId) {
    let mut state = StateTracker::new(function.metrics.clone());
    let token = match launcher::acquire_resources(&shared, &function).await {
        Ok(token) => token,
        Err(error) => {
            function.launch_failed();
            function.queue.fail(waiter, error);
            return;
        }
    };
    state.enter(ContainerState::Start);
    let started = tokio::select! {
        started = start(&shared, &function, token) => started,
        () = shared.stopping.cancelled() => Err(ErrorCode::ServerBusy.into()),
    };
    match started {
        Ok(started) => {
            let cold_start = started.cold_start;
            function.launched(cold_start.create + cold_start.init);
            supervise(&shared, &function, started, state).await;
        }
        Err(error) => {
            let spec = &function.target.spec;
            info!(fn_id = %spec.fn_id, app_id = %spec.app_id, image = %spec.image, error = ?error, "container did not start");
            function.launch_failed();
            function.queue.fail(waiter, error);
        }
    }
}

/// A container whose socket is open, with all that must be given back after it.
struct Started {
    container: Arc<HotContainer>,
    link: Link,
    cold_start: ColdStart,
    // Dropped in this order: the directory goes after the container, the resources at the very end.
    directory: SocketDir,
    token: Token,
}

async fn start(shared: &Shared, function: &Function, token: Token) -> Result<Started, ApiError> {
    let spec = &function.target.spec;
    let settings = &shared.settings;
    let name = shared.new_id();
    let mut directory = SocketDir::create(&shared.socket_dirs)?;

    let pull_started = Instant::now();
    let deadline = settings.hot_pull_timeout.map_or_else(far_future, |limit| pull_started + limit);
    shared.driver.prepare_image(spec, deadline).await?;
    let image_pull = pull_started.elapsed();

    let create_started = Instant::now();
    let mut env = spec.env.clone();
    env.insert("FN_FORMAT".to_owned(), "http-stream".to_owned());
    env.insert("FN_LISTENER".to_owned(), directory.listener_env().to_owned());
    let engine = {
        // Creating and starting is hard work for the engine; many at once slow every one of them.
        let _permit = shared.start_permits.acquire().await;
        let container = ContainerSpec {
            name: name.to_string(),
            call_id: domain::CallId::from(&*name),
            function: Arc::new(spec.clone()),
            env,
            socket_mount: directory.mount(),
            network_disabled: false,
        };
        let engine = shared.driver.create(container).await?;
        match engine.start().await {
            Ok(()) => engine,
            Err(error) => {
                engine.remove().await;
                return Err(error);
            }
        }
    };
    let create = create_started.elapsed();

    let init_started = Instant::now();
    let ready = tokio::select! {
        ready = directory.ready(settings.max_header_bytes) => ready,
        exit = engine.wait() => Err(exited_before_init(&function.target.spec, exit)),
        () = expire(settings.hot_start_timeout) => Err(ErrorCode::ContainerInitTimeout.into()),
    };
    let init = init_started.elapsed();
    function.metrics.uds_init(init, init_outcome(&ready));
    let link = match ready {
        Ok(link) => link,
        Err(error) => {
            engine.remove().await;
            directory.remove().await;
            return Err(error);
        }
    };
    let container = HotContainer {
        number: function.next_container(),
        engine,
        broken: CancellationToken::new(),
        thawed: Notify::new(),
        registration: shared.evictor.register(function.target.slot_key, token.resources()),
    };
    let cold_start = ColdStart { image_pull, create, init };
    debug!(fn_id = %spec.fn_id, container_id = container.engine.id(), ?cold_start, "container is up");
    Ok(Started { container: Arc::new(container), link, cold_start, directory, token })
}

fn init_outcome<T>(ready: &Result<T, ApiError>) -> UdsOutcome {
    match ready {
        Ok(_) => UdsOutcome::Initialized,
        Err(error) if error.code() == ErrorCode::ContainerInitTimeout => UdsOutcome::TimedOut,
        Err(_) => UdsOutcome::Canceled,
    }
}

fn exited_before_init(spec: &domain::FnSpec, exit: Exit) -> ApiError {
    info!(fn_id = %spec.fn_id, image = %spec.image, exit_code = exit.code, out_of_memory = exit.out_of_memory, "container ended before it listened");
    ApiError::from(ErrorCode::ContainerInitFailed).detail(format_args!("exit code {}", exit.code))
}

fn far_future() -> Instant {
    Instant::now() + Duration::from_secs(365 * 24 * 3600)
}

async fn expire(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

async fn supervise(shared: &Shared, function: &Arc<Function>, started: Started, mut state: StateTracker) {
    let Started { container, link, cold_start, directory, token } = started;
    state.enter(ContainerState::Idle);
    let slot = HotSlot::new(Arc::clone(&container), link, cold_start, state);
    if function.queue.offer(slot) != Offered::Refused {
        let end = idle_and_busy(shared, function, &container).await;
        let spec = &function.target.spec;
        debug!(fn_id = %spec.fn_id, container_id = container.engine.id(), ?end, "container ends");
        if let End::Exited(Exit { out_of_memory: true, .. }) = end {
            warn!(fn_id = %spec.fn_id, app_id = %spec.app_id, memory_mb = spec.memory_mb, "container ran out of memory");
        }
        drop(function.queue.take_back(container.number, |_| true));
    }
    function.gone();
    container.engine.remove().await;
    directory.remove().await;
    drop(token);
    // The registration goes last: whoever waits for an eviction finds the room really free.
    drop(container);
}

/// Watches a container until it has to go. It does not follow single calls: a container in use is
/// looked at again after the freeze delay.
async fn idle_and_busy(shared: &Shared, function: &Function, container: &HotContainer) -> End {
    let idle_timeout = function.target.spec.idle_timeout;
    let freeze_idle = shared.settings.freeze_idle.map(|delay| delay.max(MIN_FREEZE_DELAY));
    let exited = container.engine.wait();
    let evicted = container.registration.evicted();
    tokio::pin!(exited, evicted);
    let mut look_at = Instant::now() + freeze_idle.unwrap_or(idle_timeout);
    loop {
        tokio::select! {
            exit = &mut exited => return End::Exited(exit),
            () = container.broken.cancelled() => return End::Broken,
            () = &mut evicted => return End::Evicted,
            () = container.thawed.notified() => {}
            () = tokio::time::sleep_until(look_at.into()) => {}
        }
        let now = Instant::now();
        let idle_since = function.queue.idle_since(container.number);
        let idle = idle_since.map(|since| now.saturating_duration_since(since));
        let untouched = |slot: &HotSlot| Some(slot.last_used()) == idle_since;
        look_at = match (idle, freeze_idle) {
            (Some(idle), _) if idle >= idle_timeout => {
                if function.queue.take_back(container.number, untouched).is_some() {
                    return End::IdleTimeout;
                }
                now
            }
            (Some(idle), Some(delay)) if idle >= delay => {
                let warm = |slot: &HotSlot| untouched(slot) && slot.state.state() == ContainerState::Idle;
                if let Some(mut slot) = function.queue.take_back(container.number, warm) {
                    if let Err(error) = slot.freeze().await {
                        warn!(container_id = container.engine.id(), ?error, "container could not be frozen");
                        return End::FreezeFailed;
                    }
                    function.queue.offer(slot);
                }
                now + (idle_timeout - idle)
            }
            (Some(idle), Some(delay)) => now + (delay - idle),
            (Some(idle), None) => now + (idle_timeout - idle),
            (None, _) => now + freeze_idle.unwrap_or(idle_timeout),
        };
    }
}
