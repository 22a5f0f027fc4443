//! The real Docker engine, asked through its own command line.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::eventually;

use serde_json::Value;

/// Runs `docker` and answers with what it printed.
///
/// # Panics
/// When it fails.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker")
        .args(arguments)
        .output()
        .expect("the docker command runs");
    assert!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The address of the machine itself in the engine's usual network, where containers reach it.
///
/// # Panics
/// Without such a network.
pub fn outside() -> Ipv4Addr {
    let output = Command::new("ip")
        .args(["-4", "-oneline", "address", "show", "docker0"])
        .output()
        .expect("ip");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace().skip_while(|word| *word != "inet");
    let address = words.nth(1).and_then(|word| word.split('/').next());
    let address = address.expect("the engine has a bridge");
    address.parse().expect("an address")
}

/// A label tag that belongs to a temporary directory, and so to one test.
///
/// # Panics
/// For a path without a name.
pub fn new_tag(directory: &Path) -> String {
    let name = directory
        .file_name()
        .expect("it has a name")
        .to_string_lossy();
    format!("test-{}", name.trim_start_matches('.'))
}

/// The ids of all containers, running or not, that a server with this label tag has made.
pub fn containers_of(tag: &str) -> Vec<String> {
    let filter = format!("label=fn-agent-classifier={tag}");
    docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter])
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Removes containers, whatever state they are in.
pub fn remove(containers: &[String]) {
    for container in containers {
        // A frozen container cannot be killed; one that is gone already is fine.
        let _ = Command::new("docker").args(["unpause", container]).output();
        let _ = Command::new("docker")
            .args(["rm", "--force", "--volumes", container])
            .output();
    }
}

/// What the engine knows of a container.
///
/// # Panics
/// When there is no such container.
pub fn inspect(container: &str) -> Value {
    let text = docker(&[
        "inspect",
        "--type",
        "container",
        "--format",
        "{{json .}}",
        container,
    ]);
    serde_json::from_str(&text).expect("the engine says JSON")
}

/// A second engine, which may be stopped. It is in a network namespace of its own, because an engine
/// without a bridge deletes the one that it finds.
pub struct PrivateEngine {
    process: Option<Child>,
    directory: TempDir,
}

impl PrivateEngine {
    /// Starts an engine without images.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start() -> Self {
        let mut engine = Self {
            process: None,
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        engine.resume().await;
        engine
    }

    /// Its address.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path("docker.sock"))
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Starts it again, on what it left behind.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn resume(&mut self) {
        std::fs::write(self.path("daemon.json"), "{}").expect("a configuration");
        let process = Command::new("unshare")
            .args([
                "--net",
                "dockerd",
                "--config-file",
                &self.path("daemon.json"),
            ])
            .args([
                "--data-root",
                &self.path("data"),
                "--exec-root",
                &self.path("exec"),
                "--pidfile",
                &self.path("pid"),
            ])
            .args(["--host", &self.host(), "--storage-driver", "vfs"])
            .args(["--bridge", "none", "--iptables=false", "--ip-masq=false"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dockerd is installed");
        self.process = Some(process);
        let host = self.host();
        eventually("the second engine answers", async || {
            let info = Command::new("docker")
                .args(["--host", &host, "info"])
                .output()
                .expect("docker runs");
            info.status.success().then_some(())
        })
        .await;
    }

    /// Stops it as an administrator would; its containers end.
    ///
    /// # Panics
    /// When it does not stop.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("the engine is running");
        let pid = Pid::from_child(&process);
        kill_process(pid, Signal::TERM).expect("a running process takes signals");
        eventually("the second engine stops", async || {
            process.try_wait().expect("a child")
        })
        .await;
    }

    /// Copies an image from the usual engine.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn copy_image(&self, image: &str) {
        let copy = format!("docker save {image} | docker --host {} load", self.host());
        let output = Command::new("sh")
            .args(["-c", &copy])
            .output()
            .expect("a shell runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It ends its containers and gives back its mounts only when it is asked.
            let _ = kill_process(Pid::from_child(&process), Signal::TERM);
            let _ = process.wait();
        }
    }
}

/// Whether all processes of a container stand still, by the word of the kernel.
pub fn is_frozen(container: &str) -> bool {
    let says = |path: String, word: &str| {
        std::fs::read_to_string(path)
            .ok()
            .map(|state| state.trim() == word)
    };
    says(
        format!("/sys/fs/cgroup/freezer/docker/{container}/freezer.state"),
        "FROZEN",
    )
    .or_else(|| {
        says(
            format!("/sys/fs/cgroup/system.slice/docker-{container}.scope/cgroup.freeze"),
            "1",
        )
    })
    .or_else(|| {
        says(
            format!("/sys/fs/cgroup/docker/{container}/cgroup.freeze"),
            "1",
        )
    })
    .unwrap_or_else(|| inspect(container)["State"]["Paused"] == true)
}
