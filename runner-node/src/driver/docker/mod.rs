//! The Docker driver (spec/05). The engine's client library is named in this folder only.

mod cleanup;
pub mod config;
mod container;
mod engine;
mod error;
mod exits;
mod freezer;
mod image;
pub mod image_build;
mod instance;
mod logs;
pub mod metrics;
mod network;
mod options;
mod removal;
pub mod startup;
mod stats;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use async_trait::async_trait;
use bollard::auth::DockerCredentials;
use bollard::models::ImageInspect;
use bollard::query_parameters::{CreateContainerOptions, CreateImageOptions};
use domain::{ApiError, ErrorCode, FnSpec};
use futures_util::StreamExt as _;
use nodekit::settings::ExposeSecret as _;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Container, ContainerSpec, Driver, Owner};
use config::DockerConfig;
use container::{DockerContainer, Held};
use engine::Engine;
use error::EngineError;
use exits::{ExitWatcher, Exits};
use freezer::Freezer;
use image::auth::{Credentials, RegistryAuth};
use image::cleaner::Images;
use image::pull::{PullKey, Pulls};
use image::reference::ImageReference;
use instance::Instance;
use metrics::DockerMetrics;
use network::Networks;
use options::Choices;
use startup::ConnectError;

/// The longest name that a machine may have.
const MAX_HOSTNAME_BYTES: usize = 63;
/// The engine's default registry, as it is called in a list of allowed ones.
const DEFAULT_REGISTRY: &str = "docker.io";
/// A pull by the engine has no limit but its callers' deadlines.
const PULL_LIMIT: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
/// What registries that want a user are said to answer.
const UNAUTHORIZED: [&str; 2] = ["no basic auth credentials", "unauthorized"];
const PULL_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);

/// Containers of a Docker engine.
pub struct DockerDriver {
    shared: Arc<Shared>,
}

/// What the driver, its containers and its tasks share.
struct Shared {
    config: DockerConfig,
    engine: Engine,
    instance: Arc<Instance>,
    hostname: String,
    auth: RegistryAuth,
    images: Images,
    pulls: Pulls,
    networks: Networks,
    freezer: Option<Arc<Freezer>>,
    /// Cleared when the control groups turn out to be read-only.
    freezes_directly: AtomicBool,
    exits: Arc<Exits>,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    /// No new work.
    stop: CancellationToken,
    /// No more tries to remove containers either.
    abandon: CancellationToken,
}

impl DockerDriver {
    /// Connects to the engine, checks it, loads images, and begins to remove what a dead
    /// predecessor left behind.
    ///
    /// # Errors
    /// The engine cannot be reached or is too old, or a setting cannot be followed.
    pub async fn connect(
        config: DockerConfig,
        metrics: DockerMetrics,
    ) -> Result<Self, ConnectError> {
        let given = config
            .registry_auth
            .as_ref()
            .map(|json| json.expose_secret());
        let auth = RegistryAuth::load(given.filter(|json| !json.is_empty()), &config.auth_files);
        let auth = auth.map_err(ConnectError::RegistryAuth)?;
        let engine = startup::connect(&config, Arc::new(metrics)).await?;
        let instance = Instance::begin(&config.state_dir, config.label_tag.as_deref())?;
        engine.metrics().instance(instance.id());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let shared = Arc::new(Shared {
            images: Images::new(config.image_clean_max_size, &config.image_clean_exempt_tags),
            pulls: Pulls::new(tasks.clone(), stop.clone()),
            networks: Networks::new(config.networks.clone()),
            hostname: hostname(&config),
            freezer: Freezer::detect().map(Arc::new),
            freezes_directly: AtomicBool::new(true),
            exits: Arc::default(),
            runtime: tokio::runtime::Handle::current(),
            abandon: CancellationToken::new(),
            instance: Arc::new(instance),
            config,
            engine,
            auth,
            tasks,
            stop,
        });
        shared.spawn_background();
        Ok(Self { shared })
    }
}

fn hostname(config: &DockerConfig) -> String {
    let mut name = config.hostname.clone().unwrap_or_else(|| {
        let uname = rustix::system::uname();
        uname.nodename().to_string_lossy().into_owned()
    });
    while name.len() > MAX_HOSTNAME_BYTES {
        name.pop();
    }
    name
}

impl Shared {
    /// Runs a task of the driver, from any thread.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }

