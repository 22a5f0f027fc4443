//! A private PostgreSQL server for tests: made in a temporary directory, reached on loopback, and gone
//! with the process that started it, however that process ends.
//!
//! Needs only `std` and `tempfile`, so that any crate's tests can include this file by its path.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::panic,
    reason = "only tests include this file, and each uses a part of it"
)]

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// PostgreSQL refuses to run as root; root's tests run it as this user, which its packages create.
const SERVER_USER: &str = "postgres";
/// What is run; a directory that has only some of them is passed over.
const PROGRAMS: [&str; 4] = ["initdb", "pg_ctl", "postgres", "createdb"];
/// How often another port is tried when somebody took the one that was free a moment ago.
const PORT_TRIES: u32 = 5;
const MISSING: &str = "these tests need PostgreSQL 15 or newer, and found no initdb on the PATH or in \
    /usr/lib/postgresql/*/bin: install it (Debian and Ubuntu: apt-get install postgresql)";

/// Stops the server and removes the directory as soon as the pipe from the tests' process closes.
/// Signals of a terminal are for the tests; this has to outlive them.
const JANITOR: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
if [ -f "$2/data/postmaster.pid" ]; then
    kill -CONT "$(head -n 1 "$2/data/postmaster.pid")"
    "$1/pg_ctl" -D "$2/data" -m immediate -w stop
fi
rm -rf "$2"
"#;

/// A running server with databases of its own.
pub struct Cluster {
    binaries: PathBuf,
    directory: PathBuf,
    port: u16,
    databases: AtomicU32,
    janitor: Child,
    /// Whether a commit survives a loss of power, as in production; without it, tests are faster.
    durable: bool,
}

impl Cluster {
    /// The server that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A server of one's own, to be stopped and started; gone when dropped.
    ///
    /// # Panics
    /// If PostgreSQL is not installed or does not start; the message says what to do.
    pub fn start() -> Self {
        Self::with(false, None)
    }

