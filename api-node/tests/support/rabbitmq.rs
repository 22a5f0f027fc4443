//! A private RabbitMQ broker for tests: a node with a directory, names and ports of its own on
//! loopback, gone with the process that started it, however that process ends.
//!
//! Needs only `std` and `tempfile`, so that any crate's tests can include this file by its path.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::panic,
    reason = "only tests include this file, and each uses a part of it"
)]

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What is run; a directory that has only some of them is passed over.
const PROGRAMS: [&str; 2] = ["rabbitmq-server", "rabbitmqctl"];
/// How often other ports are tried when somebody took those that were free a moment ago.
const PORT_TRIES: u32 = 5;
const MISSING: &str = "these tests need RabbitMQ 3.10 or newer, and found no rabbitmq-server in \
    /usr/lib/rabbitmq/bin or on the PATH: install it (Debian and Ubuntu: scripts/ensure rabbitmq)";
/// The last words of a start that went well.
const STARTED: &str = "completed with";

/// Ends the broker and removes the directory as soon as the pipe from the tests' process closes.
/// Signals of a terminal are for the tests; this has to outlive them.
const JANITOR: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
for file in "$1/pid" "$1/epmd.pid"; do
    if [ -f "$file" ]; then kill -KILL "$(cat "$file")"; fi
done
rm -rf "$1"
"#;

/// Becomes the program that is named, and leaves its process id in a file.
const NOTED: &str = r#"echo $$ >"$0" && exec "$@""#;

/// The certificate of a broker that speaks TLS, and its key, as PEM.
pub struct Certificate {
    pub cert: String,
    pub key: String,
}

/// A running broker.
pub struct Broker {
    binaries: PathBuf,
    directory: PathBuf,
    data: PathBuf,
    tls: bool,
    ports: Ports,
    server: Mutex<Option<Child>>,
    names: Option<Child>,
    janitor: Child,
}

#[derive(Default, Clone, Copy)]
struct Ports {
    amqp: u16,
    amqps: u16,
    distribution: u16,
    names: u16,
}

impl Broker {
    /// The broker that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A broker of one's own, to be killed and started; gone when dropped.
    ///
    /// # Panics
    /// If RabbitMQ is not installed or does not start; the message says what to do.
    pub fn start() -> Self {
        Self::start_with(None, None)
    }

    /// The same, with a listener for TLS.
    pub fn start_with_tls(certificate: &Certificate) -> Self {
        Self::start_with(Some(certificate), None)
    }

    /// A broker whose data are in this empty directory, such as one on a disk that fails.
    pub fn start_on(data: &Path) -> Self {
        Self::start_with(None, Some(data))
    }

