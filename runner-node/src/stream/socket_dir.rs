//! The directory in which one container's function creates its socket, watched from before the
//! container exists until the socket is there (spec/03 3.1, spec/13 13.2).

use std::ffi::CString;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use domain::{ApiError, ErrorCode};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::dir_removal;
use super::link::Link;
use super::listener_watch::ListenerWatch;
use super::socket_open::{LISTENER, Socket};
use crate::driver::SocketMount;

/// Where a container sees the directory, or the volume that holds it.
const TARGET: &str = "/tmp/iofs";

const PREFIX: &str = "iofs";
const RANDOM_DIGITS: usize = 32;

/// Where socket directories are made, and how containers see them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketDirConfig {
    /// `FN_IOFS_PATH`: the parent of all socket directories. Default: the directory for temporary
    /// files.
    pub path: Option<PathBuf>,
    /// `FN_IOFS_DOCKER_PATH`: `path` as the engine knows it, when the runner is itself in a
    /// container; or, when it has no slash, the volume that is mounted at `path`.
    pub docker_path: Option<String>,
    /// `FN_IOFS_ENABLE_TMPFS`: mount a tmpfs on each directory. Not with a volume: the mount could
    /// not be seen through it.
    pub tmpfs: bool,
    /// `FN_IOFS_OPTS`: mount options of that tmpfs, such as `size=1m`.
    pub tmpfs_opts: String,
    /// Containers do not run as root, so anybody may write to the directory.
    pub unprivileged: bool,
}

impl SocketDirConfig {
    fn base(&self) -> PathBuf {
        self.path.clone().unwrap_or_else(std::env::temp_dir)
    }

    fn volume(&self) -> Option<&str> {
        self.docker_path
            .as_deref()
            .filter(|path| !path.is_empty() && !path.contains('/'))
    }

    fn mounts_tmpfs(&self) -> bool {
        self.tmpfs && self.volume().is_none()
    }
}

/// The directory of one container. It is removed when this is dropped, which should happen after the
/// container was removed.
///
/// A lock on the directory says that its runner lives: [`SocketDir::remove_stale`] leaves it alone.
#[derive(Debug)]
pub struct SocketDir {
    place: Option<Place>,
    mount: SocketMount,
    listener_env: String,
    /// Until the socket is there.
    watch: Option<ListenerWatch>,
}

/// The directory itself, and what it takes to remove it.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    mounted: bool,
    dir: OwnedFd,
}

impl SocketDir {
    /// Makes a directory, and watches it from now on.
    ///
    /// # Errors
    /// `Internal` if the directory cannot be made, mounted or watched.
    pub fn create(config: &SocketDirConfig) -> Result<Self, ApiError> {
        Self::try_create(config)
            .map_err(|error| ApiError::internal(format_args!("socket directory: {error}")))
    }

    /// Makes a directory and removes it, to find out whether that works.
    ///
    /// # Errors
    /// Why it does not.
    pub fn probe(config: &SocketDirConfig) -> io::Result<()> {
        Self::try_create(config).map(drop)
    }

    fn try_create(config: &SocketDirConfig) -> io::Result<Self> {
        let base = config.base();
        std::fs::create_dir_all(&base)?;
        if config.volume().is_some() {
            hide_names(&base)?;
        }
        let (name, place) = Place::make(&base, config)?;
        let (mount, listener_env) = match (config.volume(), &config.docker_path) {
            (Some(volume), _) => (
                SocketMount::Volume {
                    name: volume.to_owned(),
                    target: TARGET.into(),
                },
                format!("unix:{TARGET}/{name}/{LISTENER}"),
            ),
            (None, docker_path) => (
                SocketMount::Directory {
                    source: match docker_path.as_deref() {
                        Some(prefix) if !prefix.is_empty() => Path::new(prefix).join(&name),
                        _ => place.path.clone(),
                    },
                    target: TARGET.into(),
                },
                format!("unix:{TARGET}/{LISTENER}"),
            ),
        };
        // Owned from here on, so that an error below removes it.
        let mut made = Self {
            place: Some(place),
            mount,
            listener_env,
            watch: None,
        };
        if config.unprivileged && !config.mounts_tmpfs() {
            rustix::fs::fchmod(made.dir(), Mode::from_raw_mode(0o777))?;
        }
        made.watch = Some(ListenerWatch::arm(made.dir())?);
        Ok(made)
    }

