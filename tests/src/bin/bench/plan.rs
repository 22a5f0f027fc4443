//! What is measured, and how long.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

/// The example function that all parts call.
pub(crate) const FUNCTION: &str = "echo";

/// What is sent to it.
pub(crate) const BODY: &str = "hi";

/// Measures Hearth against nginx and a bare proxy.
#[derive(clap::Parser)]
pub(crate) struct Plan {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Rounds of the throughput part; each measures every target at every number of clients.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Seconds of each measurement of throughput.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Cold starts on each side.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cold_starts: u32,
    /// Calls after each length of idleness.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) idle_calls: u32,
    /// Idle containers whose memory in the server is measured.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) idle_containers: u32,
    /// Records of calls of the part `records`.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(100_000..))]
    pub(crate) records: u64,
    /// Requests of each list of that part.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) lists: u32,
    /// Only these parts; all but `records` when absent.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Part>,
    /// Write `docs/performance.md`.
    #[arg(long)]
    pub(crate) write_docs: bool,
}

/// What else this program is.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// The bare proxy; the harness starts it.
    #[command(hide = true)]
    Proxy(Proxy),
    /// The client with a fixed rate; the harness starts it.
    #[command(hide = true)]
    Generator(Generator),
}

/// What the client with a fixed rate sends.
#[derive(clap::Args)]
pub(crate) struct Generator {
    /// What is called.
    #[arg(long)]
    pub(crate) url: String,
    /// Calls per second; without it each client calls when it has its last answer.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Clients, if there is no rate.
    #[arg(long, default_value_t = 1)]
    pub(crate) clients: u32,
    /// The time that counts; a second goes before it.
    #[arg(long)]
    pub(crate) seconds: u64,
    /// How long a call may take from its intended time.
    #[arg(long)]
    pub(crate) timeout_millis: u64,
}

/// Where the bare proxy proxies to.
#[derive(clap::Args)]
pub(crate) struct Proxy {
    /// A function's socket; one connection is kept to each.
    #[arg(long = "socket", required = true)]
    pub(crate) sockets: Vec<PathBuf>,
}

/// A part of the run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// P14.
    Memory,
    /// P1, P2, P3.
    Throughput,
    /// P5.
    Idleness,
    /// P6.
    ColdStart,
    /// P7.
    Launches,
    /// P4.
    Cluster,
    /// P13.
    Overload,
    /// P8, P9, P10.
    Durable,
    /// Lists of many calls, and retention: about ten minutes and 15 GB.
    Records,
}

impl Plan {
    /// Whether a part is wanted.
    pub(crate) fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Whether the part that is not among all parts is wanted.
    pub(crate) fn has_records(&self) -> bool {
        self.only.contains(&Part::Records)
    }

    /// Whether nothing else is.
    pub(crate) fn only_records(&self) -> bool {
        self.only == [Part::Records]
    }

    /// Whether one of these is wanted.
    pub(crate) fn has_any(&self, parts: &[Part]) -> bool {
        parts.iter().any(|part| self.has(*part))
    }

    /// The time of one measurement of throughput.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}
