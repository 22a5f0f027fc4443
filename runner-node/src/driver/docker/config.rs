//! The settings of the Docker driver (spec/04 4.10). Memory sizes are in bytes unless a name says
//! otherwise; zero means no limit, or the engine's own default.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nodekit::settings::SecretString;

/// Told of a container of a dead predecessor that was removed, by its name, so that its socket
/// directory can be removed too.
pub type OnRemoved = Arc<dyn Fn(&str) + Send + Sync>;

/// What the driver needs to know. The default is that of the original's settings.
#[derive(Clone)]
pub struct DockerConfig {
    /// `unix:///path` or `tcp://host:port`; none is the usual socket. `FN_DOCKER_HOST`, else
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// A directory that belongs to this installation and outlives a restart, such as the one of
    /// the sockets. The runners that use it keep a directory `instances` in it, by which they know
    /// which of them are alive.
    pub state_dir: PathBuf,
    /// The label by which a runner knows its predecessors' containers; none is one that is made
    /// for `state_dir`. `FN_CONTAINER_LABEL_TAG`.
    pub label_tag: Option<String>,
    /// Told of removed containers of predecessors.
    pub on_removed: Option<OnRemoved>,
    /// Networks of the engine over which containers are spread. `FN_DOCKER_NETWORKS`.
    pub networks: Vec<String>,
    /// An archive of images to load at start. `FN_DOCKER_LOAD_FILE`.
    pub load_file: Option<PathBuf>,
    /// Run containers as user 1000 without capabilities. `FN_DISABLE_UNPRIVILEGED_CONTAINERS`
    /// inverted.
    pub unprivileged: bool,
    /// Keep containers from writing to their root. `FN_DISABLE_READONLY_ROOTFS` inverted.
    pub read_only_root: bool,
    /// Copy what functions print to the debug log. `FN_DISABLE_DEBUG_USER_LOGS` inverted.
    pub user_logs: bool,
    /// Size of a container's root file system in MiB. `FN_MAX_FS_SIZE_MB`.
    pub max_fs_size_mb: u64,
    /// Processes in a container. `FN_MAX_PIDS`.
    pub max_pids: u64,
    /// Open files of a process. `FN_MAX_OPEN_FILES`.
    pub max_open_files: u64,
    /// Locked memory of a process. `FN_MAX_LOCKED_MEMORY`.
    pub max_locked_memory: u64,
    /// Pending signals. `FN_MAX_PENDING_SIGNALS`.
    pub max_pending_signals: u64,
    /// Memory in POSIX message queues. `FN_MAX_MESSAGE_QUEUE`.
    pub max_message_queue: u64,
    /// Files in `/tmp`. `FN_MAX_TMPFS_INODES`.
    pub max_tmpfs_inodes: u64,
    /// Size of all images from which on unused ones are removed. `FN_IMAGE_CLEAN_MAX_SIZE`.
    pub image_clean_max_size: u64,
    /// Images that are never removed. `FN_IMAGE_CLEAN_EXEMPT_TAGS`.
    pub image_clean_exempt_tags: Vec<String>,
    /// Accept images that declare a volume. `FN_IMAGE_ENABLE_VOLUME`.
    pub image_enable_volume: bool,
    /// Credentials as JSON; none is those of [`DockerConfig::auth_files`]. `FN_DOCKER_AUTH`.
    pub registry_auth: Option<SecretString>,
    /// Where credentials are looked for.
    pub auth_files: Vec<PathBuf>,
    /// The only registries from which images may come; empty allows all. The default registry is
    /// `docker.io`.
    pub allowed_registries: Vec<String>,
    /// How often a pull is tried when the engine fails in a way that may pass.
    pub pull_attempts: u32,
    /// Collect resource samples. Off by default: they cost the engine about two thousandths of a
    /// CPU for each container, idle or not.
    pub collect_stats: bool,
    /// The host name of containers; none is that of this machine.
    pub hostname: Option<String>,
    /// The longest time of an ordinary request to the engine.
    pub call_timeout: Duration,
    /// The longest time that closing waits for the driver's tasks.
    pub close_timeout: Duration,
}

impl Default for DockerConfig {
    fn default() -> Self {
        let home = std::env::home_dir().unwrap_or_default();
        Self {
            host: None,
            state_dir: std::env::temp_dir(),
            label_tag: None,
            on_removed: None,
            networks: Vec::new(),
            load_file: None,
            unprivileged: true,
            read_only_root: true,
            user_logs: true,
            max_fs_size_mb: 0,
            max_pids: 50,
            max_open_files: 350,
            max_locked_memory: 65_536,
            max_pending_signals: 5_000,
            max_message_queue: 819_200,
            max_tmpfs_inodes: 0,
            image_clean_max_size: 0,
            image_clean_exempt_tags: Vec::new(),
            image_enable_volume: false,
            registry_auth: None,
            auth_files: vec![home.join(".docker/config.json"), home.join(".dockercfg")],
            allowed_registries: Vec::new(),
            pull_attempts: 1,
            collect_stats: false,
            hostname: None,
            call_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(30),
        }
    }
}
