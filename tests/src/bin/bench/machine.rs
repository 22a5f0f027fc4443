//! What a reader must know of the machine to read its numbers.

use std::fs;
use std::process::Command;

/// Facts of this machine, as names and values.
pub(crate) fn facts() -> Vec<(&'static str, String)> {
    vec![
        ("date", time::OffsetDateTime::now_utc().date().to_string()),
        (
            "processor",
            format!(
                "{} × {}",
                processors(),
                field("/proc/cpuinfo", "model name")
            ),
        ),
        ("memory", field("/proc/meminfo", "MemTotal")),
        ("kernel", line("/proc/sys/kernel/osrelease")),
        (
            "control groups",
            if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false) {
                "v2"
            } else {
                "v1"
            }
            .to_owned(),
        ),
        (
            "Docker engine",
            said_by("docker", &["version", "--format", "{{.Server.Version}}"]),
        ),
        (
            "nginx",
            said_by(super::nginx::program(), &["-v"]).replace("nginx version: nginx/", ""),
        ),
        (
            "load average before",
            line("/proc/loadavg")
                .split(' ')
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
        ),
    ]
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn line(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The value of a line `name: value`.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_once(':'));
    value.map_or_else(
        || "unknown".to_owned(),
        |(_, value)| value.trim().to_owned(),
    )
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return "unknown".to_owned();
    };
    let said = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    String::from_utf8_lossy(&said).trim().to_owned()
}
