//! The load: wrk with one thread, as a child process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;

use crate::plan::BODY;

/// In what `/proc` counts ticks: 1/100 s, on every architecture of Linux that Rust supports.
const USER_HZ: f64 = 100.0;

/// What wrk's own script prints; the last line of its output.
const SCRIPT: &str = r#"
wrk.method = "POST"
wrk.body = "BODY"
wrk.headers["Content-Type"] = "text/plain"
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests":%d,"micros":%d,"p50_micros":%d,"p99_micros":%d,"errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// What wrk counted.
#[derive(Deserialize)]
struct Counted {
    requests: u64,
    micros: u64,
    p50_micros: u64,
    p99_micros: u64,
    errors: u64,
}

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Answers.
    pub(crate) requests: u64,
    /// Answers per second.
    pub(crate) per_second: f64,
    /// Half of the answers took no longer, in milliseconds.
    pub(crate) p50_millis: f64,
    /// 99 of a hundred took no longer, in milliseconds.
    pub(crate) p99_millis: f64,
    /// Answers that are no success, and none at all.
    pub(crate) errors: u64,
    /// How much of one processor wrk used: near one, it is itself the limit.
    pub(crate) client_cpu: f64,
}

/// The load generator with its script.
pub(crate) struct Wrk {
    directory: TempDir,
}

impl Wrk {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        std::fs::write(script(directory.path()), SCRIPT.replace("BODY", BODY))?;
        Ok(Self { directory })
    }

    /// Sends calls to `url` over so many connections.
    pub(crate) async fn load(
        &self,
        url: &str,
        connections: u32,
        duration: Duration,
    ) -> anyhow::Result<Load> {
        self.load_with(url, &[], connections, duration).await
    }

    /// The same with headers, each `Name: value`.
    pub(crate) async fn load_with(
        &self,
        url: &str,
        headers: &[&str],
        connections: u32,
        duration: Duration,
    ) -> anyhow::Result<Load> {
        let cpu_before = cpu_of_children()?;
        let began = Instant::now();
        let output = Command::new("wrk")
            .args([
                "-t1",
                &format!("-c{connections}"),
                &format!("-d{}s", duration.as_secs()),
                "-s",
            ])
            .arg(script(self.directory.path()))
            .args(headers.iter().flat_map(|header| ["-H", header]))
            .arg(url)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("wrk cannot be started")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!(
                "wrk failed: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let counted: Counted =
            serde_json::from_str(text.trim_end().lines().last().unwrap_or_default())
                .with_context(|| format!("wrk said: {text}"))?;
        Ok(Load {
            requests: counted.requests,
            per_second: counted.requests as f64 * 1e6 / counted.micros as f64,
            p50_millis: counted.p50_micros as f64 / 1e3,
            p99_millis: counted.p99_micros as f64 / 1e3,
            errors: counted.errors,
            client_cpu: (cpu_of_children()? - cpu_before) / began.elapsed().as_secs_f64(),
        })
    }
}

fn script(directory: &Path) -> PathBuf {
    directory.join("post.lua")
}

/// Seconds of CPU time of this process' children that have ended and been waited for.
fn cpu_of_children() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field is a name in brackets; what follows begins with the third field.
    let (_, rest) = stat
        .rsplit_once(')')
        .context("/proc/self/stat has a name")?;
    let ticks: u64 = rest
        .split_whitespace()
        .skip(13)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(ticks as f64 / USER_HZ)
}
