//! The life of one container: resources, image, creation, socket, then idle and busy in turns until
//! it breaks, idles out, is evicted or the runner stops (spec/04 4.5, 4.6).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domain::{ApiError, ContainerState, ErrorCode};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::ending::{Ending, LAST_WORDS};
use super::function::Function;
use super::launcher::NoResources;
use super::refusal::Refusal;
use super::slot::{ColdStart, HotContainer, HotSlot};
use super::slot_queue::{Offered, Slot as _, WaiterId};
use super::state::StateTracker;
use super::{Shared, launcher};
use crate::call_log::{CallLogs, ContainerLog};
use crate::driver::{Container, ContainerSpec, Exit, Output};
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
    Stopped,
}

/// Runs one container from its launch to its removal, on behalf of the waiting call `waiter`.
pub(super) async fn run(shared: Arc<Shared>, function: Arc<Function>, waiter: WaiterId) {
    let mut state = StateTracker::new(function.metrics.clone());
    let token = match launcher::acquire_resources(&shared, &function).await {
        Ok(token) => token,
        Err(NoResources::Refused(error)) => {
            return give_up(&shared, &function, waiter, error.into());
        }
        // Whoever watches the waiting calls launches again, behind the others.
        Err(NoResources::LeftToOthers) => {
            function.launch_failed();
            return function.queue.launch_over(waiter);
        }
    };
    state.enter(ContainerState::Start);
    // Boxed: what a start needs must not stay with the container for its whole life.
    match Box::pin(start(&shared, &function, token)).await {
        Ok(started) => {
            let cold_start = started.cold_start;
            function.launched(cold_start.create + cold_start.init);
            supervise(&shared, &function, waiter, started, state).await;
        }
        Err(refusal) => {
            let spec = &function.target.spec;
            info!(fn_id = %spec.fn_id, app_id = %spec.app_id, image = %spec.image, error = ?refusal.error, "container did not start");
            give_up(&shared, &function, waiter, refusal);
        }
    }
}

