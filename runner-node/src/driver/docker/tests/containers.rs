//! What containers may and may not do, and where their output goes.

use std::io::BufRead as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::RemoveVolumeOptions;
use domain::ErrorCode;
use tracing_subscriber::layer::SubscriberExt as _;

use super::bench::{DockerBench, unique};
use crate::driver::contract::{self, Behaviour, Bench as _, directory, eventually};
use crate::driver::docker::engine;
use crate::driver::docker::error::EngineError;
use crate::driver::docker::removal;
use crate::driver::{Container, ContainerSpec, Driver as _, SocketMount};

/// Runs a script to its end and returns what it wrote into `/tmp/iofs/out`.
async fn output(bench: &DockerBench, spec: ContainerSpec) -> String {
    let out = directory(&spec).join("out");
    let container = run(bench, spec).await;
    container.wait().await;
    container.remove().await;
    std::fs::read_to_string(out).unwrap_or_default()
}

async fn run(bench: &DockerBench, spec: ContainerSpec) -> Box<dyn Container> {
    let container = bench.driver.create(spec).await.expect("created");
    container.start().await.expect("started");
    container
}

const LOOK_AROUND: &str = r#"exec >/tmp/iofs/out 2>/dev/null
echo id=$(id -u):$(id -g)
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
echo nofile=$(ulimit -n) memlock=$(ulimit -l)
echo root=$(touch /new && echo writable || echo read-only)
echo tmp=$(touch /tmp/new && echo writable || echo read-only)
grep ' /tmp ' /proc/mounts
echo init=$(tr '\0' ' ' </proc/1/cmdline)
echo host=$(hostname)
echo links=$(ls /sys/class/net | tr '\n' ' ')
echo env=$A
"#;

#[tokio::test]
async fn a_container_is_held_back_in_every_way() {
    let bench = DockerBench::with(|config| config.hostname = Some("x".repeat(80))).await;
    let mut spec = bench.script(LOOK_AROUND);
    spec.env.insert("A".to_owned(), "b=c d".to_owned());
    let name = spec.name.clone();
    let out = output(&bench, spec).await;
    for expected in [
        "id=1000:1000\n",
        "CapEff:\t0000000000000000\n",
        "CapBnd:\t0000000000000000\n",
        "NoNewPrivs:\t1\n",
        "Seccomp:\t2\n",
        "nofile=350 memlock=64\n",
        "root=read-only\n",
        "tmp=writable\n",
        "noexec",
        "env=b=c d\n",
        "links=lo",
    ] {
        assert!(out.contains(expected), "{expected:?} is not in {out}");
    }
    assert!(out.contains("init=/sbin/docker-init"), "{out}");
    assert!(!bench.exists(&name).await);
    bench.end().await;
}

#[tokio::test]
async fn limits_reach_the_engine() {
    let bench = DockerBench::new().await;
    let mut function = bench.function();
    function.tmpfs_mb = 1;
    function.cpus = domain::MilliCpus::new(250).expect("valid");
    let fill = "dd if=/dev/zero of=/tmp/x bs=1k count=2000 2>/dev/null; wc -c </tmp/x >/tmp/iofs/out; sleep 60";
    let spec = bench.script_of(&function, fill);
    let (name, out) = (spec.name.clone(), directory(&spec).join("out"));
    let container = run(&bench, spec).await;
    eventually("the end of the writing", async || {
        std::fs::read_to_string(&out).is_ok_and(|text| text.trim() == "1048576")
    })
    .await;
    let inspected = bench.inspect(&name).await.expect("there");
    let host = inspected.host_config.expect("a host part");
    assert_eq!(host.memory, Some(64 << 20));
    assert_eq!(host.memory_swap, Some(64 << 20));
    assert_eq!(host.memory_swappiness, Some(0));
    assert_eq!(host.cpu_quota, Some(25_000));
    assert_eq!(host.pids_limit, Some(50));
    container.remove().await;
    bench.end().await;
}

