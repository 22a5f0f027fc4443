//! The limits that the control groups of this process set, from its own group up to the root, in
//! hierarchies of version 1 and 2, also side by side.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// The directories of the groups that this process is in.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    unified: Vec<PathBuf>,
    memory: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
    cpuset: Vec<PathBuf>,
}

impl Cgroups {
    /// Finds them through `/proc/self` below `root`. What is not there limits nothing.
    pub(super) fn of_this_process(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let groups = text("proc/self/cgroup");
        let mounts = text("proc/self/mountinfo");
        let mounts: Vec<_> = mounts.lines().filter_map(Mount::parse).collect();
        let directories = |controller: &str| directories(root, &groups, &mounts, controller);
        Self {
            unified: directories(""),
            memory: directories("memory"),
            cpu: directories("cpu"),
            cpuset: directories("cpuset"),
        }
    }

    /// The smallest memory limit, in bytes.
    pub(super) fn memory_limit(&self) -> Option<u64> {
        let v1 = values(&self.memory, "memory.limit_in_bytes", parse_limit);
        let v2 = values(&self.unified, "memory.max", parse_limit);
        v1.into_iter().chain(v2).min()
    }

    /// The smallest CPU quota, in thousandths of a CPU.
    pub(super) fn cpu_quota_millis(&self) -> Option<u64> {
        let v1 = self.cpu.iter().filter_map(|group| {
            let quota = value(group, "cpu.cfs_quota_us", parse_limit)?;
            let period = value(group, "cpu.cfs_period_us", parse_limit)?;
            millis(quota, period)
        });
        let v2 = values(&self.unified, "cpu.max", parse_cpu_max);
        v1.chain(v2).min()
    }

    /// The CPU lists of all cpusets; a CPU may be used that is in all of them.
    pub(super) fn cpusets(&self) -> Vec<CpuList> {
        let list = |text: &str| match text {
            // A cpuset that was not set up.
            "" => Limit::None,
            _ => CpuList::parse(text).map_or(Limit::Garbage, Limit::Is),
        };
        let mut lists = values(&self.cpuset, "cpuset.effective_cpus", list);
        lists.append(&mut values(&self.unified, "cpuset.cpus.effective", list));
        lists
    }
}

/// A mounted hierarchy.
struct Mount<'a> {
    /// The group that is seen at the mount point.
    group: &'a Path,
    point: &'a Path,
    unified: bool,
    /// Version 1: the controllers are among the options of the file system.
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// Reads a line of `/proc/self/mountinfo`; nothing if it is another kind of file system.
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut file_system = file_system.split(' ');
        let kind = file_system.next()?;
        matches!(kind, "cgroup" | "cgroup2").then_some(Self {
            group: Path::new(mount.next()?),
            point: Path::new(mount.next()?),
            unified: kind == "cgroup2",
            options: file_system.nth(1).unwrap_or_default(),
        })
    }

    /// An empty controller stands for the unified hierarchy, as it does in `/proc/self/cgroup`.
    fn has(&self, controller: &str) -> bool {
        match controller {
            "" => self.unified,
            _ => !self.unified && self.options.split(',').any(|option| option == controller),
        }
    }
}

/// This process's group and all above it as far as they can be seen, for one controller.
fn directories(root: &Path, groups: &str, mounts: &[Mount<'_>], controller: &str) -> Vec<PathBuf> {
    let own = groups.lines().find_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, group) = line.split_once(':')?;
        controllers
            .split(',')
            .any(|name| name == controller)
            .then_some(Path::new(group))
    });
    let mounts = mounts.iter().filter(|mount| mount.has(controller));
    let mut directories = Vec::new();
    let mut outer = Vec::new();
    for mount in mounts {
        let point = mount.point.strip_prefix("/").unwrap_or(mount.point);
        let point = root.join(point);
        let below = own.and_then(|own| own.strip_prefix(mount.group).ok());
        match below {
            Some(below)
                if below
                    .components()
                    .all(|part| matches!(part, Component::Normal(_))) =>
            {
                directories.extend(below.ancestors().map(|group| point.join(group)));
            }
            // In a namespace of its own a process may be in a group that it has no name for. What
            // is mounted is then above it, as near as it can be seen.
            _ => outer.push(point),
        }
    }
    if directories.is_empty() {
        return outer;
    }
    directories
}

/// What a file says.
enum Limit<T> {
    Is(T),
    None,
    Garbage,
}

fn values<T>(groups: &[PathBuf], file: &str, parse: impl Fn(&str) -> Limit<T>) -> Vec<T> {
    let value = |group: &PathBuf| value(group, file, &parse);
    groups.iter().filter_map(value).collect()
}

fn value<T>(group: &Path, file: &str, parse: impl Fn(&str) -> Limit<T>) -> Option<T> {
    let path = group.join(file);
    let text = fs::read_to_string(&path).ok()?;
    match parse(text.trim()) {
        Limit::Is(value) => Some(value),
        Limit::None => None,
        Limit::Garbage => {
            tracing::warn!(path = %path.display(), "a limit that cannot be read is ignored");
            None
        }
    }
}

/// A number; `max` (version 2) and `-1` (version 1) are no limit.
fn parse_limit(text: &str) -> Limit<u64> {
    match text {
        "max" | "-1" => Limit::None,
        _ => text.parse().map_or(Limit::Garbage, Limit::Is),
    }
}

/// `<quota> <period>`, in microseconds.
fn parse_cpu_max(text: &str) -> Limit<u64> {
    let Some((quota, period)) = text.split_once(' ') else {
        return Limit::Garbage;
    };
    match (parse_limit(quota), parse_limit(period)) {
        (Limit::None, _) => Limit::None,
        (Limit::Is(quota), Limit::Is(period)) => {
            millis(quota, period).map_or(Limit::Garbage, Limit::Is)
        }
        _ => Limit::Garbage,
    }
}

/// `quota` of each `period`, in thousandths of a CPU.
fn millis(quota: u64, period: u64) -> Option<u64> {
    quota.saturating_mul(1000).checked_div(period)
}

/// A set of CPUs, as in `0-3,8`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CpuList(Vec<(u32, u32)>);

impl CpuList {
    /// Nothing when it is not a list.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        text.trim()
            .split(',')
            .map(range)
            .collect::<Option<_>>()
            .map(Self)
    }

    pub(super) fn contains(&self, cpu: u32) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&cpu))
    }
}