/// The launch came to nothing. The call that caused it hears why, and gets
/// what was printed; others that wait get another. An
/// image that cannot be had is one for all of them: they would wait for it in turns.
fn give_up(shared: &Arc<Shared>, function: &Arc<Function>, waiter: WaiterId, refusal: Refusal) {
    function.launch_failed();
    let for_all = matches!(
        refusal.error.code(),
        ErrorCode::ImagePullTimeout | ErrorCode::ImagePullFailed | ErrorCode::ImageHasVolume
    );
    if for_all && !function.has_containers() {
        function.queue.fail_all(&refusal.error);
    } else {
        function.queue.fail(waiter, refusal);
    }
    launcher::launch(shared, function);
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

/// Starts a container. When that fails, everything is gone before the resources are given back.
async fn start(shared: &Shared, function: &Function, token: Token) -> Result<Started, Refusal> {
    let began = Instant::now();
    let mut directory = SocketDir::create(&shared.socket_dirs)?;
    let prepare = began.elapsed();
    let log = shared.logs.as_ref().map(CallLogs::container);
    let up = come_up(shared, function, &mut directory, log.clone()).await;
    let (engine, link, mut cold_start) = match up {
        Ok(up) => up,
        Err(error) => {
            directory.remove().await;
            return Err(Refusal { error, log });
        }
    };
    cold_start.prepare = prepare;
    let container = HotContainer {
        number: function.next_container(),
        engine,
        broken: CancellationToken::new(),
        hung_up: AtomicBool::new(false),
        thawed: Notify::new(),
        ending: Ending::default(),
        log,
        registration: shared
            .evictor
            .register(function.target.slot_key, token.resources()),
    };
    debug!(fn_id = %function.target.spec.fn_id, container_id = container.engine.id(), ?cold_start, "container is up");
    Ok(Started {
        container: Arc::new(container),
        link,
        cold_start,
        directory,
        token,
    })
}

/// Image, creation, start and open socket. When that fails, no container is left.
async fn come_up(
    shared: &Shared,
    function: &Function,
    directory: &mut SocketDir,
    log: Option<Arc<ContainerLog>>,
) -> Result<(Box<dyn Container>, Link, ColdStart), ApiError> {
    let spec = &function.target.spec;
    let settings = &shared.settings;
    let pull_started = Instant::now();
    let deadline = settings
        .hot_pull_timeout
        .map_or_else(far_future, |limit| pull_started + limit);
    unless_stopping(shared, shared.driver.prepare_image(spec, deadline)).await?;
    let image_pull = pull_started.elapsed();

    let create_started = Instant::now();
    let name = shared.new_id();
    let mut env = spec.env.clone();
    env.insert("FN_FORMAT".to_owned(), "http-stream".to_owned());
    env.insert(
        "FN_LISTENER".to_owned(),
        directory.listener_env().to_owned(),
    );
    let container = ContainerSpec {
        name: name.to_string(),
        call_id: domain::CallId::from(&*name),
        function: Arc::clone(spec),
        env,
        socket_mount: directory.mount(),
        network_disabled: shared.has_no_network(&function.target.slot_key),
        output: log.map(|log| log as Arc<dyn Output>),
    };
    let creating = async {
        // Creating and starting is hard work for the engine; many at once slow every one of them.
        let permit = shared.start_permits.acquire().await;
        Ok((shared.driver.create(container).await?, permit))
    };
    let (engine, permit) = unless_stopping(shared, creating).await?;
    let starting = async {
        engine.start().await?;
        drop(permit);
        let create = create_started.elapsed();

        let init_started = Instant::now();
        let ready = tokio::select! {
            ready = directory.ready(settings.max_header_bytes) => ready,
            exit = engine.wait() => Err(exited_before_init(spec, exit)),
            () = expire(settings.hot_start_timeout) => Err(ErrorCode::ContainerInitTimeout.into()),
        };
        let init = init_started.elapsed();
        function.metrics.uds_init(init, init_outcome(&ready));
        Ok((
            ready?,
            ColdStart {
                prepare: Duration::ZERO,
                image_pull,
                create,
                init,
            },
        ))
    };
    match unless_stopping(shared, starting).await {
        Ok((link, cold_start)) => Ok((engine, link, cold_start)),
        Err(error) => {
            engine.remove().await;
            Err(error)
        }
    }
}

async fn unless_stopping<T>(
    shared: &Shared,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    shared
        .stopping
        .run_until_cancelled(work)
        .await
        .unwrap_or_else(|| Err(ErrorCode::ServerBusy.into()))
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

async fn supervise(
    shared: &Arc<Shared>,
    function: &Arc<Function>,
    waiter: WaiterId,
    started: Started,
    mut state: StateTracker,
) {
    let Started {
        container,
        link,
        cold_start,
        directory,
        token,
    } = started;
    state.enter(ContainerState::Idle);
    let slot = HotSlot::new(Arc::clone(&container), link, cold_start, state);
    let offered = function.queue.offer(slot);
    // An older call may have got it: then another container may be started for this one.
    function.queue.launch_over(waiter);
    let mut end = End::Stopped;
    if offered != Offered::Refused {
        end = idle_and_busy(shared, function, &container).await;
        // In this order: a call that ends now finds the container unusable, or its slot is found here.
        container.broken.cancel();
        drop(function.queue.take_back(container.number, |_| true));
    }
    function.gone();
    // Calls that wait may have counted on it.
    launcher::launch(shared, function);
    if matches!(end, End::Broken) && container.hung_up.load(Ordering::Acquire) {
        let exit = tokio::time::timeout(LAST_WORDS, container.engine.wait());
        if let Some(Ok(exit)) = shared.stopping.run_until_cancelled(exit).await {
            end = End::Exited(exit);
        }
    }
    container.ending.tell(match end {
        End::Exited(exit) => Some(exit),
        _ => None,
    });
    let spec = &function.target.spec;
    debug!(fn_id = %spec.fn_id, container_id = container.engine.id(), ?end, "container ends");
    if let End::Exited(Exit {
        out_of_memory: true,
        ..
    }) = end
    {
        warn!(fn_id = %spec.fn_id, app_id = %spec.app_id, memory_mb = spec.memory_mb, "container ran out of memory");
    }
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
    let freeze_idle = shared
        .settings
        .freeze_idle
        .map(|delay| delay.max(MIN_FREEZE_DELAY));
    let first_look = freeze_idle.map_or(idle_timeout, |delay| delay.min(idle_timeout));
    let exited = container.engine.wait();
    let evicted = container.registration.evicted();
    tokio::pin!(exited, evicted);
    let mut look_at = Instant::now() + first_look;
    // Since when the container was idle when it was frozen.
    let mut frozen_since = None;
    loop {
        tokio::select! {
            exit = &mut exited => return End::Exited(exit),
            () = container.broken.cancelled() => return End::Broken,
            () = &mut evicted => return End::Evicted,
            () = shared.stopping.cancelled() => return End::Stopped,
            () = container.thawed.notified() => {}
            () = tokio::time::sleep_until(look_at.into()) => {}
        }
        let now = Instant::now();
        let Some(since) = function.queue.idle_since(container.number) else {
            look_at = now + first_look;
            continue;
        };
        let idle = now.saturating_duration_since(since);
        let untouched = |slot: &HotSlot| slot.last_used() == since;
        let freeze_after = freeze_idle.filter(|_| frozen_since != Some(since));
        if idle >= idle_timeout {
            if function
                .queue
                .take_back(container.number, untouched)
                .is_some()
            {
                return End::IdleTimeout;
            }
            look_at = now;
        } else if freeze_after.is_some_and(|delay| idle >= delay) {
            // It makes room for others while it is being frozen, too.
            if let Some(mut slot) = function.queue.take_aside(container.number, untouched) {
                if let Err(error) = slot.freeze().await {
                    warn!(
                        container_id = container.engine.id(),
                        ?error,
                        "container could not be frozen"
                    );
                    return End::FreezeFailed;
                }
                if !slot.claim() {
                    return End::Evicted;
                }
                frozen_since = Some(since);
                function.queue.offer(slot);
            }
            look_at = now;
        } else {
            look_at = since + freeze_after.map_or(idle_timeout, |delay| delay.min(idle_timeout));
        }
    }
}
