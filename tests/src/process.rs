//! One node as a process of its own, with its log in a file.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use serde_json::Value;

use crate::eventually::{PATIENCE, eventually};
use crate::netns::Host;
use crate::{Client, binary, eventually_within};

/// A node that runs, or ran.
pub struct Process {
    kind: &'static str,
    directory: PathBuf,
    settings: Vec<(String, String)>,
    child: Option<Child>,
    /// Where it serves HTTP; kept from one start to the next.
    address: Option<String>,
    /// Where it serves gRPC, if it does; kept too.
    grpc_address: Option<String>,
    keep_addresses: bool,
    /// Where in a network it runs, if not on the machine itself.
    host: Option<Host>,
    /// What runs, if it is not the usual binary.
    program: Option<PathBuf>,
    starts: u32,
}

impl Process {
    /// A node of a kind such as `up`, that works in `directory`. It does not run yet.
    pub fn new(kind: &'static str, directory: &Path, settings: Vec<(String, String)>) -> Self {
        Self {
            kind,
            directory: directory.to_owned(),
            settings,
            child: None,
            address: None,
            grpc_address: None,
            keep_addresses: false,
            host: None,
            program: None,
            starts: 0,
        }
    }

    /// What kind of node it is.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// From now on each start takes the addresses of the first one.
    pub fn keep_addresses(mut self) -> Self {
        self.keep_addresses = true;
        self
    }

    /// It runs in this host of a network.
    pub fn in_host(mut self, host: &Host) -> Self {
        self.host = Some(host.clone());
        self
    }

    /// It is this binary that runs.
    pub fn with_program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// Starts the node and waits until it listens.
    ///
    /// # Panics
    /// When it runs already, or ends instead.
    pub async fn start(&mut self) {
        self.launch();
        // HTTP comes last.
        eventually("the node listens", async || {
            assert!(
                !self.has_ended(),
                "the {} ended:\n{}",
                self.kind,
                self.log_text()
            );
            self.listens().then_some(())
        })
        .await;
    }

    /// Starts a node that may end before it listens, because what it needs is away or because it is
    /// told to die; as often as it takes.
    ///
    /// # Panics
    /// When it runs already, or never comes to listen.
    pub async fn start_somehow(&mut self) {
        self.launch();
        eventually_within(2 * PATIENCE, "the node listens at last", async || {
            if self.has_ended() {
                self.launch();
            }
            self.listens().then_some(())
        })
        .await;
    }

    fn launch(&mut self) {
        assert!(self.child.is_none(), "the node is running");
        if self.starts > 0 {
            // For whoever wants to know how it died.
            let kept = format!("log.{}", self.starts);
            let _ = std::fs::rename(self.log(), self.directory.join(kept));
        }
        self.starts += 1;
        let log = File::create(self.log()).expect("a log file");
        let program = match &self.program {
            Some(program) => program,
            None => binary::hearth(),
        };
        let mut command = match &self.host {
            Some(host) => host.command(program),
            None => Command::new(program),
        };
        command
            .arg(self.kind)
            .current_dir(&self.directory)
            .stderr(log);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FN_")) {
            command.env_remove(name);
        }
        command
            .env("FN_PORT", "0")
            .env("FN_GRPC_PORT", "0")
            .env("FN_LOG_FORMAT", "json")
            .env("FN_LOG_LEVEL", "debug")
            .envs(self.settings.iter().map(|(name, value)| (name, value)));
        if self.keep_addresses {
            let port = |address: &Option<String>| {
                let address = address.as_deref()?;
                Some(address.rsplit_once(':')?.1.to_owned())
            };
            command.envs(port(&self.address).map(|port| ("FN_PORT", port)));
            command.envs(port(&self.grpc_address).map(|port| ("FN_GRPC_PORT", port)));
        }
        self.child = Some(command.spawn().expect("hearth starts"));
    }

    /// Whether the node listens, and where.
    fn listens(&mut self) -> bool {
        let lines = self.log_lines();
        if !lines.iter().any(|line| line["address"].is_string()) {
            return false;
        }
        let told = |name: &str| {
            let address = lines.iter().find_map(|line| line[name].as_str())?;
            let reached_at = match &self.host {
                Some(host) => host.address(),
                None => Ipv4Addr::LOCALHOST,
            };
            Some(address.replace("0.0.0.0", &reached_at.to_string()))
        };
        self.address = told("address");
        self.grpc_address = told("grpc_address");
        true
    }

    /// Whether the process has ended, or was never started; it can be started again then.
    ///
    /// # Panics
    /// It is nobody's child.
    pub fn has_ended(&mut self) -> bool {
        let Some(child) = &mut self.child else {
            return true;
        };
        let ended = child.try_wait().expect("a child").is_some();
        if ended {
            self.child = None;
        }
        ended
    }

    /// Waits until the node says that it is ready.
    pub async fn ready(&self) {
        let client = self.client();
        eventually("the node is ready", async || {
            client
                .get("/readyz")
                .await
                .status
                .is_success()
                .then_some(())
        })
        .await;
    }

    /// Changes a setting of the starts to come.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(other, _)| other != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Where the node serves HTTP, as `host:port`.
    ///
    /// # Panics
    /// Before its first start.
    pub fn address(&self) -> &str {
        self.address.as_deref().expect("the node was started")
    }

    /// Where the node serves gRPC, as `host:port`.
    ///
    /// # Panics
    /// When it does not.
    pub fn grpc_address(&self) -> &str {
        self.grpc_address.as_deref().expect("the node serves gRPC")
    }

    /// A client of the node.
    pub fn client(&self) -> Client {
        Client::new(format!("http://{}", self.address()))
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// All that the node has logged since its last start.
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
    /// When the node is not running.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node is running").id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the node is not running.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().expect("the node is running");
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).expect("a running process takes signals");
    }

    /// Waits for the process to end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn ended(&mut self, patience: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("the node is running");
        let status = eventually_within(patience, "the node ends", async || {
            child.try_wait().expect("a child")
        });
        status.await
    }

    /// Kills the process at once.
    ///
    /// # Panics
    /// When the node is not running.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the node is running");
        child.kill().expect("a running process can be killed");
        child.wait().expect("a killed process ends");
    }
}

impl Process {
    /// Kills the process if it runs. What it made may be cleared away then.
    pub fn stop_at_once(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop_at_once();
        if std::thread::panicking() {
            let text = self.log_text();
            let from = text.len().saturating_sub(20_000);
            eprintln!(
                "the log of the {} ends:\n{}",
                self.kind,
                String::from_utf8_lossy(&text.as_bytes()[from..])
            );
        }
    }
}
