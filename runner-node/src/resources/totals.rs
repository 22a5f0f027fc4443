//! How much memory and CPU the node has: the machine's, lowered to the limits of cgroups (version 1
//! and 2), to cpusets and to the settings, less head room (spec/04 4.7).

use std::fs;
use std::num::NonZeroU64;
use std::path::Path;

use super::cgroup::{Cgroups, CpuList};
use super::{MIB, Resources};

/// The settings that lower the totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// `FN_MAX_TOTAL_MEMORY_BYTES`; its zero is none.
    pub memory_bytes: Option<NonZeroU64>,
    /// `FN_MAX_TOTAL_CPU_MCPUS`; its zero is none.
    pub cpu_millis: Option<NonZeroU64>,
}

/// Why a runner cannot start on this machine.
#[derive(Debug, thiserror::Error)]
pub enum TotalsError {
    /// A file that every Linux has cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel does not say how much memory is available.
    #[error("Didn't find MemAvailable in /proc/meminfo, kernel is probably < 3.14")]
    NoMemAvailable,
    /// The head room leaves nothing.
    #[error("Out of memory: Not enough memory: {bytes}")]
    OutOfMemory {
        /// The usable memory, in bytes.
        bytes: u64,
    },
    /// Not one thousandth of a CPU may be used.
    #[error("Out of CPU: no CPU may be used")]
    NoCpu,
}

const MIN_HEAD_ROOM: u64 = 256 * MIB;
const MAX_HEAD_ROOM: u64 = 5 * 1024 * MIB;

/// What containers may use of the machine whose `/` is at `root`. Read once, at the start. Warns
/// when it is less than 256 MiB or one CPU.
///
/// # Errors
/// [`TotalsError`]: the runner must not start.
pub fn detect(root: &Path, caps: &Caps) -> Result<Resources, TotalsError> {
    let cgroups = Cgroups::of_this_process(root);
    let total = Resources {
        memory_bytes: memory_bytes(root, &cgroups, caps)?,
        cpu_millis: cpu_millis(root, &cgroups, caps)?,
    };
    if total.memory_bytes < 256 * MIB {
        tracing::warn!(total.memory_bytes, "less than 256 MiB for containers");
    }
    if total.cpu_millis < 1000 {
        tracing::warn!(total.cpu_millis, "less than one CPU for containers");
    }
    Ok(total)
}

fn memory_bytes(root: &Path, cgroups: &Cgroups, caps: &Caps) -> Result<u64, TotalsError> {
    let available = mem_available(&read(root, "proc/meminfo")?)?;
    let usable = at_most(available, cgroups.memory_limit());
    if usable <= MIN_HEAD_ROOM {
        return Err(TotalsError::OutOfMemory { bytes: usable });
    }
    let head_room = (usable / 10).clamp(MIN_HEAD_ROOM, MAX_HEAD_ROOM);
    let rest = usable.saturating_sub(head_room);
    Ok(at_most(rest, caps.memory_bytes.map(NonZeroU64::get)))
}

fn mem_available(meminfo: &str) -> Result<u64, TotalsError> {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|value| value.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse::<u64>().ok())
        .and_then(|kib| kib.checked_mul(1024))
        .ok_or(TotalsError::NoMemAvailable)
}

fn cpu_millis(root: &Path, cgroups: &Cgroups, caps: &Caps) -> Result<u64, TotalsError> {
    let mut cpus = processors(&read(root, "proc/cpuinfo")?);
    // The affinity that this process was started with; it may name CPUs that are offline, which
    // /proc/cpuinfo does not.
    let allowed = read(root, "proc/self/status").ok().and_then(|status| {
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        CpuList::parse(list)
    });
    for list in cgroups.cpusets().into_iter().chain(allowed) {
        cpus.retain(|cpu| list.contains(*cpu));
    }
    let count = u64::try_from(cpus.len()).unwrap_or(u64::MAX);
    let quota = at_most(count.saturating_mul(1000), cgroups.cpu_quota_millis());
    match at_most(quota, caps.cpu_millis.map(NonZeroU64::get)) {
        0 => Err(TotalsError::NoCpu),
        millis => Ok(millis),
    }
}

fn processors(cpuinfo: &str) -> Vec<u32> {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() == "processor")
        .filter_map(|(_, number)| number.trim().parse().ok())
        .collect()
}

fn at_most(value: u64, limit: Option<u64>) -> u64 {
    limit.map_or(value, |limit| value.min(limit))
}

fn read(root: &Path, path: &str) -> Result<String, TotalsError> {
    fs::read_to_string(root.join(path)).map_err(|source| TotalsError::Unreadable {
        path: format!("/{path}"),
        source,
    })
}

#[cfg(test)]
mod tests;
