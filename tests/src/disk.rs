//! A disk that can lose power: a file system whose files are in memory, and which knows what of them would be found
//! again (FUSE). What programs wrote and did not sync is gone after a loss of power, or there in part.

mod content;
mod filesystem;
mod model;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use tempfile::TempDir;

use crate::random::Random;
use filesystem::{Mounted, lock};
use model::{Attributes, Model};

/// How long killed processes may keep their files open.
const PATIENCE: Duration = Duration::from_secs(20);

/// As soon as the pipe from the tests' process closes: ends whoever works in the directory, and
/// unmounts it. Signals of a terminal are for the tests; this has to outlive them.
const JANITOR: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
grep -q " $1 fuse" /proc/self/mounts || exit 0
for process in /proc/[0-9]*; do
    case "$(readlink "$process/cwd")" in "$1"|"$1"/*) kill -KILL "${process#/proc/}";; esac
done
umount --lazy "$1" || fusermount3 -u -z "$1"
rmdir "$1"
"#;

/// A disk, mounted in a directory of its own; gone when dropped.
pub struct Disk {
    session: Option<BackgroundSession>,
    directory: TempDir,
    janitor: Child,
    model: Arc<Mutex<Model>>,
}

impl Disk {
    /// An empty disk.
    ///
    /// # Panics
    /// Where nothing can be mounted.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("hearth-disk-").tempdir();
        let directory = directory.expect("a directory for a disk");
        let janitor = Command::new("sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell that cleans up");
        let owner = directory.path().metadata().expect("it was made");
        let root = Attributes {
            mode: 0o755,
            user: owner.uid(),
            group: owner.gid(),
            modified: SystemTime::now(),
        };
        let mut disk = Self {
            session: None,
            directory,
            janitor,
            model: Arc::new(Mutex::new(Model::new(root))),
        };
        disk.mount();
        disk
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A new directory on it.
    ///
    /// # Panics
    /// When it is there.
    pub fn directory(&self, name: &str) -> PathBuf {
        let directory = self.path().join(name);
        std::fs::create_dir(&directory).expect("a new directory");
        directory
    }

    /// Makes everything durable, as time would do.
    pub fn settle(&self) {
        lock(&self.model).settle();
    }

    /// From now on it answers syncs, and does not heed them.
    pub fn lie(&self) {
        lock(&self.model).lie();
    }

    /// Loses power, and is there again with what was durable and, of every hundred other
    /// pages and names, with so many. Nobody may run any more who uses it.
    ///
    /// # Panics
    /// When somebody does.
    pub fn lose_power(&mut self, random: &mut Random, survivors: u64) {
        self.unmount();
        lock(&self.model).lose_power(random, survivors);
        self.mount();
    }

    fn mount(&mut self) {
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("hearth-disk".to_owned()),
            MountOption::DefaultPermissions,
        ];
        if rustix::process::geteuid().is_root() {
            // Servers that refuse to run as root run as another user.
            config.acl = SessionACL::All;
        }
        let filesystem = Mounted::new(Arc::clone(&self.model));
        let session = fuser::spawn_mount(filesystem, self.path(), &config);
        self.session = Some(session.expect("FUSE, with /dev/fuse (and fusermount3 for users)"));
    }

    fn unmount(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        let began = Instant::now();
        while let Err(error) = unmount(self.path()) {
            assert!(began.elapsed() < PATIENCE, "the disk is in use: {error}");
            std::thread::yield_now();
        }
        session.join().expect("the file system ends");
    }
}

fn unmount(path: &Path) -> io::Result<()> {
    let flags = rustix::mount::UnmountFlags::empty();
    match rustix::mount::unmount(path, flags) {
        Err(rustix::io::Errno::PERM) => {
            let mut command = Command::new("fusermount3");
            let output = command.arg("-u").arg(path).output()?;
            match output.status.success() {
                true => Ok(()),
                false => Err(io::Error::other(format!("{output:?}"))),
            }
        }
        unmounted => Ok(unmounted?),
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever uses it now has been left behind, and ends with it.
        drop(self.janitor.stdin.take());
        self.janitor.wait().expect("the disk is unmounted");
    }
}

#[cfg(test)]
mod tests;