#[tokio::test]
async fn too_many_processes_are_refused() {
    let bench = DockerBench::with(|config| config.max_pids = 10).await;
    let spec = bench.script("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 60 & done; ls -d /proc/[0-9]* | wc -l >/tmp/iofs/out");
    let out = output(&bench, spec).await;
    // The shell ends when it cannot fork.
    assert_eq!(out, "");
    bench.end().await;
}

#[tokio::test]
async fn a_volume_is_mounted_whole() {
    let bench = DockerBench::new().await;
    let volume = unique();
    let mut spec = bench.script("mount | grep -c ' on /vol ' >/dev/null && exit 7");
    spec.socket_mount = SocketMount::Volume {
        name: volume.clone(),
        target: "/vol".into(),
    };
    let container = run(&bench, spec).await;
    assert_eq!(container.wait().await.code, 7);
    container.remove().await;
    // A named volume is not the container's own: it stays.
    bench
        .client
        .remove_volume(&volume, None::<RemoveVolumeOptions>)
        .await
        .expect("it was there");
    bench.end().await;
}

#[tokio::test]
async fn containers_are_spread_over_networks() {
    let names = [unique(), unique()];
    let client = engine::client(None).expect("a client");
    for name in &names {
        let request = NetworkCreateRequest {
            name: name.clone(),
            internal: Some(true),
            ..NetworkCreateRequest::default()
        };
        client.create_network(request).await.expect("a network");
    }
    let bench = DockerBench::with(|config| config.networks = names.clone().into()).await;
    let mut containers = Vec::new();
    let mut used = Vec::new();
    for at in 0..3 {
        let mut spec = bench.spec(Behaviour::Beat);
        spec.network_disabled = false;
        let name = spec.name.clone();
        containers.push(run(&bench, spec).await);
        let host = bench.inspect(&name).await.and_then(|it| it.host_config);
        used.push(host.and_then(|host| host.network_mode).expect("a network"));
        if at == 1 {
            // Its place is free again.
            containers.remove(0).remove().await;
        }
    }
    assert_eq!(used, [&*names[0], &*names[1], &*names[0]]);
    for container in containers {
        container.remove().await;
    }
    for name in &names {
        bench.client.remove_network(name).await.expect("removed");
    }
    bench.end().await;
}

#[tokio::test]
async fn without_syslog_there_is_no_container() {
    let bench = DockerBench::new().await;
    let mut function = bench.function();
    function.syslog_url = Some("tcp://127.0.0.1:1".to_owned());
    let container = bench.driver.create(bench.script_of(&function, "")).await;
    let error = container
        .expect("created")
        .start()
        .await
        .expect_err("no syslog");
    assert_eq!(
        (error.status(), error.message()),
        (500, "Syslog Unavailable")
    );
    bench.end().await;
}

#[tokio::test]
async fn syslog_gets_lines_with_tags() {
    let bench = DockerBench::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    let line = tokio::task::spawn_blocking(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let timeout = Some(Duration::from_secs(60));
        stream.set_read_timeout(timeout).expect("a time-out");
        let mut line = String::new();
        std::io::BufReader::new(stream)
            .read_line(&mut line)
            .expect("a line");
        line
    });
    let mut function = bench.function();
    function.syslog_url = Some(format!("tcp://{address}"));
    let spec = bench.script_of(&function, "echo hello; sleep 60");
    let container = run(&bench, spec).await;
    let line = line.await.expect("a line");
    // The engine's priority of standard output is that of user.info (14), of standard error <11>.
    assert!(line.starts_with("<14>1 "), "{line}");
    assert!(line.contains(" app_id=app,fn_id=fn "), "{line}");
    assert!(line.ends_with("app_id=app,fn_id=fn - hello\n"), "{line}");
    container.remove().await;
    bench.end().await;
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("lock")).into_owned()
    }
}

