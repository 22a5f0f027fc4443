//! A driver on the real engine with an image of its own, and the removal of both.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bollard::Docker;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptions, RemoveContainerOptions, RemoveImageOptions,
};
use nodekit::metrics::Metrics;

use crate::driver::contract::{Behaviour, Bench, container_spec, function_spec};
use crate::driver::docker::config::DockerConfig;
use crate::driver::docker::engine;
use crate::driver::docker::image_build::{self, ScratchImage};
use crate::driver::docker::instance::CLASSIFIER_LABEL;
use crate::driver::docker::metrics::DockerMetrics;
use crate::driver::docker::{DockerDriver, startup::ConnectError};
use crate::driver::{ContainerSpec, Driver};
use domain::FnSpec;

/// A statically linked shell.
pub(super) const BUSYBOX: &str = "/bin/busybox";

const BEAT: &str = "i=0; while :; do i=$((i+1)); echo $i >/tmp/iofs/new; mv /tmp/iofs/new /tmp/iofs/beat; usleep 2000; done";
const PRINT: &str = "echo one; echo two >&2; echo three; echo four >&2";
const EXHAUST_MEMORY: &str = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";

/// A driver under test. Everything it makes bears a label of its own.
pub(super) struct DockerBench {
    pub(super) driver: DockerDriver,
    pub(super) client: Docker,
    pub(super) metrics: Metrics,
    pub(super) image: String,
    pub(super) dir: tempfile::TempDir,
    host: Option<String>,
    tag: String,
}

/// A name that nothing else has.
pub(super) fn unique() -> String {
    format!("{:026x}", rand::random::<u128>() >> 24)
}

/// An image with a shell that runs `$SCRIPT`. Each has an id of its own.
pub(super) async fn load_image(host: Option<&str>, tag: &str, volumes: Vec<&str>) {
    let busybox = std::fs::read(BUSYBOX).expect("busybox-static is installed");
    let own = format!("OWN={}", unique());
    let image = ScratchImage {
        tag,
        files: vec![("bin/busybox", &busybox)],
        entrypoint: vec!["/bin/busybox", "sh", "-c", "eval \"$SCRIPT\""],
        env: vec![&own],
        volumes,
    };
    image_build::load(host, &image).await.expect("loaded");
}

pub(super) async fn remove_image(client: &Docker, image: &str) {
    let options = RemoveImageOptions {
        force: true,
        ..RemoveImageOptions::default()
    };
    let _ = client.remove_image(image, Some(options), None).await;
}

impl DockerBench {
    pub(super) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut DockerConfig)) -> Self {
        Self::on(None, change).await
    }

    pub(super) async fn on(host: Option<String>, change: impl FnOnce(&mut DockerConfig)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // User 1000 of a container must get through.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("opened");
        let image = format!("hearth-test/{}:v1", unique());
        load_image(host.as_deref(), &image, Vec::new()).await;
        let tag = unique();
        let mut config = DockerConfig {
            host: host.clone(),
            state_dir: dir.path().to_owned(),
            label_tag: Some(tag.clone()),
            ..DockerConfig::default()
        };
        change(&mut config);
        let (driver, metrics) = connect(config).await.expect("connected");
        Self {
            driver,
            client: engine::client(host.as_deref()).expect("a client"),
            metrics,
            image,
            dir,
            host,
            tag,
        }
    }

    /// The settings with which another driver is a neighbour, or successor, of this one.
    pub(super) fn config(&self) -> DockerConfig {
        DockerConfig {
            host: self.host.clone(),
            state_dir: self.dir.path().to_owned(),
            label_tag: Some(self.tag.clone()),
            ..DockerConfig::default()
        }
    }

    pub(super) fn function(&self) -> FnSpec {
        function_spec(&self.image)
    }

    /// A container of `function` that runs a shell script.
    pub(super) fn script_of(&self, function: &FnSpec, script: &str) -> ContainerSpec {
        let name = unique();
        let mut spec = container_spec(function, &name, self.socket_dir(&name));
        spec.env.insert("SCRIPT".to_owned(), script.to_owned());
        spec
    }

    pub(super) fn script(&self, script: &str) -> ContainerSpec {
        self.script_of(&self.function(), script)
    }

    fn socket_dir(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir(&path).expect("made");
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&path, open).expect("opened");
        path
    }

    pub(super) async fn inspect(&self, name: &str) -> Option<ContainerInspectResponse> {
        let answer = self
            .client
            .inspect_container(name, None::<InspectContainerOptions>);
        answer.await.ok()
    }

    /// The text that a metric has in the rendered metrics; empty when it has none.
    pub(super) fn metric(&self, start: &str) -> String {
        let text = self.metrics.render();
        let line = text.lines().find(|line| line.starts_with(start));
        line.and_then(|line| line.rsplit(' ').next())
            .unwrap_or_default()
            .to_owned()
    }
}

/// A driver with metrics of its own.
pub(super) async fn connect(config: DockerConfig) -> Result<(DockerDriver, Metrics), ConnectError> {
    let mut metrics = Metrics::new();
    let handles = DockerMetrics::new(&mut metrics);
    Ok((DockerDriver::connect(config, handles).await?, metrics))
}

impl Bench for DockerBench {
    fn driver(&self) -> &dyn Driver {
        &self.driver
    }

    fn spec(&self, behaviour: Behaviour) -> ContainerSpec {
        match behaviour {
            Behaviour::Beat => self.script(BEAT),
            Behaviour::Print => self.script(PRINT),
            Behaviour::Exit(code) => self.script(&format!("exit {code}")),
            Behaviour::ExhaustMemory => {
                let mut function = self.function();
                function.memory_mb = 16;
                self.script_of(&function, EXHAUST_MEMORY)
            }
        }
    }

    async fn exists(&self, name: &str) -> bool {
        self.inspect(name).await.is_some()
    }

    async fn end(self) {
        self.driver.close().await;
        remove_image(&self.client, &self.image).await;
        let left = left_behind(&self.client, &self.tag).await;
        assert_eq!(left, Vec::<String>::new(), "containers are left behind");
    }
}

async fn left_behind(client: &Docker, tag: &str) -> Vec<String> {
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([(
            "label".to_owned(),
            vec![format!("{CLASSIFIER_LABEL}={tag}")],
        )])),
        ..ListContainersOptions::default()
    };
    let list = client.list_containers(Some(options)).await.expect("a list");
    list.into_iter()
        .filter_map(|container| container.id)
        .collect()
}

impl Drop for DockerBench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // A failed test leaves nothing behind either.
        let (host, tag, image) = (self.host.clone(), self.tag.clone(), self.image.clone());
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                let Ok(client) = engine::client(host.as_deref()) else {
                    return;
                };
                for id in left_behind(&client, &tag).await {
                    let _ = client.unpause_container(&id).await;
                    let group = format!("/sys/fs/cgroup/freezer/docker/{id}/freezer.state");
                    let _ = std::fs::write(group, "THAWED");
                    let options = RemoveContainerOptions {
                        force: true,
                        v: true,
                        link: false,
                    };
                    let _ = client.remove_container(&id, Some(options)).await;
                }
                remove_image(&client, &image).await;
            });
        });
        let _ = cleaner.join();
    }
}