    fn spawn_background(&self) {
        let watcher = ExitWatcher {
            engine: self.engine.clone(),
            exits: self.exits.clone(),
            instance: self.instance.id().to_owned(),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        };
        self.spawn(watcher.run());
        let cleanup = cleanup::Cleanup {
            engine: self.engine.clone(),
            freezer: self.freezer.clone(),
            instance: self.instance.clone(),
            on_removed: self.config.on_removed.clone(),
        };
        self.spawn_until_stopped(async move { cleanup.run().await });
        let (images, engine) = (self.images.clone(), self.engine.clone());
        self.spawn_until_stopped(async move { images.clean(&engine).await });
    }

    fn spawn_until_stopped(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    async fn inspect(&self, image: &str) -> Result<Option<ImageInspect>, ApiError> {
        let request = self.engine.docker().inspect_image(image);
        match self.engine.call("docker_inspect_image", request).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into_api("inspect_image")),
        }
    }

    fn check(&self, name: &str, image: &ImageInspect) -> Result<(), ApiError> {
        let id = image.id.as_deref().unwrap_or_default();
        let size = image.size.and_then(|size| u64::try_from(size).ok());
        let tags = image.repo_tags.as_deref().unwrap_or_default();
        self.images.seen(name, id, size.unwrap_or(0), tags);
        let config = image.config.as_ref();
        let volumes = config.and_then(|config| config.volumes.as_ref());
        if !self.config.image_enable_volume && volumes.is_some_and(|all| !all.is_empty()) {
            return Err(ErrorCode::ImageHasVolume.into());
        }
        Ok(())
    }

    fn check_registry(&self, image: &str, reference: &ImageReference) -> Result<(), ApiError> {
        let allowed = &self.config.allowed_registries;
        let registry = match &*reference.registry {
            "" => DEFAULT_REGISTRY,
            registry => registry,
        };
        if allowed.is_empty() || allowed.iter().any(|name| name == registry) {
            return Ok(());
        }
        let reason = format!("registry {registry} is not allowed");
        Err(pull_failed(image, &reason).status_override(403))
    }

    /// One pull by the engine, tried as often as the settings say.
    async fn pull(
        self: Arc<Self>,
        name: String,
        image: ImageReference,
        user: Option<Credentials>,
    ) -> Result<(), ApiError> {
        let mut tries = self.config.pull_attempts.max(1);
        loop {
            let error = match self.try_pull(&image, user.as_ref()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            tries -= 1;
            if tries == 0 || !error.is_temporary() {
                return Err(pull_error(&name, error));
            }
            self.engine
                .metrics()
                .retry("docker_pull_image", error.status_label());
            sleep(PULL_PAUSE).await;
        }
    }

    async fn try_pull(
        &self,
        image: &ImageReference,
        user: Option<&Credentials>,
    ) -> Result<(), EngineError> {
        let options = CreateImageOptions {
            from_image: Some(image.name()),
            tag: Some(image.tag.clone()),
            ..CreateImageOptions::default()
        };
        let user = user.map(|user| DockerCredentials {
            username: Some(user.username.clone()),
            password: Some(user.password.clone()),
            serveraddress: Some(user.server.clone()),
            identitytoken: Some(user.identity_token.clone()).filter(|token| !token.is_empty()),
            ..DockerCredentials::default()
        });
        let request = async {
            let docker = self.engine.docker();
            let mut progress = docker.create_image(Some(options), None, user);
            while let Some(step) = progress.next().await {
                step?;
            }
            Ok(())
        };
        self.engine
            .call_within(PULL_LIMIT, "docker_pull_image", request)
            .await
    }

    async fn create(self: Arc<Self>, spec: ContainerSpec) -> Result<DockerContainer, ApiError> {
        let network = match spec.network_disabled {
            true => None,
            false => self.networks.lease(),
        };
        let function = &spec.function;
        let output = logs::Readers {
            call_log: spec.output.clone(),
            debug_log: self.config.user_logs && function.syslog_url.is_none() && logs::is_on(),
        };
        let choices = Choices {
            labels: self.instance.labels(),
            network: network.as_ref().map(|network| network.name()),
            attach: output.any(),
            hostname: &self.hostname,
        };
        let body = options::create_body(&spec, &self.config, choices);
        let held = Held {
            _image: self.images.start_use(&function.image),
            _network: network,
        };
        let options = CreateContainerOptions {
            name: Some(spec.name.clone()),
            ..CreateContainerOptions::default()
        };
        let request = self.engine.docker().create_container(Some(options), body);
        let created = self.engine.call("docker_create_container", request).await;
        let id = match created {
            Ok(created) => created.id,
            Err(error) => return Err(self.create_error(spec.name, error)),
        };
        let owner = Owner {
            app_id: function.app_id.clone(),
            fn_id: function.fn_id.clone(),
            image: function.image.clone(),
        };
        Ok(DockerContainer::new(self, id, owner, output, held))
    }

    fn create_error(self: &Arc<Self>, name: String, error: EngineError) -> ApiError {
        if error.is_ambiguous() {
            let (shared, error) = (self.clone(), error.clone());
            self.spawn(async move {
                let remove = removal::remove_if_created(&shared.engine, &name, &error);
                shared.abandon.run_until_cancelled(remove).await;
            });
        }
        match &error {
            // The image was removed since it was prepared.
            EngineError::Refused {
                status: 404,
                message,
            } if message.to_ascii_lowercase().contains("no such image") => {
                ApiError::from(ErrorCode::ServerBusy).detail(error)
            }
            // An engine wants a few MiB for each container; how many is for the engine to say.
            EngineError::Refused {
                status: 400,
                message,
            } if message
                .to_ascii_lowercase()
                .contains("minimum memory limit") =>
            {
                let text = ErrorCode::ResourcesImpossible.text();
                ApiError::with_message(ErrorCode::ResourcesImpossible, format!("{text}: {message}"))
            }
            _ => error.into_api("create_container"),
        }
    }
}