fn subscriber(log: &Log, level: tracing::Level) -> impl tracing::Subscriber + Send + Sync + use<> {
    let log = log.clone();
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(move || log.clone());
    let filter = tracing_subscriber::filter::LevelFilter::from_level(level);
    tracing_subscriber::registry().with(filter).with(layer)
}

#[tokio::test]
async fn output_is_logged_at_debug_level_and_only_there() {
    let log = Log::default();
    // Both live from here on: with a single one, whether a line is wanted is decided by whichever
    // test reaches that line first.
    let [debug, info] = [tracing::Level::DEBUG, tracing::Level::INFO]
        .map(|level| tracing::Dispatch::new(subscriber(&log, level)));
    let bench = {
        let guard = tracing::dispatcher::set_default(&debug);
        let bench = DockerBench::new().await;
        let spec = bench.script("echo to-out; echo to-err >&2; printf no-newline");
        let name = spec.name.clone();
        let container = bench.driver.create(spec).await.expect("created");
        let inspected = bench.inspect(&name).await.and_then(|it| it.config);
        assert_eq!(inspected.and_then(|it| it.attach_stdout), Some(true));
        container.start().await.expect("started");
        eventually("all lines", async || {
            let text = log.text();
            ["to-out", "to-err", "no-newline"]
                .iter()
                .all(|line| text.contains(line))
        })
        .await;
        let text = log.text();
        let line = text
            .lines()
            .find(|line| line.contains("to-out"))
            .expect("a line");
        for field in [
            "app_id=app",
            "fn_id=fn",
            "image=hearth-test/",
            "user_log=true",
        ] {
            assert!(line.contains(field), "{field} is not in {line}");
        }
        assert!(
            line.contains(&format!("container_id={:?}", container.id())),
            "{line}"
        );
        container.remove().await;
        drop(guard);
        bench
    };
    let guard = tracing::dispatcher::set_default(&info);
    let spec = bench.spec(Behaviour::Exit(0));
    let name = spec.name.clone();
    let container = bench.driver.create(spec).await.expect("created");
    let inspected = bench.inspect(&name).await.and_then(|it| it.config);
    assert_eq!(inspected.and_then(|it| it.attach_stdout), Some(false));
    container.remove().await;
    drop(guard);
    bench.end().await;
}

#[tokio::test]
async fn samples_are_collected_when_asked_for() {
    let bench = DockerBench::with(|config| config.collect_stats = true).await;
    let container = run(&bench, bench.spec(Behaviour::Beat)).await;
    let taken = Mutex::new(Vec::new());
    eventually("a sample", async || {
        let mut taken = taken.lock().expect("lock");
        taken.extend(container.take_stats());
        !taken.is_empty()
    })
    .await;
    let sample = taken.lock().expect("lock")[0].clone();
    assert_eq!(sample.values["mem_limit"], 64 << 20);
    assert!(sample.values["mem_usage"] > 0);
    assert_ne!(bench.metric("fn_docker_stats_mem_usage_count"), "0");
    container.remove().await;
    bench.end().await;
}

#[tokio::test]
async fn an_image_without_its_program_is_the_functions_fault() {
    let bench = DockerBench::new().await;
    let image = format!("hearth-test/{}:v1", unique());
    let scratch = crate::driver::docker::image_build::ScratchImage {
        tag: &image,
        files: vec![("nothing", b"")],
        entrypoint: vec!["/not-there"],
        ..Default::default()
    };
    crate::driver::docker::image_build::load(None, &scratch)
        .await
        .expect("loaded");
    let mut function = bench.function();
    function.image = image.clone();
    let deadline = Instant::now() + Duration::from_secs(60);
    bench
        .driver
        .prepare_image(&function, deadline)
        .await
        .expect("prepared");
    let container = bench
        .driver
        .create(bench.script_of(&function, ""))
        .await
        .expect("created");
    let error = container.start().await;
    // With an init, the engine starts the init, which finds nothing to run.
    match error {
        Err(error) => assert_eq!(error.code(), ErrorCode::ContainerInitFailed),
        Ok(()) => assert_ne!(container.wait().await.code, 0),
    }
    container.remove().await;
    super::bench::remove_image(&bench.client, &image).await;
    bench.end().await;
}

