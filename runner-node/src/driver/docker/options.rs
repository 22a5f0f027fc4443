//! The options with which a container is created (spec/05 5.2, 5.3): a pure function.
//!
//! `KernelMemory` is not sent: it is part of the memory limit on every kernel that engines run on
//! today, which have no limit of its own any more, and engines from 23 on refuse or ignore it.
//!
//! Nothing here can keep a container from link-local addresses (those of cloud metadata services):
//! a container without capabilities cannot be given routes, and the engine has no such option. Use
//! `FN_DOCKER_NETWORKS` with networks that do not route there, or a rule in the chain
//! `DOCKER-USER` of the machine.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
    ResourcesUlimits,
};
use domain::FnSpec;

use super::config::DockerConfig;
use crate::driver::{ContainerSpec, SocketMount};

const MIB: u64 = 1024 * 1024;
/// Microseconds; a thousandth of a CPU is then 100 of them.
const CPU_PERIOD: i64 = 100_000;
const USER: &str = "1000:1000";
const TMP: &str = "/tmp";

/// What is decided for one container beside its specification.
pub(super) struct Choices<'a> {
    /// The labels of the instance.
    pub(super) labels: HashMap<String, String>,
    /// The network of its own, if any.
    pub(super) network: Option<&'a str>,
    /// Whether its output will be read.
    pub(super) attach: bool,
    /// The host name of containers without a network of their own.
    pub(super) hostname: &'a str,
}

