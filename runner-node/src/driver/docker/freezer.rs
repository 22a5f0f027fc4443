//! Freezing through the kernel's control groups, without the engine: microseconds instead of
//! milliseconds (PERFORMANCE.md).
//!
//! Engines name a container's group after its id, so that a path that ends in the id is the
//! container's and nobody else's. Where that path lies depends on the engine; it is found once and
//! remembered. No file is kept open: an idle container costs no descriptor.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use super::engine::Engine;

/// How long processes may take to stand still. A process in the middle of something that cannot be
/// interrupted, such as a slow disk, delays it.
const FREEZE_LIMIT: Duration = Duration::from_secs(2);
/// Looks without a pause: most groups stand still within microseconds, and a pause is a thousand.
const QUICK_LOOKS: u32 = 16;
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The control groups of this machine's containers.
#[derive(Debug)]
pub(super) struct Freezer {
    root: PathBuf,
    version: Version,
    place: OnceLock<Place>,
}

/// How the path of a container's group is made from its id.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    parent: PathBuf,
    prefix: String,
    suffix: String,
}

impl Place {
    fn group(&self, id: &str) -> PathBuf {
        self.parent
            .join(format!("{}{id}{}", self.prefix, self.suffix))
    }

    /// The place that puts the container `id` at `path` below `root`.
    fn of(root: &Path, path: &str, id: &str) -> Option<Self> {
        let path = Path::new(path.trim_start_matches('/'));
        let (prefix, suffix) = path.file_name()?.to_str()?.split_once(id)?;
        let inside = path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        inside.then(|| Self {
            parent: root.join(path.parent().unwrap_or(Path::new(""))),
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
        })
    }
}

impl Freezer {
    /// The freezer of this machine, if it has one that can be reached.
    pub(super) fn detect() -> Option<Self> {
        Self::below(Path::new("/sys/fs/cgroup"))
    }

    fn below(mount: &Path) -> Option<Self> {
        let (root, version) = if mount.join("freezer/cgroup.procs").exists() {
            (mount.join("freezer"), Version::V1)
        } else if mount.join("cgroup.controllers").exists() {
            (mount.to_owned(), Version::V2)
        } else {
            return None;
        };
        Some(Self {
            root,
            version,
            place: OnceLock::new(),
        })
    }

    /// Whether the group of `id` is known, without asking anyone.
    pub(super) fn knows(&self, id: &str) -> bool {
        if let Some(place) = self.place.get() {
            return place.group(id).is_dir();
        }
        let usual = [
            format!("docker/{id}"),
            format!("system.slice/docker-{id}.scope"),
        ];
        usual.iter().any(|path| self.learn(path, id))
    }

    /// Learns from one of a container's processes where its group is.
    fn learn_from_process(&self, pid: i64, id: &str) -> bool {
        let Ok(groups) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
            return false;
        };
        path_of(&groups, self.version).is_some_and(|path| self.learn(path, id))
    }

    /// Asks the engine for a process of the container, unless the place is known.
    pub(super) async fn learn_from_engine(&self, engine: &Engine, id: &str) -> bool {
        if self.place.get().is_some() {
            return false;
        }
        let request = engine.docker().inspect_container(id, None);
        let answer = engine.call("docker_inspect_container", request).await;
        let pid = answer.ok().and_then(|container| container.state?.pid);
        pid.is_some_and(|pid| pid > 0 && self.learn_from_process(pid, id))
    }

    fn learn(&self, path: &str, id: &str) -> bool {
        match Place::of(&self.root, path, id) {
            Some(place) if place.group(id).join(self.control()).exists() => {
                self.place.get_or_init(|| place).group(id).is_dir()
            }
            _ => false,
        }
    }

    /// Freezes the container `id`, and returns when all of its processes stand still.
    ///
    /// # Errors
    /// Its group is not there, may not be written, or did not freeze in time; then it was thawed.
    pub(super) async fn freeze(&self, id: &str) -> io::Result<()> {
        let group = self.group(id)?;
        let deadline = tokio::time::Instant::now() + FREEZE_LIMIT;
        let mut quick_looks = QUICK_LOOKS;
        let mut pause = FIRST_PAUSE;
        loop {
            // Written again each time: a group that gains a process meanwhile can stay half frozen.
            self.write(&group, true)?;
            if self.is_frozen(&group)? {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                self.write(&group, false)?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "did not freeze"));
            }
            if quick_looks > 0 {
                quick_looks -= 1;
                tokio::task::yield_now().await;
                continue;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Lets the container `id` go on. A group that is gone needs no thawing.
    ///
    /// # Errors
    /// The group may not be written.
    pub(super) fn thaw(&self, id: &str) -> io::Result<()> {
        match self.group(id).and_then(|group| self.write(&group, false)) {
            // ENODEV: the group went away under the open file.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    fn group(&self, id: &str) -> io::Result<PathBuf> {
        let place = self.place.get().ok_or(io::ErrorKind::NotFound)?;
        Ok(place.group(id))
    }

    fn control(&self) -> &'static str {
        match self.version {
            Version::V1 => "freezer.state",
            Version::V2 => "cgroup.freeze",
        }
    }

    fn write(&self, group: &Path, frozen: bool) -> io::Result<()> {
        let value = match (self.version, frozen) {
            (Version::V1, true) => "FROZEN",
            (Version::V1, false) => "THAWED",
            (Version::V2, true) => "1",
            (Version::V2, false) => "0",
        };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(group.join(self.control()))?;
        file.write_all(value.as_bytes())
    }

    fn is_frozen(&self, group: &Path) -> io::Result<bool> {
        Ok(match self.version {
            Version::V1 => fs::read_to_string(group.join("freezer.state"))?.trim() == "FROZEN",
            Version::V2 => fs::read_to_string(group.join("cgroup.events"))?
                .lines()
                .any(|line| line == "frozen 1"),
        })
    }
}

