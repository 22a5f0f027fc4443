//! The server as a process of its own, with everything it owns in a directory that goes with it.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::{Client, engine};

/// A running `hearth up`.
pub struct Server {
    // Dropped in this order: the directory goes after the process.
    process: Process,
    directory: TempDir,
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
        let tag = engine::new_tag(directory.path());
        let sockets = directory.path().join("iofs");
        let mut all = vec![
            ("FN_CONTAINER_LABEL_TAG".to_owned(), tag.clone()),
            ("FN_IOFS_PATH".to_owned(), sockets.display().to_string()),
        ];
        all.extend(
            settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let mut server = Self {
            process: Process::new("up", directory.path(), all),
            directory,
            tag,
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
        std::fs::create_dir_all(self.sockets()).expect("a directory for sockets");
        self.process.start().await;
        self.client = self.process.client();
        self.process.ready().await;
    }

    /// Where everything of this server is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The directory of the functions' sockets.
    pub fn sockets(&self) -> PathBuf {
        self.directory.path().join("iofs")
    }

    /// All that the server has logged since its last start.
    pub fn log_text(&self) -> String {
        self.process.log_text()
    }

    /// The log, line by line.
    pub fn log_lines(&self) -> Vec<Value> {
        self.process.log_lines()
    }

    /// The process id.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn pid(&self) -> u32 {
        self.process.pid()
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
        self.process.signal(signal);
    }

    /// Waits for the process to end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&mut self, patience: Duration) -> ExitStatus {
        self.process.ended(patience).await
    }

    /// Kills the process at once.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// The containers that this server, or an earlier one in the same place, has made.
    pub fn containers(&self) -> Vec<String> {
        engine::containers_of(&self.tag)
    }

    /// The value of a metric, such as `fn_completed`, or `fn_x{a="b"}`.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        self.client.metric(name).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.stop_at_once();
        engine::remove(&self.containers());
    }
}
