//! The server as a process of its own, with everything it owns in a directory that goes with it.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::{Client, binary, engine, eventually_within};

/// A running `hearth up`.
pub struct Server {
    process: Option<Child>,
    directory: TempDir,
    settings: Vec<(String, String)>,
    /// The label of its containers.
    pub tag: String,
    /// A client of it.
    pub client: Client,
}

impl Server {
    /// Starts a server with an empty store.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let tag = directory
            .path()
            .file_name()
            .expect("it has a name")
            .to_string_lossy()
            .trim_start_matches('.')
            .to_owned();
        let mut server = Self {
            process: None,
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            directory,
            tag: format!("test-{tag}"),
            client: Client::new(""),
        };
        server.restart().await;
        server
    }

    /// Starts the server again, on what the last one left behind.
    ///
    /// # Panics
    /// When one is running, or when it does not come up.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "the server is running");
        let log = File::create(self.log()).expect("a log file");
        let sockets = self.sockets();
        std::fs::create_dir_all(&sockets).expect("a directory for sockets");
        let mut command = Command::new(binary::hearth());
        command
            .arg("up")
            .current_dir(self.directory.path())
            .stderr(log);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FN_")) {
            command.env_remove(name);
        }
        command
            .env("FN_PORT", "0")
            .env("FN_LOG_FORMAT", "json")
            .env("FN_LOG_LEVEL", "debug")
            .env("FN_CONTAINER_LABEL_TAG", &self.tag)
            .env("FN_IOFS_PATH", sockets)
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        self.process = Some(command.spawn().expect("hearth starts"));
        let address = eventually("the server listens", async || {
            let status = self
                .process
                .as_mut()
                .and_then(|process| process.try_wait().ok()?);
            assert!(
                status.is_none(),
                "the server ended: {status:?}\n{}",
                self.log_text()
            );
            self.log_lines()
                .iter()
                .find_map(|line| Some(line["address"].as_str()?.to_owned()))
        })
        .await;
        self.client = Client::new(format!("http://{address}"));
        eventually("the server is ready", async || {
            self.client
                .get("/readyz")
                .await
                .status
                .is_success()
                .then_some(())
        })
        .await;
    }

    /// Where everything of this server is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of the functions' sockets.
    pub fn sockets(&self) -> PathBuf {
        self.directory.path().join("iofs")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// All that the server has logged since its last start.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// The log, line by line.
    pub fn log_lines(&self) -> Vec<Value> {
        let Ok(log) = File::open(self.log()) else {
            return Vec::new();
        };
        BufReader::new(log)
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| serde_json::from_str(&line).ok())
            .collect()
    }

    /// The process id.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server is running").id()
    }

    /// The resident memory of the process, in bytes.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn resident_memory(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The largest resident memory of the process since it started, or since
    /// [`Server::forget_peak_memory`], in bytes.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Lets the peak begin anew.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn forget_peak_memory(&self) {
        let path = format!("/proc/{}/clear_refs", self.pid());
        std::fs::write(path, "5").expect("a process of ours");
    }

    fn memory(&self, line: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("a running process");
        let kib = status.lines().find_map(|text| {
            let kib = text.strip_prefix(line)?.strip_suffix("kB")?;
            kib.trim().parse::<u64>().ok()
        });
        kib.expect("a process has memory") * 1024
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid =
            rustix::process::Pid::from_child(self.process.as_ref().expect("the server is running"));
        rustix::process::kill_process(pid, signal).expect("a running process takes signals");
    }

    /// Waits for the process to end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&mut self, patience: Duration) -> ExitStatus {
        let mut process = self.process.take().expect("the server is running");
        let status = eventually_within(patience, "the server ends", async || {
            process.try_wait().expect("a child")
        });
        status.await
    }

    /// Kills the process at once.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("the server is running");
        process.kill().expect("a running process can be killed");
        process.wait().expect("a killed process ends");
    }

    /// The containers that this server, or an earlier one in the same place, has made.
    pub fn containers(&self) -> Vec<String> {
        engine::containers_of(&self.tag)
    }

    /// The value of a metric, such as `fn_completed`, or `fn_x{a="b"}`.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.client.get("/metrics").await.text();
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Whatever the test has shown: what it made must go.
            let _ = process.kill();
            let _ = process.wait();
        }
        engine::remove(&self.containers());
        if std::thread::panicking() {
            let text = self.log_text();
            let from = text.len().saturating_sub(20_000);
            eprintln!(
                "the server's log ends:\n{}",
                String::from_utf8_lossy(&text.as_bytes()[from..])
            );
        }
    }
}