    fn start_with(certificate: Option<&Certificate>, data: Option<&Path>) -> Self {
        let binaries = find_binaries().expect(MISSING);
        let directory = tempfile::Builder::new()
            .prefix("hearth-mq-")
            .tempdir()
            .expect("a directory for the broker")
            .keep();
        let janitor = Command::new("sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell that cleans up");
        let mut broker = Self {
            binaries,
            data: data.map_or_else(|| directory.join("data"), Path::to_owned),
            directory,
            tls: certificate.is_some(),
            ports: Ports::default(),
            server: Mutex::new(None),
            names: None,
            janitor,
        };
        if let Some(certificate) = certificate {
            broker.write("cert.pem", &certificate.cert);
            broker.write("key.pem", &certificate.key);
        }
        broker.write("plugins", "[].");
        let mut said = String::new();
        for _ in 0..PORT_TRIES {
            broker.choose_ports();
            match broker.try_resume() {
                Ok(()) => return broker,
                Err(output) => said = output,
            }
        }
        panic!("RabbitMQ does not start:\n{said}");
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports.amqp)
    }

    /// Where clients connect with TLS.
    pub fn tls_url(&self) -> String {
        format!("amqps://guest:guest@localhost:{}/%2f", self.ports.amqps)
    }

    /// Runs `rabbitmqctl`, and returns what it says.
    pub fn control(&self, args: &[&str]) -> String {
        let output = self
            .command("rabbitmqctl")
            .arg("--quiet")
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("rabbitmqctl runs");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Lets the broker note on disk which queues there are. It does that half a second late, and a
    /// queue that it has confirmed messages of, but not noted, is broken after [`Broker::kill`].
    pub fn note_queues(&self) {
        self.control(&["eval", "[dets:sync(Table) || Table <- dets:all()]."]);
    }

    /// Ends the broker without any warning (`kill -9`).
    pub fn kill(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let mut server = server.take().expect("the broker runs");
        server.kill().expect("the broker can be killed");
        server.wait().expect("the broker ends");
        // The number may become another process's.
        std::fs::remove_file(self.directory.join("pid")).expect("its id was noted");
    }

    /// Starts the broker again, on the same ports and with what it has on disk.
    pub fn resume(&self) {
        if let Err(output) = self.resume_if_possible() {
            panic!("RabbitMQ does not start again:\n{output}");
        }
    }

    /// The same; the broker may not bear what it has on disk.
    ///
    /// # Errors
    /// With what it said then.
    pub fn resume_if_possible(&self) -> Result<(), String> {
        self.try_resume()
    }

    /// Forgets all data of a broker that was killed, as if it were a new one.
    pub fn forget_all(&self) {
        for entry in std::fs::read_dir(&self.data).expect("its data") {
            let path = entry.expect("an entry").path();
            let removed = match path.is_dir() {
                true => std::fs::remove_dir_all(&path),
                false => std::fs::remove_file(&path),
            };
            removed.expect("its data can be removed");
        }
    }

    /// Halts the broker as it is: connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
        // A thread stops when it comes back from the kernel, and may still have said something then.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.is_halted() {
            assert!(Instant::now() < deadline, "the broker does not halt");
            thread::yield_now();
        }
    }

    fn is_halted(&self) -> bool {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let id = server.as_ref().expect("the broker runs").id();
        let threads = std::fs::read_dir(format!("/proc/{id}/task")).expect("its threads");
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat"));
            // Behind the name, which is in parentheses, comes the state.
            let state = stat
                .ok()
                .and_then(|stat| stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()));
            state.is_none_or(|state| state.starts_with('T'))
        })
    }

    /// Lets the broker go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let id = server.as_ref().expect("the broker runs").id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(status.expect("kill runs").success());
    }

    fn write(&self, file: &str, content: &str) {
        std::fs::write(self.directory.join(file), content).expect("a file of the broker");
    }

    /// Ports that are free, and the node's own server of names on one of them.
    fn choose_ports(&mut self) {
        // Held together, so that they differ.
        let held: Vec<TcpListener> = (0..4)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback"))
            .collect();
        let port = |n: usize| held[n].local_addr().expect("an address").port();
        self.ports = Ports {
            amqp: port(0),
            amqps: port(1),
            distribution: port(2),
            names: port(3),
        };
        drop(held);
        self.end_names();
        let names = Command::new("sh")
            .args(["-c", NOTED])
            .arg(self.directory.join("epmd.pid"))
            .args(["epmd", "-address", "127.0.0.1", "-port"])
            .arg(self.ports.names.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.names = Some(names.expect("epmd, which comes with Erlang"));
        let mut configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\n\
             disk_free_limit.absolute = 1MB\n\
             vm_memory_high_watermark.absolute = 4GB\n\
             raft.wal_max_size_bytes = 33554432\n",
            self.ports.amqp
        );
        if self.tls {
            let file = |name| self.directory.join(name).display().to_string();
            configuration += &format!(
                "listeners.ssl.1 = 127.0.0.1:{}\n\
                 ssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\n\
                 ssl_options.verify = verify_none\n",
                self.ports.amqps,
                file("cert.pem"),
                file("key.pem")
            );
        }
        self.write("rabbitmq.conf", &configuration);
    }

    fn end_names(&mut self) {
        if let Some(mut names) = self.names.take() {
            // It has ended by itself if its port was taken.
            let _ = names.kill();
            names.wait().expect("epmd ends");
        }
    }

    /// Starts the broker and waits until it takes connections; otherwise, what it said.
    fn try_resume(&self) -> Result<(), String> {
        let mut child = self
            .command("sh")
            .args(["-c", NOTED])
            .arg(self.directory.join("pid"))
            .arg(self.binaries.join("rabbitmq-server"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the broker runs");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut said = String::new();
        while !said.contains(STARTED) {
            match output.read_line(&mut said) {
                Ok(1..) => {}
                Ok(0) | Err(_) => {
                    child.wait().expect("the broker ends");
                    let _ = std::fs::remove_file(self.directory.join("pid"));
                    return Err(said);
                }
            }
        }
        // The broker would stumble over a pipe that nobody reads. Ends with the broker.
        thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(())
    }

    /// A program with the surroundings of this node, and without the ones of others.
    fn command(&self, program: &str) -> Command {
        let packaged = self.binaries.join(program);
        let program = match packaged.is_file() {
            true => packaged,
            false => PathBuf::from(program),
        };
        let within = |name: &str| self.directory.join(name);
        let mut command = Command::new(program);
        command
            .current_dir(&self.directory)
            .env("HOME", &self.directory)
            .env(
                "RABBITMQ_NODENAME",
                format!("hearth-{}@localhost", self.ports.amqp),
            )
            .env("RABBITMQ_CONF_ENV_FILE", within("none"))
            .env("RABBITMQ_CONFIG_FILE", within("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", within("plugins"))
            .env("RABBITMQ_MNESIA_BASE", &self.data)
            .env("RABBITMQ_LOG_BASE", within("log"))
            .env("RABBITMQ_PID_FILE", within("own.pid"))
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("ERL_EPMD_PORT", self.ports.names.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            // Then the script becomes the broker, and its process id is the broker's.
            .env("RABBITMQ_ALLOW_INPUT", "true")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-noinput -kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
            );
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        self.janitor.wait().expect("the broker is cleaned up");
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        for mut child in server.take().into_iter().chain(self.names.take()) {
            child.wait().expect("the broker ends");
        }
    }
}

fn find_binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian's programs on the PATH are wrappers that change the user.
    std::iter::once(PathBuf::from("/usr/lib/rabbitmq/bin"))
        .chain(std::env::split_paths(&path))
        .find(|path: &PathBuf| PROGRAMS.iter().all(|program| path.join(program).is_file()))
}
