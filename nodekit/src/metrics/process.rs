//! Metrics of this process, read from `/proc` when they are asked for.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::MetricInfo;

const fn info(name: &'static str, kind: &'static str, help: &'static str) -> MetricInfo {
    MetricInfo {
        name,
        kind,
        labels: &[],
        help,
    }
}

const CPU: MetricInfo = info(
    "process_cpu_seconds_total",
    "counter",
    "CPU time that the process has used, in seconds",
);
const OPEN_FILES: MetricInfo = info("process_open_fds", "gauge", "Open file descriptors");
const MAX_FILES: MetricInfo = info(
    "process_max_fds",
    "gauge",
    "Most file descriptors that may be open",
);
const RESIDENT: MetricInfo = info(
    "process_resident_memory_bytes",
    "gauge",
    "Resident memory, in bytes",
);
const VIRTUAL: MetricInfo = info(
    "process_virtual_memory_bytes",
    "gauge",
    "Virtual memory, in bytes",
);
const THREADS: MetricInfo = info("process_threads", "gauge", "Threads");
const START: MetricInfo = info(
    "process_start_time_seconds",
    "gauge",
    "When the process started, in seconds since the Unix epoch",
);

/// In what `/proc` counts ticks: 1/100 s, on every architecture of Linux that Rust supports.
const USER_HZ: f64 = 100.0;

/// What is rendered here.
pub(super) const LISTING: [MetricInfo; 7] = [
    CPU, OPEN_FILES, MAX_FILES, RESIDENT, VIRTUAL, THREADS, START,
];

/// Reads `/proc`; what cannot be read is left out.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut put = |info: &MetricInfo, value: Option<f64>| -> fmt::Result {
            let Some(value) = value else { return Ok(()) };
            let kind = match info.kind {
                "counter" => MetricType::Counter,
                _ => MetricType::Gauge,
            };
            // As a gauge, so that the name stays as it is.
            ConstGauge::new(value)
                .encode(encoder.encode_descriptor(info.name, info.help, None, kind)?)
        };
        let stat = Stat::read();
        let memory = fs::read_to_string("/proc/self/status").unwrap_or_default();
        put(&CPU, stat.as_ref().map(|stat| stat.cpu_ticks / USER_HZ))?;
        put(&OPEN_FILES, open_files())?;
        put(&MAX_FILES, Some(max_files()))?;
        put(&RESIDENT, kibibytes(&memory, "VmRSS:"))?;
        put(&VIRTUAL, kibibytes(&memory, "VmSize:"))?;
        put(&THREADS, stat.as_ref().map(|stat| stat.threads))?;
        put(
            &START,
            stat.as_ref()
                .and_then(|stat| Some(boot_time()? + stat.start_ticks / USER_HZ)),
        )
    }
}

/// The fields of `/proc/self/stat` that are rendered.
struct Stat {
    cpu_ticks: f64,
    threads: f64,
    start_ticks: f64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// The command's name stands in parentheses and may hold anything, so the count starts behind
    /// the last one; proc(5) calls the field that follows the third.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
        })
    }
}

/// A line of `/proc/self/status`, in bytes.
fn kibibytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number * 1024.0)
}

fn open_files() -> Option<f64> {
    // The directory itself is open while it is read.
    Some(
        fs::read_dir("/proc/self/fd")
            .ok()?
            .count()
            .saturating_sub(1) as f64,
    )
}

fn max_files() -> f64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(f64::INFINITY, |limit| limit as f64)
}

fn boot_time() -> Option<f64> {
    fs::read_to_string("/proc/stat")
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::Stat;

    #[test]
    fn a_command_may_be_named_anything() {
        let rest: Vec<String> = (3..=22).map(|n| n.to_string()).collect();
        let text = format!("7 (a) b (c)) {}", rest.join(" "));
        let stat = Stat::parse(&text).expect("a stat line");
        assert_eq!(stat.cpu_ticks, 29.0);
        assert_eq!(stat.threads, 20.0);
        assert_eq!(stat.start_ticks, 22.0);
        assert!(Stat::parse("7 (a").is_none());
    }
}