/// The path in the freezer's hierarchy, from the text of `/proc/PID/cgroup`.
fn path_of(groups: &str, version: Version) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match version {
            Version::V1 => controllers.split(',').any(|name| name == "freezer"),
            Version::V2 => number == "0" && controllers.is_empty(),
        };
        ours.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef";

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "").expect("written");
        }
        dir
    }

    #[test]
    fn reads_the_path_of_a_process() {
        let v1 = "12:pids:/docker/x\n5:cpu,freezer:/docker/y\n0::/z\n";
        assert_eq!(path_of(v1, Version::V1), Some("/docker/y"));
        assert_eq!(path_of(v1, Version::V2), Some("/z"));
        assert_eq!(path_of("nonsense", Version::V2), None);
    }

    #[test]
    fn a_path_that_is_not_the_containers_is_not_used() {
        let root = Path::new("/root");
        for path in [
            "/docker/other",
            "/",
            "/../../0123456789abcdef",
            "/0123456789abcdef/child",
        ] {
            assert_eq!(Place::of(root, path, ID), None, "{path}");
        }
        let place = Place::of(root, "/a.slice/docker-0123456789abcdef.scope", ID).expect("ours");
        assert_eq!(
            place.group("ff"),
            Path::new("/root/a.slice/docker-ff.scope")
        );
    }

    #[test]
    fn finds_both_hierarchies_and_both_layouts() {
        let v1 = tree(&[
            "freezer/cgroup.procs",
            "freezer/docker/0123456789abcdef/freezer.state",
        ]);
        let freezer = Freezer::below(v1.path()).expect("v1");
        assert_eq!(freezer.version, Version::V1);
        assert!(freezer.knows(ID) && freezer.knows(ID) && !freezer.knows("ff"));

        let scope = "system.slice/docker-0123456789abcdef.scope";
        let v2 = tree(&["cgroup.controllers", &format!("{scope}/cgroup.freeze")]);
        let freezer = Freezer::below(v2.path()).expect("v2");
        assert_eq!(freezer.version, Version::V2);
        assert!(freezer.knows(ID));

        assert!(Freezer::below(tree(&[]).path()).is_none());
    }

    #[tokio::test]
    async fn writes_what_each_version_wants() {
        let dir = "docker/0123456789abcdef";
        let v2 = tree(&["cgroup.controllers", &format!("{dir}/cgroup.freeze")]);
        let freezer = Freezer::below(v2.path()).expect("v2");
        assert!(freezer.knows(ID));
        let group = v2.path().join(dir);
        fs::write(group.join("cgroup.events"), "populated 1\nfrozen 1\n").expect("written");
        freezer.freeze(ID).await.expect("frozen");
        assert_eq!(
            fs::read_to_string(group.join("cgroup.freeze")).expect("read"),
            "1"
        );
        freezer.thaw(ID).expect("thawed");
        assert_eq!(
            &fs::read_to_string(group.join("cgroup.freeze")).expect("read")[..1],
            "0"
        );
        freezer
            .thaw("ff")
            .expect("a group that is gone needs no thawing");
        assert!(freezer.freeze("ff").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_does_not_freeze_is_thawed() {
        let dir = "docker/0123456789abcdef";
        let v2 = tree(&["cgroup.controllers", &format!("{dir}/cgroup.freeze")]);
        let freezer = Freezer::below(v2.path()).expect("v2");
        assert!(freezer.knows(ID));
        let group = v2.path().join(dir);
        fs::write(group.join("cgroup.events"), "frozen 0\n").expect("written");
        let error = freezer.freeze(ID).await.expect_err("never frozen");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(
            fs::read_to_string(group.join("cgroup.freeze"))
                .expect("read")
                .starts_with('0')
        );
    }
}
