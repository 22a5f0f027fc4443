//! The settings of a runner (spec/04 4.10). Each field bears the name that the original logged.

use std::time::Duration;

use nodekit::settings;
use nodekit::settings::SecretString;
use nodekit::settings::kinds::{Bool, Bytes, Int, Millis, Secret, Text, Words};

settings! {
    /// Settings of a runner.
    pub struct RunnerConfig {
        /// Tag that this runner's containers carry as a label; containers of a dead predecessor with the same tag are removed at start.
        FN_CONTAINER_LABEL_TAG: Text = "" => container_label_tag: String;
        /// Networks of the engine that containers are spread over; empty is the engine's default network.
        FN_DOCKER_NETWORKS: Words = "" => docker_networks: Vec<String>;
        /// Address of the Docker engine, `unix:///path` or `tcp://host:port`; empty is `DOCKER_HOST` or the usual socket.
        FN_DOCKER_HOST: Text = "" => docker_host: String;
        /// Registry credentials, JSON in the shape of `auths` in Docker's `config.json`.
        FN_DOCKER_AUTH: Secret = "" => docker_auth: SecretString;
        /// Archive of images that is loaded into the engine at start.
        FN_DOCKER_LOAD_FILE: Text = "" => docker_load_file: String;
        /// Run containers as their images say, with the engine's default capabilities.
        FN_DISABLE_UNPRIVILEGED_CONTAINERS: Bool = "false" => disable_unprivileged_containers: bool;
        /// Idle time after which a container is frozen.
        FN_FREEZE_IDLE_MSECS: Millis = "50" => freeze_idle_msecs: Option<Duration>;
        /// Longest time between two looks of the launcher at a function with waiting calls.
        FN_HOT_POLL_MSECS: Millis = "200" => hot_poll_msecs: Option<Duration>;
        /// How long a function's queue is kept without a call.
        FN_HOT_LAUNCHER_TIMEOUT_MSECS: Millis = "3600000" => hot_launcher_timeout_msecs: Option<Duration>;
        /// Longest time that a call of a load balancer waits for a container before it is refused and may be tried elsewhere; a negative number is as long as the load balancer waits.
        FN_CALL_WAIT_MSECS: Millis = "360000" => call_wait_msecs: Option<Duration>;
        /// Time for pulling an image.
        FN_HOT_PULL_TIMEOUT_MSECS: Millis = "600000" => hot_pull_timeout_msecs: Option<Duration>;
        /// Time from the start of a container to its open socket.
        FN_HOT_START_TIMEOUT_MSECS: Millis = "5000" => hot_start_timeout_msecs: Option<Duration>;
        /// Largest body of a function's answer; 0 is no limit.
        FN_MAX_RESPONSE_SIZE: Bytes = "0" => max_response_size_bytes: u64;
        /// Largest head of a function's answer; 0 is 1 MiB.
        FN_MAX_HDR_RESPONSE_SIZE: Bytes = "0" => max_hdr_response_size_bytes: u64;
        /// CPU that containers may use together, in thousandths of a CPU; 0 detects it.
        FN_MAX_TOTAL_CPU_MCPUS: Int<u64> = "0" => max_total_cpu_mcpus: u64;
        /// Memory that containers may use together; 0 detects it.
        FN_MAX_TOTAL_MEMORY_BYTES: Bytes = "0" => max_total_memory_bytes: u64;
        /// Largest root file system of a container, in MiB; 0 is no limit.
        FN_MAX_FS_SIZE_MB: Int<u64> = "0" => max_fs_size_mb: u64;
        /// Most processes in a container; 0 is no limit.
        FN_MAX_PIDS: Int<u64> = "50" => max_pids: u64;
        /// Most open files of a process in a container; 0 is the engine's default.
        FN_MAX_OPEN_FILES: Int<u64> = "350" => max_open_files: u64;
        /// Most locked memory of a process in a container, in bytes; 0 is the engine's default.
        FN_MAX_LOCKED_MEMORY: Bytes = "65536" => max_locked_memory: u64;
        /// Most pending signals in a container; 0 is the engine's default.
        FN_MAX_PENDING_SIGNALS: Int<u64> = "5000" => max_pending_signals: u64;
        /// Most memory in POSIX message queues of a container, in bytes; 0 is the engine's default.
        FN_MAX_MESSAGE_QUEUE: Bytes = "819200" => max_message_queue: u64;
        /// Refuse a call at once when it finds neither a container nor room for one, instead of letting it wait.
        FN_ENABLE_NB_RESOURCE_TRACKER: Bool = "false" => enable_nb_resource_tracker: bool;
        /// Most files in a container's `/tmp`; 0 is no limit.
        FN_MAX_TMPFS_INODES: Int<u64> = "0" => max_tmpfs_inodes: u64;
        /// Let containers write to their root file system.
        FN_DISABLE_READONLY_ROOTFS: Bool = "false" => disable_readonly_rootfs: bool;
        /// Keep what functions print out of the debug log.
        FN_DISABLE_DEBUG_USER_LOGS: Bool = "false" => disable_debug_user_logs: bool;
        /// Mount a tmpfs for the socket directory of each container.
        FN_IOFS_TMPFS: Bool = "false" => iofs_enable_tmpfs: bool;
        /// Directory in which the socket directories are made; empty is the system's temporary directory.
        FN_IOFS_PATH: Text = "" => iofs_path: String;
        /// Where the engine's machine sees `FN_IOFS_PATH`, or the name of a volume, when the runner is itself in a container.
        FN_IOFS_DOCKER_PATH: Text = "" => iofs_mount_root: String;
        /// Mount options of that tmpfs.
        FN_IOFS_OPTS: Text = "" => iofs_opts: String;
        /// Size of all images above which the least recently used ones are removed, in bytes; 0 keeps them all.
        FN_IMAGE_CLEAN_MAX_SIZE: Bytes = "0" => image_clean_max_size: u64;
        /// Images that are never removed.
        FN_IMAGE_CLEAN_EXEMPT_TAGS: Words = "" => image_clean_exempt_tags: Vec<String>;
        /// Registries that images may come from; empty allows all. The engine's default registry is `docker.io`.
        FN_IMAGE_REGISTRIES: Words = "" => image_registries: Vec<String>;
        /// How often the pull of an image is tried when the engine fails in a way that may pass.
        FN_IMAGE_PULL_ATTEMPTS: Int<u32> = "1" => image_pull_attempts: u32;
        /// Measure what each container uses, for the metrics `fn_docker_stats_*`; costs the engine about a thousandth of a CPU for each container.
        FN_CONTAINER_STATS: Bool = "false" => container_stats: bool;
        /// Image that is run to tell how the runner is; empty tells its numbers of calls alone. Functions cannot use it.
        FN_STATUS_IMAGE: Text = "" => status_image: String;
        /// File without which that image gets no network; empty always gives it one.
        FN_STATUS_NETWORK_BARRIER: Text = "" => status_network_barrier: String;
        /// Shortest time between two updates of the runner's state for a load balancer.
        FN_STATE_INTERVAL_MSECS: Millis = "20" => state_interval_msecs: Option<Duration>;
        /// Longest time between two such updates: a load balancer that hears nothing for longer takes the runner for lost.
        FN_STATE_HEARTBEAT_MSECS: Millis = "1000" => state_heartbeat_msecs: Option<Duration>;
        /// No more durable calls are asked for while so many hundredths of memory or CPU are held by containers at work.
        FN_ASYNC_HIGH_WATER: Int<u64> = "80" => async_high_water: u64;
        /// Most durable calls that are in hand at a time; 0 is two for each 128 MiB of memory, 4 to 256.
        FN_ASYNC_MAX_CALLS: Int<u32> = "0" => async_max_calls: u32;
        /// Longest time that a durable call waits here for a container before it is given back.
        FN_ASYNC_WAIT_MSECS: Millis = "30000" => async_wait_msecs: Option<Duration>;
        /// Keep what functions print, by call.
        FN_CALL_LOGS: Bool = "true" => call_logs: bool;
        /// The same for calls whose clients wait for them.
        FN_SYNC_CALL_LOGS: Bool = "true" => sync_call_logs: bool;
        /// Most that is kept of what a function prints during one call; API nodes keep 1 MiB of it.
        FN_MAX_LOG_SIZE_BYTES: Bytes = "1048576" => max_log_size_bytes: u64;
        /// Accept images that declare a volume.
        FN_IMAGE_ENABLE_VOLUME: Bool = "false" => image_enable_volume: bool;
    }
}