    /// The same with commits that survive a loss of power, as they do in production.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub fn start_durable() -> Self {
        Self::with(true, None)
    }

    /// A server whose data are in this empty directory, such as one on a disk that fails; whether a
    /// commit survives a loss of power is said.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub fn start_on(data: &Path, durable: bool) -> Self {
        Self::with(durable, Some(data))
    }

    fn with(durable: bool, data: Option<&Path>) -> Self {
        let binaries = find_binaries().expect(MISSING);
        let directory = make_directory().expect("a directory for the server");
        if let Some(data) = data {
            give_to_server_user(data).expect("a directory of one's own");
            symlink(data, directory.join("data")).expect("a link");
        }
        let janitor = as_server_user(Path::new("sh"), &directory)
            .args(["-c", JANITOR, "janitor"])
            .args([&binaries, &directory])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell that cleans up");
        let mut cluster = Self {
            binaries,
            directory,
            port: 0,
            databases: AtomicU32::new(0),
            janitor,
            durable,
        };
        // A collation that differs from the order of bytes shows where a query relies on it.
        cluster.run(
            "initdb",
            &[
                "-D",
                "data",
                "-U",
                SERVER_USER,
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
                "--locale=C",
                "--locale-provider=icu",
                "--icu-locale=en",
            ],
        );
        for _ in 0..PORT_TRIES {
            cluster.port = free_port().expect("a port on loopback");
            if cluster.try_resume().status.success() {
                return cluster;
            }
        }
        let log = std::fs::read_to_string(cluster.directory.join("log")).unwrap_or_default();
        panic!("PostgreSQL does not start:\n{log}");
    }

    /// Creates an empty database and returns its URL.
    pub fn create_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let port = self.port.to_string();
        self.run(
            "createdb",
            &["-h", "127.0.0.1", "-p", &port, "-U", SERVER_USER, &name],
        );
        format!("postgres://{SERVER_USER}@127.0.0.1:{port}/{name}")
    }

    /// Where its programs are, such as `psql` and `pgbench`.
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// Stops the server, which breaks all connections.
    pub fn stop(&self) {
        self.run("pg_ctl", &["-D", "data", "-m", "fast", "-w", "stop"]);
    }

    /// Starts the server again, on the same port.
    pub fn resume(&self) {
        let output = self.try_resume();
        assert!(
            output.status.success(),
            "PostgreSQL starts again: {output:?}\n{}",
            std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
        );
    }

    /// The same on a machine that was started again: no process of the one before is there.
    pub fn resume_after_power_loss(&self) {
        // The number may be another process's, which would be taken for the server.
        match std::fs::remove_file(self.directory.join("data/postmaster.pid")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
            _ => self.resume(),
        }
    }

    /// Ends all processes of the server without any warning (`kill -9`).
    pub fn kill(&self) {
        let server = self.server_id();
        // While it stands still, no process is added.
        self.signal("-STOP");
        let children = self.signal("-KILL");
        // The next one starts only when nobody uses the memory of this one.
        for id in std::iter::once(&server).chain(&children) {
            while is_running(id) {
                std::thread::yield_now();
            }
        }
        // It may be in the table of processes still, and would be taken for a server that runs.
        let socket = format!(".s.PGSQL.{}.lock", self.port);
        for lock in ["data/postmaster.pid", &socket] {
            std::fs::remove_file(self.directory.join(lock)).expect("its process id");
        }
    }

    /// What a query answers, without headings.
    pub fn query(&self, database: &str, query: &str) -> String {
        let output = self.try_run("psql", &["-d", database, "-A", "-t", "-c", query]);
        assert!(output.status.success(), "{query}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Halts all processes of the server as they are: connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets the processes go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn try_resume(&self) -> Output {
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories={} \
             -c max_connections=300 -c fsync={}",
            self.port,
            self.directory.display(),
            if self.durable { "on" } else { "off" }
        );
        self.try_run(
            "pg_ctl",
            &["-D", "data", "-l", "log", "-o", &options, "-w", "start"],
        )
    }

    fn server_id(&self) -> String {
        let file = self.directory.join("data/postmaster.pid");
        let file = std::fs::File::open(file).expect("the server runs");
        let server = BufReader::new(file).lines().next().expect("its process id");
        server.expect("its process id")
    }

    /// Sends a signal to the server and its children; returns the children.
    fn signal(&self, signal: &str) -> Vec<String> {
        let server = self.server_id();
        let children = format!("/proc/{server}/task/{server}/children");
        let children = std::fs::read_to_string(children).expect("its children");
        let children: Vec<_> = children.split_whitespace().map(str::to_owned).collect();
        let status = Command::new("kill")
            .arg(signal)
            .arg(&server)
            .args(&children)
            .stderr(Stdio::null())
            .status()
            .expect("kill runs");
        // A child may have ended meanwhile; the server itself has not.
        assert!(status.success() || Path::new(&format!("/proc/{server}")).exists());
        children
    }

    fn run(&self, program: &str, args: &[&str]) {
        let output = self.try_run(program, args);
        assert!(output.status.success(), "{program} {args:?}: {output:?}");
    }

    fn try_run(&self, program: &str, args: &[&str]) -> Output {
        // Not piped: the server would inherit the pipe and keep it open.
        let said = self.directory.join(format!("{program}.out"));
        let file = std::fs::File::create(&said).expect("a file for the output");
        let status = as_server_user(&self.binaries.join(program), &self.directory)
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .status()
            .expect("the program runs");
        Output {
            status,
            stdout: std::fs::read(&said).unwrap_or_default(),
            stderr: Vec::new(),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        self.janitor.wait().expect("the server is cleaned up");
    }
}

/// Whether a process is there, and more than an entry in a table.
fn is_running(id: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn as_server_user(program: &Path, directory: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        let user = [
            "--reuid",
            SERVER_USER,
            "--regid",
            SERVER_USER,
            "--clear-groups",
        ];
        command.args(user).arg("--").arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(directory);
    command
}

fn make_directory() -> io::Result<PathBuf> {
    let directory = tempfile::Builder::new()
        .prefix("hearth-pg-")
        .tempdir()?
        .keep();
    give_to_server_user(&directory)?;
    Ok(directory)
}

fn give_to_server_user(directory: &Path) -> io::Result<()> {
    if is_root() {
        let id = |kind: &str| -> io::Result<u32> {
            let output = Command::new("id").args([kind, SERVER_USER]).output()?;
            String::from_utf8_lossy(&output.stdout)
                .trim()
                .parse()
                .map_err(|_| {
                    io::Error::other(format!("there is no user '{SERVER_USER}'; {MISSING}"))
                })
        };
        chown(directory, Some(id("-u")?), Some(id("-g")?))?;
    }
    Ok(())
}

fn find_binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut packaged: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| {
            let version = version.ok()?;
            let number = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin")))
        })
        .collect();
    packaged.sort();
    std::env::split_paths(&path)
        .chain(packaged.into_iter().rev().map(|(_, path)| path))
        .find(|path| PROGRAMS.iter().all(|program| path.join(program).is_file()))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
