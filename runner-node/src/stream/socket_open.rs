//! Opens a function's socket without trusting what the function put into its directory.
//!
//! Every step works on a descriptor that an earlier step opened: a name is looked up once, as a
//! single component below the directory's own descriptor and without following links, and the
//! connection is made through the descriptor of the very inode that was checked. So nothing can be
//! swapped in between. Opening with `O_PATH` neither blocks on a FIFO nor touches a device.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use domain::{ApiError, ErrorCode};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio::net::UnixStream;

/// The name by which a function announces its socket.
pub(super) const LISTENER: &str = "lsnr.sock";

/// Why a listener file is not connected to. The texts are those of spec/03 3.1 where it has one.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no `lsnr.sock`, or it cannot be looked at.
    #[error("error statting unix socket link file: {0}")]
    Link(#[source] Errno),
    /// It is a symlink that cannot be read.
    #[error("error reading unix socket symlink destination: {0}")]
    Destination(#[source] Errno),
    /// It is a symlink to anything but a name in the same directory.
    #[error(
        "invalid unix socket symlink, symlinks must be relative within the unix socket directory"
    )]
    Outside,
    /// The symlink's target is not there, or it cannot be looked at.
    #[error("unable to stat unix socket file: {0}")]
    Target(#[source] Errno),
    /// It is, or points to, something that is not a socket; a second symlink, for example.
    #[error("listener file is not a socket")]
    NotSocket,
    /// The socket has another name somewhere: it may be another function's.
    #[error("listener socket has more than one hard link")]
    HardLink,
    /// The socket lies on a file system mounted into the directory.
    #[error("listener socket is on another file system than its directory")]
    OtherDevice,
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::from(ErrorCode::ContainerInitFailed).detail(refusal)
    }
}

/// A function's socket: the very inode that was checked.
#[derive(Debug)]
pub struct Socket {
    inode: OwnedFd,
}

impl Socket {
    /// Opens `lsnr.sock` in `dir`: a socket, or one relative symlink to a socket beside it.
    ///
    /// # Errors
    /// The [`Refusal`] for anything else.
    pub fn open(dir: BorrowedFd<'_>) -> Result<Self, Refusal> {
        let device = rustix::fs::fstat(dir).map_err(Refusal::Link)?.st_dev;
        let (mut inode, mut stat) = open_beside(dir, Path::new(LISTENER)).map_err(Refusal::Link)?;
        if file_type(&stat) == FileType::Symlink {
            let target =
                rustix::fs::readlinkat(&inode, "", Vec::new()).map_err(Refusal::Destination)?;
            let target = Path::new(std::ffi::OsStr::from_bytes(target.as_bytes()));
            let name = single_name(target).ok_or(Refusal::Outside)?;
            (inode, stat) = open_beside(dir, name).map_err(Refusal::Target)?;
        }
        if file_type(&stat) != FileType::Socket {
            return Err(Refusal::NotSocket);
        }
        if stat.st_dev != device {
            return Err(Refusal::OtherDevice);
        }
        if stat.st_nlink != 1 {
            return Err(Refusal::HardLink);
        }
        Ok(Self { inode })
    }

    /// Connects to it. The path leads to the open descriptor, not to a name that can change.
    ///
    /// # Errors
    /// `ConnectionRefused` if nobody listens, and whatever else `connect(2)` says.
    pub(super) async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(format!("/proc/self/fd/{}", self.inode.as_raw_fd())).await
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inode.as_fd()
    }
}

fn open_beside(dir: BorrowedFd<'_>, name: &Path) -> Result<(OwnedFd, Stat), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inode = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&inode)?;
    Ok((inode, stat))
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The name, if `target` is one plain name and nothing else but leading `./`.
fn single_name(target: &Path) -> Option<&Path> {
    if target.as_os_str().as_bytes().ends_with(b"/") {
        return None;
    }
    let mut names = target
        .components()
        .filter(|part| *part != Component::CurDir);
    match (names.next(), names.next()) {
        (Some(Component::Normal(name)), None) => Some(Path::new(name)),
        _ => None,
    }
}
