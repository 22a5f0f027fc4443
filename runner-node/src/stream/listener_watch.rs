//! Sees a function create its socket's name in a directory, by inotify.
#![allow(unsafe_code)] // Registering a descriptor with tokio has no safe form.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::AtFlags;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::socket_open::LISTENER;

/// A watch on one directory. What happens from its making on is not missed.
#[derive(Debug)]
pub(super) struct ListenerWatch {
    inotify: OwnedFd,
}

/// What one read of the watch brought.
enum Seen {
    Listener,
    Overflow,
    Other,
}

impl ListenerWatch {
    pub(super) fn arm(dir: BorrowedFd<'_>) -> Result<Self, Errno> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let by_descriptor = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let created = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, by_descriptor, created)?;
        Ok(Self { inotify })
    }

    /// Waits until the name was created in `dir`, the watched directory, or moved into it.
    pub(super) async fn wait(&self, dir: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: the descriptor stays open, and is not closed by anybody else, while it is borrowed.
        let watch =
            unsafe { AsyncFd::register_with_interest(self.inotify.as_fd(), Interest::READABLE) }
                .map_err(io::Error::from)?;
        loop {
            let mut ready = watch.readable().await?;
            match read(self.inotify.as_fd()) {
                Ok(Seen::Listener) => return Ok(()),
                Ok(Seen::Other) => {}
                // Events were lost, and with them perhaps the one that matters.
                Ok(Seen::Overflow) if has_listener(dir) => return Ok(()),
                Ok(Seen::Overflow) => {}
                Err(Errno::AGAIN | Errno::INTR) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn has_listener(dir: BorrowedFd<'_>) -> bool {
    rustix::fs::statat(dir, LISTENER, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Reads once: a function that floods the watch with events must not keep the thread.
fn read(inotify: BorrowedFd<'_>) -> Result<Seen, Errno> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(inotify, &mut buffer);
    let mut seen = Seen::Other;
    loop {
        let event = events.next()?;
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            seen = Seen::Overflow;
        } else if event
            .file_name()
            .is_some_and(|name| name.to_bytes() == LISTENER.as_bytes())
        {
            return Ok(Seen::Listener);
        }
        if events.is_buffer_empty() {
            return Ok(seen);
        }
    }
}