fn pull_failed(image: &str, reason: &str) -> ApiError {
    let message = format!("Failed to pull image '{image}': {reason}");
    ApiError::with_message(ErrorCode::ImagePullFailed, message)
}

fn pull_error(image: &str, error: EngineError) -> ApiError {
    match &error {
        EngineError::Refused { status, message } => {
            let failed = pull_failed(image, message);
            match status {
                400..=499 => failed.status_override(*status),
                // Engines pass on some refusals of a registry as faults of their own.
                _ if UNAUTHORIZED.iter().any(|text| message.contains(text)) => {
                    failed.status_override(401)
                }
                _ => failed,
            }
        }
        EngineError::Failed(message) => pull_failed(image, message),
        _ => error.into_api("pull_image"),
    }
}

#[async_trait]
impl Driver for DockerDriver {
    async fn prepare_image(&self, function: &FnSpec, deadline: Instant) -> Result<(), ApiError> {
        let shared = &self.shared;
        let name = &function.image;
        // Before anything else: a text that is no reference must not get into a request.
        let reference = ImageReference::parse(name)
            .map_err(|error| pull_failed(name, &error.to_string()).status_override(400))?;
        shared.check_registry(name, &reference)?;
        if let Some(image) = shared.inspect(name).await? {
            return shared.check(name, &image);
        }
        let credentials = shared.auth.find(&reference.registry).cloned();
        let key = PullKey {
            image: reference.clone(),
            credentials: credentials.clone(),
        };
        let start = || shared.clone().pull(name.clone(), reference, credentials);
        shared.pulls.pull(key, deadline, start).await?;
        match shared.inspect(name).await? {
            Some(image) => shared.check(name, &image),
            None => Err(ApiError::from(ErrorCode::ServerBusy).detail("the image vanished")),
        }
    }

    async fn create(&self, spec: ContainerSpec) -> Result<Box<dyn Container>, ApiError> {
        if self.shared.stop.is_cancelled() {
            return Err(ErrorCode::ServerBusy.into());
        }
        // A task of its own: when this future is dropped, nobody takes the container, and a
        // container that nobody takes is removed.
        let (give, take) = oneshot::channel();
        let shared = self.shared.clone();
        self.shared.spawn(async move {
            let _ = give.send(shared.create(spec).await);
        });
        match take.await {
            Ok(created) => Ok(Box::new(created?)),
            Err(_) => Err(ErrorCode::ServerBusy.into()),
        }
    }

    async fn ping(&self) -> Result<(), ApiError> {
        let engine = &self.shared.engine;
        let pong = engine.call("docker_ping", engine.docker().ping()).await;
        pong.map(|_| ()).map_err(|error| error.into_api("ping"))
    }

    async fn close(&self) {
        let shared = &self.shared;
        shared.stop.cancel();
        shared.tasks.close();
        if timeout(shared.config.close_timeout, shared.tasks.wait())
            .await
            .is_ok()
        {
            // Whoever still holds a container is still its owner.
            if shared.exits.is_empty() {
                shared.instance.end();
            }
            return;
        }
        tracing::warn!("containers are left behind; the next start removes them");
        shared.abandon.cancel();
    }
}