#[tokio::test]
async fn requests_are_measured() {
    let bench = DockerBench::new().await;
    let container = run(&bench, bench.spec(Behaviour::Exit(3))).await;
    assert_eq!(container.wait().await.code, 3);
    container.remove().await;
    let labels = r#"{api_name="docker_create_container",api_status="200"}"#;
    assert_eq!(
        bench.metric(&format!("fn_docker_api_latency_count{labels}")),
        "1"
    );
    let labels = r#"{api_name="docker_wait_container",exit_status="exit_3"}"#;
    assert_eq!(bench.metric(&format!("fn_docker_exits{labels}")), "1");
    let labels = r#"{event_action="die",event_type="container"}"#;
    assert_eq!(bench.metric(&format!("fn_docker_events{labels}")), "1");
    assert_ne!(bench.metric("fn_docker_instance_id"), "0");
    bench.end().await;
}

#[tokio::test]
async fn where_control_groups_are_out_of_reach_the_engine_freezes() {
    let bench = DockerBench::new().await;
    let direct = &bench.driver.shared.freezes_directly;
    direct.store(false, std::sync::atomic::Ordering::Relaxed);
    contract::a_frozen_container_stands_still_and_goes_on(&bench).await;
    contract::removal_works_frozen_or_not_and_twice(&bench).await;
    contract::a_container_that_has_ended_cannot_be_frozen(&bench).await;
    let pauses =
        r#"fn_docker_api_latency_count{api_name="docker_pause_container",api_status="200"}"#;
    assert_eq!(bench.metric(pauses), "4");
    bench.end().await;
}

#[tokio::test]
async fn less_memory_than_the_engine_allows_is_the_callers_fault() {
    let bench = DockerBench::new().await;
    let mut function = bench.function();
    function.memory_mb = 1;
    let created = bench.driver.create(bench.script_of(&function, ":")).await;
    let error = created.map(|_| ()).expect_err("too little");
    assert_eq!(error.code(), ErrorCode::ResourcesImpossible);
    assert!(
        error.message().to_lowercase().contains("minimum memory"),
        "{error}"
    );
    bench.end().await;
}

/// Else a driver that is closed would wait for what cannot come.
#[tokio::test]
async fn what_the_engine_has_failed_to_create_is_looked_for_once() {
    let bench = DockerBench::new().await;
    let failed = EngineError::Refused {
        status: 500,
        message: String::new(),
    };
    removal::remove_if_created(&bench.driver.shared.engine, &unique(), &failed).await;
    let looks =
        r#"fn_docker_api_latency_count{api_name="docker_remove_container",api_status="404"}"#;
    assert_eq!(bench.metric(looks), "1");
    bench.end().await;
}

#[tokio::test]
async fn what_a_broken_request_creates_late_is_removed() {
    let bench = DockerBench::new().await;
    let spec = bench.spec(Behaviour::Beat);
    let name = spec.name.clone();
    let engine = bench.driver.shared.engine.clone();
    let removal = removal::remove_if_created(&engine, &name, &EngineError::TimedOut);
    let late = async {
        // The first look found nothing.
        let looks = r#"fn_docker_api_latency_count{api_name="docker_remove_container""#;
        eventually("a look", async || !bench.metric(looks).is_empty()).await;
        let container = bench.driver.create(spec).await.expect("created");
        (container.id().to_owned(), container)
    };
    let ((), (id, container)) = tokio::join!(removal, late);
    assert!(!bench.exists(&id).await);
    container.remove().await;
    bench.end().await;
}
