//! The totals of made-up machines.

use super::*;

const GIB: u64 = 1024 * MIB;

/// A machine as far as it is described: the files of its `/proc` and `/sys`.
struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    /// 16 GiB available, 4 CPUs, no control groups.
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let cpu = |number| format!("processor\t: {number}\nmodel name\t: x\n\n");
        Self { root }
            .file("proc/meminfo", "MemTotal:       33554432 kB\nMemFree:         1000 kB\nMemAvailable:   16777216 kB\n")
            .file("proc/cpuinfo", &(0..4).map(cpu).collect::<String>())
            .file("proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n")
    }

    fn file(self, path: &str, content: &str) -> Self {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
        fs::write(path, content).expect("a file");
        self
    }

    /// Version 2, with this process in `group` and all of it mounted.
    fn unified(self, group: &str) -> Self {
        self.file("proc/self/cgroup", &format!("0::{group}\n"))
            .file("proc/self/mountinfo", "25 1 0:22 / / rw - ext4 /dev/x rw\n30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n")
    }

    /// Version 1 in the usual places, with this process in `group`, of which `mounted` can be seen.
    fn version_1(self, group: &str, mounted: &str) -> Self {
        let groups = format!(
            "9:memory:{group}\n5:cpuset:{group}\n4:cpu,cpuacct:{group}\n1:name=systemd:{group}\n"
        );
        let mount = |place: &str, options: &str| {
            format!(
                "31 30 0:28 {mounted} /sys/fs/cgroup/{place} ro,nosuid master:11 - cgroup cgroup rw,{options}\n"
            )
        };
        let mounts = mount("memory", "memory")
            + &mount("cpuset", "cpuset")
            + &mount("cpu,cpuacct", "cpu,cpuacct");
        self.file("proc/self/cgroup", &groups)
            .file("proc/self/mountinfo", &mounts)
    }

    fn totals(&self) -> Resources {
        self.totals_within(&Caps::default())
            .expect("enough of both")
    }

    fn totals_within(&self, caps: &Caps) -> Result<Resources, TotalsError> {
        detect(self.root.path(), caps)
    }

    fn memory(&self) -> u64 {
        self.totals().memory_bytes
    }

    fn cpu(&self) -> u64 {
        self.totals().cpu_millis
    }
}

#[test]
fn without_limits_all_of_the_machine_counts_less_head_room() {
    let totals = Machine::new().totals();
    assert_eq!(totals.memory_bytes, 16 * GIB - 16 * GIB / 10);
    assert_eq!(totals.cpu_millis, 4000);
}

#[test]
fn head_room_is_a_tenth_between_256_mib_and_5_gib() {
    let rows = [
        (257 * MIB, MIB),
        (GIB, GIB - 256 * MIB),
        (2560 * MIB, 2304 * MIB),
        (4000 * MIB, 3600 * MIB),
        (50 * GIB, 45 * GIB),
        (100 * GIB, 95 * GIB),
    ];
    for (available, left) in rows {
        let meminfo = format!("MemAvailable: {} kB\n", available / 1024);
        let machine = Machine::new().file("proc/meminfo", &meminfo);
        assert_eq!(machine.memory(), left, "of {available}");
    }
}

#[test]
fn no_memory_beyond_the_head_room_is_fatal() {
    let machine = Machine::new().file("proc/meminfo", "MemAvailable: 262144 kB\n");
    let error = machine
        .totals_within(&Caps::default())
        .expect_err("too little");
    assert_eq!(
        error.to_string(),
        "Out of memory: Not enough memory: 268435456"
    );
}

#[test]
fn an_old_or_strange_kernel_is_fatal() {
    for meminfo in [
        "",
        "MemTotal: 5 kB\n",
        "MemAvailable: lots kB\n",
        "MemAvailable: 5\n",
    ] {
        let machine = Machine::new().file("proc/meminfo", meminfo);
        let error = machine
            .totals_within(&Caps::default())
            .expect_err("unknown");
        let text = "Didn't find MemAvailable in /proc/meminfo, kernel is probably < 3.14";
        assert_eq!(error.to_string(), text);
    }
    let nothing = tempfile::tempdir().expect("a directory");
    let error = detect(nothing.path(), &Caps::default()).expect_err("no files");
    assert_eq!(error.to_string(), "cannot read /proc/meminfo");
}

