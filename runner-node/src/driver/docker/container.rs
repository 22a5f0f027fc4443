//! One container of the engine, from its creation to its removal.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::query_parameters::StartContainerOptions;
use domain::{ApiError, ErrorCode};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::error::EngineError;
use super::exits::ExitCell;
use super::image::cleaner::ImageUse;
use super::network::NetworkLease;
use super::{Shared, logs, removal, stats};
use crate::driver::samples::SampleBuffer;
use crate::driver::{Container, Exit, Owner, StatSample};

/// What the engine says when the log driver of a container cannot be set up.
const NO_LOG_DRIVER: &str = "failed to initialize logging driver";

/// How long the output of a container that is gone may take to its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The handle of a container. The container goes when it is dropped.
pub(super) struct DockerContainer(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    id: String,
    owner: Owner,
    /// Who reads what it prints.
    readers: logs::Readers,
    frozen: Frozen,
    exit: Arc<ExitCell>,
    samples: Arc<SampleBuffer>,
    /// What is given back when the container is gone.
    held: Mutex<Option<Held>>,
    /// Passes on what it prints.
    pump: Mutex<Option<JoinHandle<Option<()>>>>,
    /// Ends the tasks that read from the container.
    ending: CancellationToken,
    removal: OnceLock<watch::Receiver<bool>>,
}

/// What a container holds as long as the engine has it.
pub(super) struct Held {
    pub(super) _network: Option<NetworkLease>,
    pub(super) _image: Option<ImageUse>,
}

/// How a container is, or may be, frozen.
///
/// It is set before the attempt: an attempt that is dropped half-way counts as done, and a thaw
/// too many does no harm.
struct Frozen(AtomicU8);

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum By {
    Nobody,
    Us,
    Engine,
}

impl Frozen {
    fn set(&self, by: By) {
        self.0.store(by as u8, Ordering::Relaxed);
    }

    fn get(&self) -> By {
        match self.0.load(Ordering::Relaxed) {
            1 => By::Us,
            2 => By::Engine,
            _ => By::Nobody,
        }
    }
}

impl DockerContainer {
    /// Takes charge of a container that was created just now.
    pub(super) fn new(
        shared: Arc<Shared>,
        id: String,
        owner: Owner,
        readers: logs::Readers,
        held: Held,
    ) -> Self {
        let ending = shared.stop.child_token();
        Self(Arc::new(Inner {
            exit: shared.exits.watch(&id),
            shared,
            id,
            owner,
            readers,
            frozen: Frozen(AtomicU8::new(By::Nobody as u8)),
            samples: Arc::default(),
            held: Mutex::new(Some(held)),
            pump: Mutex::default(),
            ending,
            removal: OnceLock::new(),
        }))
    }
}

impl Inner {
    fn start_error(&self, error: EngineError) -> ApiError {
        match &error {
            EngineError::Refused { message, .. } if message.contains(NO_LOG_DRIVER) => {
                ApiError::from(ErrorCode::SyslogUnavailable).detail(error)
            }
            // The image has nothing that could be run.
            EngineError::Refused { status: 400, .. } => {
                ApiError::from(ErrorCode::ContainerInitFailed).detail(error)
            }
            // It is gone: another process removed it.
            EngineError::Refused { status: 404, .. } => {
                ApiError::from(ErrorCode::ServerBusy).detail(error)
            }
            _ => error.into_api("start_container"),
        }
    }

    /// Follows what the container prints. That the attempt fails costs log lines, not the call.
    async fn follow_output(&self) {
        match logs::attach(&self.shared.engine, &self.id).await {
            Ok(output) => {
                let readers = self.readers.clone();
                let pump = logs::pump(output, readers, self.owner.clone(), self.id.clone());
                let ending = self.ending.clone();
                let pump = async move { ending.run_until_cancelled(pump).await };
                let pump = self.shared.tasks.spawn(pump);
                *self.pump.lock().unwrap_or_else(PoisonError::into_inner) = Some(pump);
            }
            Err(error) => {
                tracing::warn!(container_id = %self.id, %error, "container's output is not logged");
            }
        }
    }

    fn follow_stats(&self) {
        let engine = self.shared.engine.clone();
        let collect = stats::collect(engine, self.id.clone(), self.samples.clone());
        let ending = self.ending.clone();
        self.shared
            .tasks
            .spawn(async move { ending.run_until_cancelled(collect).await });
    }

