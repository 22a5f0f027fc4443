//! An engine of its own, which may be killed, and whose images may be removed.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::bench::{BUSYBOX, DockerBench, load_image, unique};
use crate::driver::Driver as _;
use crate::driver::contract::{Behaviour, Bench as _, beats, directory, eventually};
use crate::driver::docker::engine;

/// A Docker engine with a directory of its own, and without networks.
struct PrivateEngine {
    process: Option<Child>,
    dir: tempfile::TempDir,
}

impl PrivateEngine {
    async fn start() -> Self {
        assert!(Path::new(BUSYBOX).exists());
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("daemon.json"), "{}").expect("written");
        let mut engine = Self { process: None, dir };
        engine.resume().await;
        engine
    }

    fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.dir.path().display())
    }

    async fn resume(&mut self) {
        let path = |name: &str| self.dir.path().join(name);
        // In a network of its own: an engine without a bridge deletes the one that it finds.
        let process = Command::new("unshare")
            .args(["--net", "dockerd"])
            .arg("--config-file")
            .arg(path("daemon.json"))
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .args(["--host", &self.host(), "--storage-driver", "vfs"])
            .args(["--bridge", "none", "--iptables=false", "--ip-masq=false"])
            // Not where engines usually put their control groups.
            .args(["--cgroup-parent", "hearth-test"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dockerd is installed");
        self.process = Some(process);
        let host = self.host();
        eventually("the engine", async || match engine::client(Some(&host)) {
            Ok(client) => client.ping().await.is_ok(),
            Err(_) => false,
        })
        .await;
    }

    /// Ends it as an administrator would; containers end with it.
    async fn stop(&mut self) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        let pid = rustix::process::Pid::from_child(&process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
        eventually("the engine's end", async || {
            matches!(process.try_wait(), Ok(Some(_)))
        })
        .await;
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = rustix::process::Pid::from_child(&process);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = process.wait();
        }
    }
}

#[tokio::test]
async fn an_engine_may_go_away_and_come_back() {
    let mut engine = PrivateEngine::start().await;
    let bench = DockerBench::on(Some(engine.host()), |_| ()).await;
    let mut containers = Vec::new();
    for _ in 0..2 {
        let spec = bench.spec(Behaviour::Beat);
        let directory = directory(&spec);
        let container = bench.driver.create(spec).await.expect("created");
        container.start().await.expect("started");
        beats(&directory).await;
        containers.push(container);
    }
    // In a place of its own, it is still frozen without the engine.
    containers[0].freeze().await.expect("frozen");
    containers[0].thaw().await.expect("thawed");
    assert_eq!(
        bench.metric("fn_docker_api_latency_count{api_name=\"docker_pause_container\""),
        ""
    );

    engine.stop().await;
    assert!(bench.driver.ping().await.is_err());
    assert_eq!(bench.driver.ping().await.expect_err("away").status(), 503);
    let busy = bench
        .driver
        .create(bench.spec(Behaviour::Beat))
        .await
        .map(|_| ());
    assert_eq!(busy.expect_err("away").status(), 503);
    let away = containers.pop().expect("two");
    let removal = tokio::spawn(async move { away.remove().await });
    engine.resume().await;
    removal.await.expect("removed");
    // The engine's end was the container's.
    let exit = containers[0].wait().await;
    assert_ne!(exit.code, 0);
    drop(containers);
    let spec = bench.spec(Behaviour::Exit(4));
    let next = bench.driver.create(spec).await.expect("created");
    next.start().await.expect("started");
    assert_eq!(next.wait().await.code, 4);
    next.remove().await;
    bench.end().await;
    engine.stop().await;
}

#[tokio::test]
async fn unused_images_are_removed() {
    let mut engine = PrivateEngine::start().await;
    let host = engine.host();
    let exempt = format!("hearth-test/{}:v1", unique());
    let unused = format!("hearth-test/{}:v1", unique());
    load_image(Some(&host), &exempt, Vec::new()).await;
    load_image(Some(&host), &unused, Vec::new()).await;
    let bench = DockerBench::on(Some(host), |config| {
        config.image_clean_max_size = 1;
        config.image_clean_exempt_tags = vec![exempt.clone()];
    })
    .await;
    let is_there = async |image: &str| bench.client.inspect_image(image).await.is_ok();
    eventually("removal", async || !is_there(&unused).await).await;
    assert!(is_there(&exempt).await);
    eventually("removal", async || !is_there(&bench.image).await).await;

    // An image that is in use stays until the container is gone.
    load_image(bench.config().host.as_deref(), &bench.image, Vec::new()).await;
    let container = {
        let spec = bench.spec(Behaviour::Beat);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        bench
            .driver
            .prepare_image(&spec.function, deadline)
            .await
            .expect("there");
        bench.driver.create(spec).await.expect("created")
    };
    eventually("the metric", async || {
        bench.metric("fn_image_cleaner_busy_img_count") == "1"
    })
    .await;
    assert!(is_there(&bench.image).await);
    container.remove().await;
    eventually("removal", async || !is_there(&bench.image).await).await;
    assert_eq!(bench.metric("fn_image_cleaner_max_img_size"), "1");
    bench.end().await;
    engine.stop().await;
}