    fn dir(&self) -> BorrowedFd<'_> {
        self.place
            .as_ref()
            .expect("the place is taken only when the directory is given up")
            .dir
            .as_fd()
    }

    /// How the container gets to see the directory.
    pub fn mount(&self) -> SocketMount {
        self.mount.clone()
    }

    /// The value of `FN_LISTENER`.
    pub fn listener_env(&self) -> &str {
        &self.listener_env
    }

    /// Waits until the function has created its socket and listens on it; the caller bounds the
    /// wait. An answer's head may have up to `max_header_bytes` bytes. May be called again if it was
    /// cancelled.
    ///
    /// # Errors
    /// `ContainerInitFailed`, with a [`Refusal`](super::Refusal) as its detail, if what the function
    /// created is not a socket of its own; `Internal` if the watch fails.
    pub async fn ready(&mut self, max_header_bytes: usize) -> Result<Link, ApiError> {
        if let Some(watch) = &self.watch {
            watch
                .wait(self.dir())
                .await
                .map_err(|error| ApiError::internal(format_args!("socket watch: {error}")))?;
            self.watch = None;
        }
        let mut link = Link::new(Socket::open(self.dir())?, max_header_bytes);
        link.connect_when_listening().await.map_err(|error| {
            ApiError::from(ErrorCode::ContainerInitFailed)
                .detail(format_args!("connecting to the listener: {error}"))
        })?;
        Ok(link)
    }

    /// Removes the directory and all that the function left in it. The container must be gone.
    pub async fn remove(mut self) {
        if let Some(place) = self.place.take() {
            // Fails only with the runtime, and then the job was done or the process ends.
            let _ = tokio::task::spawn_blocking(move || place.remove()).await;
        }
    }

    /// Removes the directories that a killed runner left behind, and returns how many there were.
    /// Those of runners that live are locked, and left alone. Blocks; call it after the killed
    /// runner's containers were removed.
    pub fn remove_stale(config: &SocketDirConfig) -> usize {
        let Ok(entries) = std::fs::read_dir(config.base()) else {
            return 0;
        };
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_str().is_some_and(is_ours))
            .filter_map(|entry| Place::adopt(entry.path()).ok())
            .map(Place::remove)
            .count()
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else {
            return;
        };
        // A function can make removal long: not on a thread that serves others.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || place.remove())),
            Err(_) => place.remove(),
        }
    }
}

impl Place {
    fn make(base: &Path, config: &SocketDirConfig) -> io::Result<(String, Self)> {
        // Another runner's clean-up may catch the directory before it is locked.
        const ATTEMPTS: usize = 3;
        let mut attempt = 1;
        loop {
            // In a shared volume, not to be guessed by other functions.
            let name = format!("{PREFIX}{:0RANDOM_DIGITS$x}", rand::random::<u128>());
            let path = base.join(&name);
            DirBuilder::new().mode(0o700).create(&path)?;
            match Self::mount_and_lock(&path, config) {
                Ok(place) => return Ok((name, place)),
                Err(error) => {
                    let _ = std::fs::remove_dir(&path);
                    if attempt == ATTEMPTS {
                        return Err(error);
                    }
                }
            }
            attempt += 1;
        }
    }

    fn mount_and_lock(path: &Path, config: &SocketDirConfig) -> io::Result<Self> {
        if config.mounts_tmpfs() {
            let flags = MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV;
            let options = CString::new(config.tmpfs_opts.as_str())?;
            rustix::mount::mount("tmpfs", path, "tmpfs", flags, options.as_c_str())?;
        }
        let locked = Self::lock(path.to_owned(), config.mounts_tmpfs());
        if locked.is_err() && config.mounts_tmpfs() {
            let _ = rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
        Ok(locked?)
    }

    fn lock(path: PathBuf, mounted: bool) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty())?;
        rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
        let stat = rustix::fs::fstat(&dir)?;
        if stat.st_nlink == 0 {
            return Err(Errno::NOENT);
        }
        Ok(Self { path, mounted, dir })
    }

    /// Takes over a directory that nobody holds any more.
    fn adopt(path: PathBuf) -> Result<Self, Errno> {
        let parent = path.parent().ok_or(Errno::INVAL)?;
        let parent = rustix::fs::stat(parent)?.st_dev;
        let mounted = rustix::fs::lstat(&path)?.st_dev != parent;
        Self::lock(path, mounted)
    }

    fn remove(self) {
        let Self { path, mounted, dir } = self;
        let emptied = if mounted {
            rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        } else {
            dir_removal::empty(dir.as_fd())
        };
        // The lock goes last: until then no other runner may take the directory for stale.
        let removed = emptied.and_then(|()| rustix::fs::rmdir(&path));
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "socket directory left behind");
        }
        drop(dir);
    }
}

/// In a volume that all functions see, no function may list the others' directories.
fn hide_names(base: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(base)?.permissions().mode() & 0o7777;
    let hidden = (mode & !0o066) | 0o011;
    if mode != hidden {
        std::fs::set_permissions(base, std::fs::Permissions::from_mode(hidden))?;
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|random| {
        random.len() == RANDOM_DIGITS && random.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}
