//! Puts a runner together from its settings: driver, sockets, resources and agent.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use domain::IdSource;
use nodekit::metrics::Metrics;
use runner_node::agent::{Agent, Parts, Settings};
use runner_node::call_log::{self, CallLogs, LogMetrics};
use runner_node::config::RunnerConfig;
use runner_node::driver::docker::DockerDriver;
use runner_node::driver::docker::config::DockerConfig;
use runner_node::driver::docker::metrics::DockerMetrics;
use runner_node::metrics::RunnerMetrics;
use runner_node::resources::{Pool, totals};
use runner_node::stream::{Limits, SocketDir, SocketDirConfig};
use tracing::warn;

use super::Base;

/// The metrics of a runner.
pub(super) struct RunnerRegistrations {
    runner: RunnerMetrics,
    docker: DockerMetrics,
    logs: LogMetrics,
}

impl RunnerRegistrations {
    /// Registers them.
    pub(super) fn new(metrics: &mut Metrics) -> Self {
        Self {
            runner: RunnerMetrics::new(metrics),
            docker: DockerMetrics::new(metrics),
            logs: LogMetrics::new(metrics),
        }
    }
}

/// Starts an agent, and keeps the readiness up to date with its engine, and the metrics of what is
/// held.
pub(super) async fn start(
    base: &Base,
    registrations: RunnerRegistrations,
) -> anyhow::Result<Agent> {
    let agent = start_agent(
        &base.configuration.runner,
        registrations,
        Arc::clone(&base.ids),
    )
    .await?;
    let asked = agent.clone();
    base.watch("engine", move || {
        let agent = asked.clone();
        async move {
            agent.measure();
            agent.ready().await
        }
    });
    Ok(agent)
}

/// Refuses new calls, and waits for the running ones, at most for `limit`.
pub(super) async fn drain(agent: &Agent, limit: Option<Duration>) {
    agent.drain();
    let in_time = match limit {
        Some(limit) => tokio::time::timeout(limit, agent.drained()).await.is_ok(),
        None => {
            agent.drained().await;
            true
        }
    };
    if !in_time {
        warn!("some calls did not finish in time and are cut off");
    }
}

async fn start_agent(
    config: &RunnerConfig,
    registrations: RunnerRegistrations,
    ids: Arc<IdSource>,
) -> anyhow::Result<Agent> {
    let caps = totals::Caps {
        memory_bytes: NonZeroU64::new(config.max_total_memory_bytes),
        cpu_millis: NonZeroU64::new(config.max_total_cpu_mcpus),
    };
    let total = totals::detect(Path::new("/"), &caps)?;
    let socket_dirs = SocketDirConfig {
        // The engine wants a whole path.
        path: path(&config.iofs_path)
            .map(std::path::absolute)
            .transpose()
            .context("FN_IOFS_PATH")?,
        docker_path: text(&config.iofs_mount_root),
        tmpfs: config.iofs_enable_tmpfs,
        tmpfs_opts: config.iofs_opts.clone(),
        unprivileged: !config.disable_unprivileged_containers,
    };
    SocketDir::remove_stale(&socket_dirs);
    SocketDir::probe(&socket_dirs).with_context(|| match config.iofs_enable_tmpfs {
        true => "no socket directory can be made with FN_IOFS_PATH, FN_IOFS_TMPFS and FN_IOFS_OPTS",
        false => "no socket directory can be made in FN_IOFS_PATH",
    })?;
    let driver = DockerDriver::connect(docker(config, &socket_dirs), registrations.docker)
        .await
        .context("the Docker engine cannot be used")?;
    let settings = Settings {
        freeze_idle: config.freeze_idle_msecs,
        hot_poll: config.hot_poll_msecs.unwrap_or(Duration::from_secs(3600)),
        hot_launcher_timeout: config.hot_launcher_timeout_msecs,
        hot_pull_timeout: config.hot_pull_timeout_msecs,
        hot_start_timeout: config.hot_start_timeout_msecs,
        limits: Limits {
            max_response_bytes: Some(config.max_response_size_bytes).filter(|bytes| *bytes > 0),
            ..Limits::default()
        },
        max_header_bytes: match config.max_hdr_response_size_bytes {
            0 => Limits::MAX_HEADER_BYTES,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        },
        non_blocking_resources: config.enable_nb_resource_tracker,
        processors: usize::try_from(total.cpu_millis.div_ceil(1000)).unwrap_or(1),
    };
    Ok(Agent::start(Parts {
        settings,
        socket_dirs,
        driver: Arc::new(driver),
        pool: Pool::new(total),
        ids,
        metrics: registrations.runner,
        logs: call_log::Settings::new(config)
            .map(|settings| CallLogs::new(settings, registrations.logs)),
    }))
}

fn docker(config: &RunnerConfig, socket_dirs: &SocketDirConfig) -> DockerConfig {
    DockerConfig {
        host: text(&config.docker_host).or_else(|| std::env::var("DOCKER_HOST").ok()),
        state_dir: socket_dirs.path.clone().unwrap_or_else(std::env::temp_dir),
        label_tag: text(&config.container_label_tag),
        networks: config.docker_networks.clone(),
        load_file: path(&config.docker_load_file),
        unprivileged: !config.disable_unprivileged_containers,
        read_only_root: !config.disable_readonly_rootfs,
        user_logs: !config.disable_debug_user_logs,
        max_fs_size_mb: config.max_fs_size_mb,
        max_pids: config.max_pids,
        max_open_files: config.max_open_files,
        max_locked_memory: config.max_locked_memory,
        max_pending_signals: config.max_pending_signals,
        max_message_queue: config.max_message_queue,
        max_tmpfs_inodes: config.max_tmpfs_inodes,
        image_clean_max_size: config.image_clean_max_size,
        image_clean_exempt_tags: config.image_clean_exempt_tags.clone(),
        image_enable_volume: config.image_enable_volume,
        registry_auth: Some(config.docker_auth.clone()),
        allowed_registries: config.image_registries.clone(),
        pull_attempts: config.image_pull_attempts,
        collect_stats: config.container_stats,
        ..DockerConfig::default()
    }
}

fn text(setting: &str) -> Option<String> {
    Some(setting.to_owned()).filter(|text| !text.is_empty())
}

fn path(setting: &str) -> Option<PathBuf> {
    text(setting).map(PathBuf::from)
}
