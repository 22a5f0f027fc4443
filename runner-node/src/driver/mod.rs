//! What the agent asks of a container engine. Nothing here assumes a daemon: a driver prepares
//! images, and creates containers that can be started, frozen, thawed, watched and removed.

#[cfg(test)]
pub(crate) mod contract;
pub mod decimate;
pub mod docker;
pub mod fake;
pub mod samples;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use domain::{ApiError, AppId, CallId, FnId, FnSpec};

/// Everything a driver needs to create one container (spec/05 5.2). Limits that belong to the whole
/// runner (pids, files, networks, user) are the driver's own settings.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// The container's name: 26 letters, unique.
    pub name: String,
    /// The call that made the agent start it.
    pub call_id: CallId,
    /// The function that it will run.
    pub function: Arc<FnSpec>,
    /// The complete environment, `FN_LISTENER` and `FN_FORMAT` included.
    pub env: BTreeMap<String, String>,
    /// How the socket directory appears in the container.
    pub socket_mount: SocketMount,
    /// No network at all.
    pub network_disabled: bool,
    /// Who wants what it prints, on both streams, in the order in which it comes. Its end is the end of
    /// the container, or of the driver's connection to it: no call fails for that.
    pub output: Option<Arc<dyn Output>>,
}

/// Takes what a container prints.
pub trait Output: fmt::Debug + Send + Sync + 'static {
    /// Something that it has printed came at this time. Must not block: the container waits for it.
    fn printed(&self, data: Bytes, at: Instant);
}

/// How the directory of the function's socket gets into its container (spec/13.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketMount {
    /// A directory of the engine's machine.
    Directory {
        /// Its path there.
        source: PathBuf,
        /// Where the container sees it.
        target: PathBuf,
    },
    /// A named volume, mounted whole; the container's own directory is below it.
    Volume {
        /// The volume's name.
        name: String,
        /// Where the container sees the volume.
        target: PathBuf,
    },
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit status of its first process.
    pub code: i64,
    /// Whether the engine says that the memory limit killed it.
    pub out_of_memory: bool,
}

/// One sample of a container's resource use (spec/05 5.9).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatSample {
    /// When it was taken, in milliseconds since the Unix epoch.
    pub unix_millis: i64,
    /// Values by the original's names: `net_rx`, `net_tx`, `mem_limit`, `mem_usage`, `disk_read`,
    /// `disk_write`, `cpu_user`, `cpu_total`, `cpu_kernel`.
    pub values: BTreeMap<&'static str, u64>,
}

/// A container engine.
///
/// Errors are what a client may see (spec/01 1.10): `ImagePullFailed` with the engine's words,
/// `ImagePullTimeout`, `ImageHasVolume`, `SyslogUnavailable`, `ServerBusy` when the engine cannot be
/// reached or an image vanished, and `Internal`.
#[async_trait]
pub trait Driver: Send + Sync + 'static {
    /// Makes sure that the image is there, pulling it when it is not. Concurrent calls for one
    /// image and one set of credentials share one pull; a caller that goes away does not disturb
    /// the others. `deadline` bounds the pull.
    async fn prepare_image(&self, function: &FnSpec, deadline: Instant) -> Result<(), ApiError>;

    /// Creates a container, and does not start it. Dropping the future leaves no container behind.
    async fn create(&self, spec: ContainerSpec) -> Result<Box<dyn Container>, ApiError>;

    /// Whether the engine answers; for readiness.
    async fn ping(&self) -> Result<(), ApiError>;

    /// Ends the driver's own tasks.
    async fn close(&self);
}

/// A container. Dropping it without [`Container::remove`] removes it in the background.
#[async_trait]
pub trait Container: Send + Sync + 'static {
    /// The engine's id of it, for logs.
    fn id(&self) -> &str;

    /// Starts it.
    async fn start(&self) -> Result<(), ApiError>;

    /// Stops all of its processes where they stand.
    async fn freeze(&self) -> Result<(), ApiError>;

    /// Lets them go on. Returns as soon as they run.
    async fn thaw(&self) -> Result<(), ApiError>;

    /// Waits until it has ended; at once when it has. May be called by several tasks, and again.
    async fn wait(&self) -> Exit;

    /// The samples taken since the last time this was asked, oldest first.
    fn take_stats(&self) -> Vec<StatSample>;

    /// Kills it, frozen or not, and removes it with its volumes. Idempotent. Tries until it is
    /// gone, through an engine that is away for a while. All that it has printed has been passed on then,
    /// unless the engine keeps it for long.
    async fn remove(&self);
}

/// Who a container works for; the labels of metrics about it (spec/10 10.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The app.
    pub app_id: AppId,
    /// The function.
    pub fn_id: FnId,
    /// The image.
    pub image: String,
}
