//! A real image registry (Debian's `docker-registry`) on loopback, with one user.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::engine::docker;
use crate::eventually;

const USER: &str = "user";
const PASSWORD: &str = "a password?>~";

/// A running registry, with the configuration of a Docker client that knows its user.
pub struct Registry {
    process: Child,
    directory: TempDir,
    /// Host and port, as they stand in the names of images.
    pub address: String,
}

impl Registry {
    /// Starts an empty registry.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().display();
        let users = Command::new("htpasswd")
            .args(["-Bbn", "-C", "4", USER, PASSWORD])
            .output()
            .expect("htpasswd runs");
        std::fs::write(directory.path().join("users"), users.stdout).expect("a file");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("it is bound").to_string();
        drop(free);
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {path}/data}}}}\n\
             http: {{addr: '{address}'}}\nauth: {{htpasswd: {{realm: test, path: {path}/users}}}}\n"
        );
        let config_file = directory.path().join("config.yml");
        std::fs::write(&config_file, config).expect("a file");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(config_file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry runs");
        let registry = Self {
            process,
            directory,
            address,
        };
        std::fs::create_dir(registry.client_directory().join(".docker")).expect("a directory");
        std::fs::write(
            registry.client_directory().join(".docker/config.json"),
            registry.auth(),
        )
        .expect("a file");
        eventually("the registry listens", async || {
            TcpStream::connect(&registry.address).await.ok()
        })
        .await;
        registry
    }

    /// The home directory of somebody whose Docker client knows the user.
    pub fn client_directory(&self) -> &Path {
        self.directory.path()
    }

    /// The user's credentials, as they stand in a Docker client's configuration.
    pub fn auth(&self) -> String {
        self.auth_with(PASSWORD)
    }

    /// The same with another password.
    pub fn auth_with(&self, password: &str) -> String {
        let auth = STANDARD.encode(format!("{USER}:{password}"));
        format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, self.address)
    }

    /// Puts an image of the engine into the registry, and takes its new name from the engine.
    ///
    /// # Panics
    /// When the registry does not take it.
    pub fn push(&self, image: &str, name: &str) -> String {
        let pushed = format!("{}/{name}:1", self.address);
        docker(&["tag", image, &pushed]);
        let client = self.client_directory().join(".docker");
        docker(&[
            "--config",
            &client.to_string_lossy(),
            "push",
            "--quiet",
            &pushed,
        ]);
        self.forget(&pushed);
        pushed
    }

    /// Takes the name of an image from the engine. The layers stay as long as another image has them.
    pub fn forget(&self, image: &str) {
        let _ = Command::new("docker")
            .args(["rmi", "--no-prune", image])
            .output();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