/// The body of the request that creates a container.
pub(super) fn create_body(
    spec: &ContainerSpec,
    config: &DockerConfig,
    choices: Choices<'_>,
) -> ContainerCreateBody {
    let function = &spec.function;
    let network = if spec.network_disabled {
        Some("none")
    } else {
        choices.network
    };
    ContainerCreateBody {
        image: Some(function.image.clone()),
        user: config.unprivileged.then(|| USER.to_owned()),
        hostname: network.is_none().then(|| choices.hostname.to_owned()),
        attach_stdin: Some(false),
        attach_stdout: Some(choices.attach),
        attach_stderr: Some(choices.attach),
        open_stdin: Some(false),
        env: Some(spec.env.iter().map(|(k, v)| format!("{k}={v}")).collect()),
        labels: Some(choices.labels),
        host_config: Some(host_config(spec, config, network)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(spec: &ContainerSpec, config: &DockerConfig, network: Option<&str>) -> HostConfig {
    let function = &spec.function;
    let memory = (function.memory_mb > 0)
        .then(|| i64::try_from(function.memory_mb.saturating_mul(MIB)).unwrap_or(i64::MAX));
    let quota = i64::try_from(function.cpus.millis())
        .unwrap_or(i64::MAX)
        .saturating_mul(CPU_PERIOD / 1000);
    let has_quota = quota > 0;
    HostConfig {
        init: Some(true),
        memory,
        memory_swap: memory,
        memory_swappiness: memory.map(|_| 0),
        cpu_quota: has_quota.then_some(quota),
        cpu_period: has_quota.then_some(CPU_PERIOD),
        pids_limit: limit(config.max_pids, "pids"),
        ulimits: Some(ulimits(config)),
        storage_opt: (config.max_fs_size_mb > 0)
            .then(|| HashMap::from([("size".to_owned(), format!("{}M", config.max_fs_size_mb))])),
        tmpfs: tmpfs(function, config),
        mounts: Some(vec![mount(&spec.socket_mount)]),
        network_mode: network.map(str::to_owned),
        log_config: Some(log_config(function)),
        readonly_rootfs: Some(config.read_only_root),
        cap_drop: config.unprivileged.then(|| vec!["all".to_owned()]),
        security_opt: config
            .unprivileged
            .then(|| vec!["no-new-privileges".to_owned()]),
        ..HostConfig::default()
    }
}

fn limit(value: u64, name: &str) -> Option<i64> {
    if value == 0 {
        return None;
    }
    i64::try_from(value)
        .inspect_err(|_| tracing::warn!(value, "the limit {name} is too large, and not set"))
        .ok()
}

fn ulimits(config: &DockerConfig) -> Vec<ResourcesUlimits> {
    [
        ("nofile", config.max_open_files),
        ("memlock", config.max_locked_memory),
        ("sigpending", config.max_pending_signals),
        ("msgqueue", config.max_message_queue),
    ]
    .into_iter()
    .filter_map(|(name, value)| {
        let value = limit(value, name)?;
        Some(ResourcesUlimits {
            name: Some(name.to_owned()),
            soft: Some(value),
            hard: Some(value),
        })
    })
    .collect()
}

fn tmpfs(function: &FnSpec, config: &DockerConfig) -> Option<HashMap<String, String>> {
    let options = match (function.tmpfs_mb, config.max_tmpfs_inodes) {
        (0, _) if !config.read_only_root => return None,
        (0, _) => String::new(),
        (size, 0) => format!("size={size}m"),
        (size, inodes) => format!("size={size}m,nr_inodes={inodes}"),
    };
    Some(HashMap::from([(TMP.to_owned(), options)]))
}

fn mount(socket_mount: &SocketMount) -> Mount {
    match socket_mount {
        SocketMount::Directory { source, target } => Mount {
            typ: Some(MountType::BIND),
            source: Some(source.to_string_lossy().into_owned()),
            target: Some(target.to_string_lossy().into_owned()),
            ..Mount::default()
        },
        SocketMount::Volume { name, target } => Mount {
            typ: Some(MountType::VOLUME),
            source: Some(name.clone()),
            target: Some(target.to_string_lossy().into_owned()),
            volume_options: Some(MountVolumeOptions {
                // What an image has at that path must not get into everybody's volume.
                no_copy: Some(true),
                ..MountVolumeOptions::default()
            }),
            ..Mount::default()
        },
    }
}

fn log_config(function: &FnSpec) -> HostConfigLogConfig {
    let Some(url) = &function.syslog_url else {
        return HostConfigLogConfig {
            typ: Some("none".to_owned()),
            config: None,
        };
    };
    let tag = format!("app_id={},fn_id={}", function.app_id, function.fn_id);
    let options = [
        ("syslog-address", url.as_str()),
        ("syslog-facility", "user"),
        ("syslog-format", "rfc5424"),
        ("tag", &tag),
    ];
    HostConfigLogConfig {
        typ: Some("syslog".to_owned()),
        config: Some(
            options
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::contract::{container_spec, function_spec};
    use domain::MilliCpus;
    use std::sync::Arc;

    fn body(
        change: impl FnOnce(&mut FnSpec, &mut DockerConfig, &mut ContainerSpec),
    ) -> (ContainerCreateBody, HostConfig) {
        let mut function = function_spec("image:v1");
        let mut config = DockerConfig::default();
        let mut spec = container_spec(&function, "name", "/sockets/name".into());
        spec.network_disabled = false;
        change(&mut function, &mut config, &mut spec);
        spec.function = Arc::new(function);
        let choices = Choices {
            labels: HashMap::from([("l".to_owned(), "v".to_owned())]),
            network: None,
            attach: false,
            hostname: "host",
        };
        let mut body = create_body(&spec, &config, choices);
        let host = body.host_config.take().expect("a host part");
        (body, host)
    }

    #[test]
    fn a_container_is_hardened_by_default() {
        let (body, host) = body(|_, _, spec| {
            spec.env.insert("A".to_owned(), "b=c".to_owned());
        });
        assert_eq!(body.user.as_deref(), Some("1000:1000"));
        assert_eq!(body.hostname.as_deref(), Some("host"));
        assert_eq!(body.open_stdin, Some(false));
        assert_eq!(body.attach_stdout, Some(false));
        assert!(body.env.expect("env").contains(&"A=b=c".to_owned()));
        assert_eq!(body.labels.expect("labels")["l"], "v");
        assert_eq!((body.cmd, body.entrypoint), (None, None));
        assert_eq!(host.init, Some(true));
        assert_eq!(host.cap_drop, Some(vec!["all".to_owned()]));
        assert_eq!(
            host.security_opt,
            Some(vec!["no-new-privileges".to_owned()])
        );
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.pids_limit, Some(50));
        assert_eq!(host.privileged, None);
        assert_eq!(host.network_mode, None);
        assert_eq!(
            host.tmpfs,
            Some(HashMap::from([("/tmp".into(), String::new())]))
        );
        assert_eq!(host.storage_opt, None);
        assert_eq!((host.cpu_quota, host.cpu_period), (None, None));
        assert_eq!(host.log_config.expect("logs").typ.as_deref(), Some("none"));
        let ulimits: Vec<_> = host
            .ulimits
            .expect("ulimits")
            .into_iter()
            .map(|u| {
                assert_eq!(u.soft, u.hard);
                (u.name.expect("name"), u.soft.expect("soft"))
            })
            .collect();
        let expected = [
            ("nofile", 350),
            ("memlock", 65_536),
            ("sigpending", 5_000),
            ("msgqueue", 819_200),
        ];
        assert_eq!(
            ulimits,
            expected.map(|(name, value)| (name.to_owned(), value))
        );
    }

    #[test]
    fn memory_has_no_swap_and_cpu_a_quota() {
        let (_, host) = body(|function, _, _| {
            function.memory_mb = 128;
            function.cpus = MilliCpus::parse("250m").expect("valid");
        });
        assert_eq!(host.memory, Some(128 << 20));
        assert_eq!(host.memory_swap, host.memory);
        assert_eq!(host.memory_swappiness, Some(0));
        assert_eq!(
            (host.cpu_quota, host.cpu_period),
            (Some(25_000), Some(100_000))
        );
        let (_, host) = body(|function, _, _| function.memory_mb = 0);
        assert_eq!(
            (host.memory, host.memory_swap, host.memory_swappiness),
            (None, None, None)
        );
        let (_, host) = body(|function, _, _| function.memory_mb = u64::MAX);
        assert_eq!(host.memory, Some(i64::MAX));
    }

    #[test]
    fn tmp_follows_its_table() {
        let tmp = |size, inodes, read_only| {
            let (_, host) = body(|function, config, _| {
                function.tmpfs_mb = size;
                config.max_tmpfs_inodes = inodes;
                config.read_only_root = read_only;
            });
            host.tmpfs.map(|tmpfs| tmpfs["/tmp"].clone())
        };
        assert_eq!(tmp(0, 0, false), None);
        assert_eq!(tmp(0, 9, true).as_deref(), Some(""));
        assert_eq!(tmp(64, 0, true).as_deref(), Some("size=64m"));
        assert_eq!(tmp(64, 9, false).as_deref(), Some("size=64m,nr_inodes=9"));
    }

    #[test]
    fn a_network_of_its_own_has_no_host_name() {
        let (body_of, host) = body(|_, _, spec| spec.network_disabled = true);
        assert_eq!(
            (body_of.hostname, host.network_mode.as_deref()),
            (None, Some("none"))
        );
    }

    #[test]
    fn hardening_can_be_turned_off_and_limits_left_to_the_engine() {
        let (body, host) = body(|_, config, _| {
            config.unprivileged = false;
            config.read_only_root = false;
            config.max_pids = 0;
            config.max_open_files = 0;
            config.max_locked_memory = u64::MAX;
            config.max_fs_size_mb = 512;
        });
        assert_eq!(
            (body.user, host.cap_drop, host.security_opt),
            (None, None, None)
        );
        assert_eq!((host.readonly_rootfs, host.pids_limit), (Some(false), None));
        assert_eq!(host.ulimits.expect("ulimits").len(), 2);
        assert_eq!(host.storage_opt.expect("size")["size"], "512M");
    }

    #[test]
    fn syslog_has_its_options() {
        let (_, host) = body(|function, _, _| {
            function.syslog_url = Some("tcp://logs:514".to_owned());
        });
        let log = host.log_config.expect("logs");
        let options = log.config.expect("options");
        assert_eq!(log.typ.as_deref(), Some("syslog"));
        assert_eq!(options["syslog-address"], "tcp://logs:514");
        assert_eq!(options["syslog-facility"], "user");
        assert_eq!(options["syslog-format"], "rfc5424");
        assert_eq!(options["tag"], "app_id=app,fn_id=fn");
    }

    #[test]
    fn the_socket_directory_is_bound_or_its_volume_mounted_whole() {
        let mounted = |socket_mount| {
            let (_, host) = body(|_, _, spec| spec.socket_mount = socket_mount);
            let mount = host.mounts.expect("mounts").remove(0);
            (
                mount.typ,
                mount.source.expect("source"),
                mount.target.expect("target"),
                mount.read_only,
            )
        };
        let target = || "/tmp/iofs".into();
        assert_eq!(
            mounted(SocketMount::Directory {
                source: "/a:b".into(),
                target: target()
            }),
            (
                Some(MountType::BIND),
                "/a:b".into(),
                "/tmp/iofs".into(),
                None
            )
        );
        assert_eq!(
            mounted(SocketMount::Volume {
                name: "fnserversocket".into(),
                target: target()
            }),
            (
                Some(MountType::VOLUME),
                "fnserversocket".into(),
                "/tmp/iofs".into(),
                None
            )
        );
    }
}