    /// Freezes without the engine. `None` when that is not possible here.
    async fn freeze_directly(&self) -> Option<Result<(), ApiError>> {
        let freezer = self.shared.freezer.as_ref()?;
        let direct = &self.shared.freezes_directly;
        if !direct.load(Ordering::Relaxed) {
            return None;
        }
        if !freezer.knows(&self.id)
            && !freezer
                .learn_from_engine(&self.shared.engine, &self.id)
                .await
        {
            if self.exit.has_ended() {
                return Some(Err(ApiError::internal("freeze: the container has ended")));
            }
            return None;
        }
        self.frozen.set(By::Us);
        let error = match freezer.freeze(&self.id).await {
            Ok(()) => return Some(Ok(())),
            Err(error) => error,
        };
        self.frozen.set(By::Nobody);
        if matches!(
            error.kind(),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
        ) {
            tracing::info!(%error, "containers are frozen through the engine");
            direct.store(false, Ordering::Relaxed);
            return None;
        }
        Some(Err(ApiError::internal(format_args!("freeze: {error}"))))
    }

    async fn thaw(&self) -> Result<(), ApiError> {
        match self.frozen.get() {
            By::Nobody => return Ok(()),
            By::Us => {
                if let Some(freezer) = &self.shared.freezer {
                    let thawed = freezer.thaw(&self.id);
                    thawed.map_err(|error| ApiError::internal(format_args!("thaw: {error}")))?;
                }
            }
            By::Engine => {
                let engine = &self.shared.engine;
                let request = engine.docker().unpause_container(&self.id);
                let unpaused = engine.call("docker_unpause_container", request).await;
                unpaused.map_err(|error| error.into_api("unpause_container"))?;
            }
        }
        self.frozen.set(By::Nobody);
        Ok(())
    }

    /// Starts the removal, unless it has been. The receiver tells when it has ended.
    fn removal(self: &Arc<Self>) -> watch::Receiver<bool> {
        let start = || {
            let (done, removal) = watch::channel(false);
            let inner = self.clone();
            self.shared.spawn(async move {
                inner.take_away().await;
                done.send_replace(true);
            });
            removal
        };
        self.removal.get_or_init(start).clone()
    }

    async fn take_away(&self) {
        let shared = &self.shared;
        // From here on its end is no news.
        shared.exits.forget(&self.id);
        let gone = removal::remove(&shared.engine, &self.id, || async {
            if let Err(error) = self.thaw().await {
                tracing::debug!(container_id = %self.id, ?error, "thaw before removal");
            }
        });
        shared.abandon.run_until_cancelled(gone).await;
        let pump = {
            let mut pump = self.pump.lock().unwrap_or_else(PoisonError::into_inner);
            pump.take()
        };
        if let Some(pump) = pump {
            // Its last words are on their way.
            let _ = timeout(LAST_WORDS, pump).await;
        }
        self.ending.cancel();
        if self.exit.removed() {
            shared.engine.metrics().exit("ctx_canceled".to_owned());
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = None;
    }
}

#[async_trait]
impl Container for DockerContainer {
    fn id(&self) -> &str {
        &self.0.id
    }

    async fn start(&self) -> Result<(), ApiError> {
        let inner = &self.0;
        if inner.readers.any() {
            inner.follow_output().await;
        }
        let engine = &inner.shared.engine;
        let request = engine
            .docker()
            .start_container(&inner.id, None::<StartContainerOptions>);
        let started = engine.call("docker_start_container", request).await;
        started.map_err(|error| inner.start_error(error))?;
        if inner.shared.config.collect_stats {
            inner.follow_stats();
        }
        Ok(())
    }

    async fn freeze(&self) -> Result<(), ApiError> {
        let inner = &self.0;
        if let Some(result) = inner.freeze_directly().await {
            return result;
        }
        inner.frozen.set(By::Engine);
        let engine = &inner.shared.engine;
        let request = engine.docker().pause_container(&inner.id);
        let paused = engine.call("docker_pause_container", request).await;
        paused.map_err(|error| {
            if !error.is_ambiguous() {
                inner.frozen.set(By::Nobody);
            }
            error.into_api("pause_container")
        })
    }

    async fn thaw(&self) -> Result<(), ApiError> {
        self.0.thaw().await
    }

    async fn wait(&self) -> Exit {
        self.0.exit.wait().await
    }

    fn take_stats(&self) -> Vec<StatSample> {
        self.0.samples.take()
    }

    async fn remove(&self) {
        // The removal is a task of its own: it goes on when this future is dropped.
        let _ = self.0.removal().wait_for(|done| *done).await;
    }
}

impl Drop for DockerContainer {
    fn drop(&mut self) {
        self.0.removal();
    }
}