#[test]
fn settings_lower_and_never_raise() {
    let within = |memory_bytes, cpu_millis| {
        let caps = Caps {
            memory_bytes: NonZeroU64::new(memory_bytes),
            cpu_millis: NonZeroU64::new(cpu_millis),
        };
        Machine::new().totals_within(&caps).expect("enough")
    };
    let all = Machine::new().totals();
    assert_eq!(within(0, 0), all);
    assert_eq!(within(u64::MAX, u64::MAX), all);
    let lowered = Resources {
        memory_bytes: 5,
        cpu_millis: 7,
    };
    assert_eq!(within(5, 7), lowered);
}

#[test]
fn the_unified_hierarchy_limits_from_the_own_group_to_the_root() {
    let machine = || Machine::new().unified("/a/b/c");
    let group = "sys/fs/cgroup/a/b/c";
    let rows: [(&str, &str, u64); 6] = [
        ("sys/fs/cgroup/a/b/c/memory.max", "4294967296\n", 4 * GIB),
        ("sys/fs/cgroup/a/b/memory.max", "4294967296\n", 4 * GIB),
        ("sys/fs/cgroup/memory.max", "4294967296\n", 4 * GIB),
        ("sys/fs/cgroup/a/b/c/memory.max", "max\n", 16 * GIB),
        ("sys/fs/cgroup/a/other/memory.max", "4294967296\n", 16 * GIB),
        ("sys/fs/cgroup/a/b/c/memory.max", "many\n", 16 * GIB),
    ];
    for (file, content, usable) in rows {
        let memory = machine().file(file, content).memory();
        assert_eq!(memory, usable - usable / 10, "{file} {content}");
    }
    let nested = machine()
        .file(&format!("{group}/memory.max"), "8589934592\n")
        .file("sys/fs/cgroup/a/memory.max", "4294967296\n");
    assert_eq!(
        nested.memory(),
        4 * GIB - 4 * GIB / 10,
        "the smallest counts"
    );
}

#[test]
fn the_unified_cpu_quota_counts() {
    let rows = [
        ("a/b", "150000 100000\n", 1500),
        ("a", "50000 100000\n", 500),
        ("a/b", "max 100000\n", 4000),
        ("a/b", "900000 100000\n", 4000),
        ("a/b", "1 0\n", 4000),
        ("a/b", "quite a lot\n", 4000),
        ("a/b", "\n", 4000),
    ];
    for (group, content, millis) in rows {
        let file = format!("sys/fs/cgroup/{group}/cpu.max");
        let machine = Machine::new().unified("/a/b").file(&file, content);
        assert_eq!(machine.cpu(), millis, "{file} {content}");
    }
}

#[test]
fn a_quota_of_nothing_is_fatal() {
    let machine = Machine::new()
        .unified("/")
        .file("sys/fs/cgroup/cpu.max", "1 100000\n");
    let error = machine.totals_within(&Caps::default()).expect_err("no CPU");
    assert!(matches!(error, TotalsError::NoCpu));
}

#[test]
fn version_1_limits_count() {
    let machine = || Machine::new().version_1("/docker/c", "/");
    let memory = "sys/fs/cgroup/memory/docker/c/memory.limit_in_bytes";
    assert_eq!(
        machine().file(memory, "4294967296\n").memory(),
        4 * GIB - 4 * GIB / 10
    );
    let unlimited = machine().file(memory, "9223372036854771712\n");
    assert_eq!(unlimited.memory(), Machine::new().memory());
    let parent = "sys/fs/cgroup/memory/docker/memory.limit_in_bytes";
    assert_eq!(
        machine().file(parent, "4294967296\n").memory(),
        4 * GIB - 4 * GIB / 10
    );

    let quota = |quota| {
        machine()
            .file("sys/fs/cgroup/cpu,cpuacct/docker/c/cpu.cfs_quota_us", quota)
            .file(
                "sys/fs/cgroup/cpu,cpuacct/docker/c/cpu.cfs_period_us",
                "50000\n",
            )
            .cpu()
    };
    assert_eq!(quota("100000\n"), 2000);
    assert_eq!(quota("-1\n"), 4000);
}

