//! The server, with everything it owns in a directory that goes with it: `hearth up`, or, so that the
//! same tests show what a cluster does, an API node, a runner and a load balancer
//! (`HEARTH_TOPOLOGY=cluster`).

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::authority::Authority;
use crate::process::Process;
use crate::{Client, engine};

/// The nodes of a cluster, in the order in which they are started.
const CLUSTER: &[&str] = &["api", "runner", "lb"];

/// A running server.
pub struct Server {
    // Dropped in this order: the directory goes after the processes.
    /// The front door comes last, and is the only one of `hearth up`.
    nodes: Vec<Process>,
    directory: TempDir,
    /// The label of its containers.
    pub tag: String,
    /// A client of it.
    pub client: Client,
}

/// Whether a server of the tests is a cluster of processes.
pub fn is_cluster() -> bool {
    std::env::var("HEARTH_TOPOLOGY").is_ok_and(|topology| topology == "cluster")
}

impl Server {
    /// Starts a server with an empty store.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let kinds = if is_cluster() { CLUSTER } else { &["up"] };
        Self::start_nodes(kinds, settings, None).await
    }

    /// Starts `hearth up` with an empty store, whatever a server of the tests is.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start_single(settings: &[(&str, &str)]) -> Self {
        Self::start_nodes(&["up"], settings, None).await
    }

    /// Starts an API node, a runner and a load balancer with an empty store. With somebody who signs
    /// their certificates they speak mutual TLS.
    ///
    /// # Panics
    /// When they do not come up.
    pub async fn start_cluster(settings: &[(&str, &str)], authority: Option<&Authority>) -> Self {
        Self::start_nodes(CLUSTER, settings, authority).await
    }

    async fn start_nodes(
        kinds: &[&'static str],
        settings: &[(&str, &str)],
        authority: Option<&Authority>,
    ) -> Self {
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
        let node = |kind: &&'static str| {
            let place = match *kind {
                "up" => directory.path().to_owned(),
                kind => directory.path().join(kind),
            };
            std::fs::create_dir_all(&place).expect("a directory for the node");
            let mut settings = all.clone();
            if let Some(authority) = authority {
                authority.equip(&place, kind, &[authority]);
                settings.extend(Authority::settings(&place));
            }
            Process::new(kind, &place, settings).keep_addresses()
        };
        let mut server = Self {
            nodes: kinds.iter().map(node).collect(),
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
        let mut api: Option<(String, Client)> = None;
        for node in &mut self.nodes {
            if let Some((grpc, _)) = &api {
                node.set("FN_RUNNER_API_URL", grpc);
            }
            node.start().await;
            if node.kind() == "api" {
                api = Some((node.grpc_address().to_owned(), node.client()));
            }
        }
        let front = self.front().client();
        self.client = match &api {
            Some((_, api)) => front.with_api(api),
            None => front,
        };
        for node in &self.nodes {
            node.ready().await;
        }
    }

    fn front(&self) -> &Process {
        self.nodes.last().expect("a server has a front door")
    }

    /// The node that has the containers.
    fn runner(&self) -> &Process {
        let runner = self.nodes.iter().find(|node| node.kind() == "runner");
        runner.unwrap_or_else(|| self.front())
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
        self.nodes.iter().map(Process::log_text).collect()
    }

    /// The log, line by line.
    pub fn log_lines(&self) -> Vec<Value> {
        self.nodes.iter().flat_map(Process::log_lines).collect()
    }

    /// The process id of the node that has the containers.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn pid(&self) -> u32 {
        self.runner().pid()
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
        self.nodes.iter().for_each(|node| node.signal(signal));
    }

    /// Waits for every node to end; the status of the first that failed, or else of the last.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&mut self, patience: Duration) -> ExitStatus {
        let mut last = None;
        for node in &mut self.nodes {
            let status = node.ended(patience).await;
            if last.is_none_or(|last: ExitStatus| last.success()) {
                last = Some(status);
            }
        }
        last.expect("a server has nodes")
    }

    /// Kills every node at once.
    ///
    /// # Panics
    /// When the server is not running.
    pub fn kill(&mut self) {
        self.nodes.iter_mut().for_each(Process::kill);
    }

    /// The containers that this server, or an earlier one in the same place, has made.
    pub fn containers(&self) -> Vec<String> {
        engine::containers_of(&self.tag)
    }

    /// The value of a metric, such as `fn_completed`, or `fn_x{a="b"}`, of the node that has the
    /// containers, or else of the first that has it.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let others = self.nodes.iter().filter(|node| node.kind() != "runner");
        for node in std::iter::once(self.runner()).chain(others) {
            if let Some(value) = node.client().metric(name).await {
                return Some(value);
            }
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(Process::stop_at_once);
        engine::remove(&self.containers());
    }
}