/// A container without a namespace of its own: it is in a group whose name begins outside of what
/// it sees.
#[test]
fn version_1_in_a_container_is_found_below_what_is_mounted() {
    let machine = Machine::new()
        .version_1("/docker/c/inner", "/docker/c")
        .file(
            "sys/fs/cgroup/memory/inner/memory.limit_in_bytes",
            "4294967296\n",
        )
        .file("sys/fs/cgroup/cpuset/cpuset.effective_cpus", "2\n");
    assert_eq!(
        machine.totals(),
        Resources {
            memory_bytes: 4 * GIB - 4 * GIB / 10,
            cpu_millis: 1000
        }
    );
}

/// A group that cannot be named from here: what is mounted is as near as it gets.
#[test]
fn a_group_out_of_sight_leaves_the_mounted_one() {
    for (group, mounted) in [("/../x", "/"), ("/", "/../.."), ("/elsewhere", "/docker/c")] {
        let machine = Machine::new()
            .version_1(group, mounted)
            .file("sys/fs/cgroup/memory/memory.limit_in_bytes", "4294967296\n")
            .file("sys/fs/cgroup/x/memory.limit_in_bytes", "1073741824\n");
        assert_eq!(
            machine.memory(),
            4 * GIB - 4 * GIB / 10,
            "{group} in {mounted}"
        );
    }
}

#[test]
fn both_versions_side_by_side_limit_together() {
    let machine = Machine::new()
        .file("proc/self/cgroup", "4:memory:/a\n0::/u\n")
        .file(
            "proc/self/mountinfo",
            "32 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        )
        .file(
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "4294967296\n",
        )
        .file("sys/fs/cgroup/unified/u/cpu.max", "200000 100000\n")
        .file("sys/fs/cgroup/unified/u/cpuset.cpus.effective", "0-2\n");
    assert_eq!(
        machine.totals(),
        Resources {
            memory_bytes: 4 * GIB - 4 * GIB / 10,
            cpu_millis: 2000
        }
    );
}

#[test]
fn cpusets_and_the_affinity_limit_together() {
    let rows = [
        ("0-7", "0-7", 4000),
        ("0-1", "0-7", 2000),
        ("0-1", "1-3", 1000),
        ("0,2-3", "0-7", 3000),
        ("0-7", "", 4000),
        ("0-7", "x-y", 4000),
        ("0-7", "0-4294967295", 4000),
        ("garbage", "3", 1000),
    ];
    for (affinity, cpuset, millis) in rows {
        let status = format!("Cpus_allowed_list:\t{affinity}\n");
        for (machine, file) in [
            (
                Machine::new().unified("/a"),
                "sys/fs/cgroup/a/cpuset.cpus.effective",
            ),
            (
                Machine::new().version_1("/a", "/"),
                "sys/fs/cgroup/cpuset/a/cpuset.effective_cpus",
            ),
        ] {
            let machine = machine
                .file("proc/self/status", &status)
                .file(file, &format!("{cpuset}\n"));
            assert_eq!(machine.cpu(), millis, "{affinity} and {cpuset} in {file}");
        }
    }
}

#[test]
fn no_cpu_left_is_fatal() {
    for machine in [
        Machine::new().file("proc/cpuinfo", "vendor: x\n"),
        Machine::new()
            .unified("/")
            .file("sys/fs/cgroup/cpuset.cpus.effective", "4-7\n"),
    ] {
        let error = machine.totals_within(&Caps::default()).expect_err("no CPU");
        assert!(matches!(error, TotalsError::NoCpu));
    }
}

#[test]
fn this_machine_has_both() {
    let totals = detect(Path::new("/"), &Caps::default()).expect("it runs this test");
    assert!(totals.memory_bytes > 0 && totals.cpu_millis > 0);
}
