//! Sees a function create its socket's name in a directory, by inotify.
//!
//! A user may have only so many inotify instances, 128 by default and shared with all else that runs
//! as the same user. So all watches of the process share one, for as long as there is a watch. Whoever
//! waits reads for all: no task, and no runtime, owns the instance.
#![allow(unsafe_code)] // Registering a descriptor with tokio has no safe form.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fs::AtFlags;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::socket_open::LISTENER;

/// A watch on one directory. What happens from its making on is not missed.
#[derive(Debug)]
pub(super) struct ListenerWatch {
    instance: Arc<Instance>,
    descriptor: i32,
    created: Arc<Notify>,
}

/// An inotify instance, and who waits for the watches on it.
#[derive(Debug)]
struct Instance {
    inotify: OwnedFd,
    watches: Mutex<HashMap<i32, Arc<Notify>>>,
}

static SHARED: Mutex<Weak<Instance>> = Mutex::new(Weak::new());

impl ListenerWatch {
    pub(super) fn arm(dir: BorrowedFd<'_>) -> Result<Self, Errno> {
        let instance = Instance::shared()?;
        let by_descriptor = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let mask = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let created = Arc::new(Notify::new());
        // Locked before there can be an event, so that none finds nobody.
        let mut watches = lock(&instance.watches);
        let descriptor = inotify::add_watch(&instance.inotify, by_descriptor, mask)?;
        watches.insert(descriptor, Arc::clone(&created));
        drop(watches);
        Ok(Self {
            instance,
            descriptor,
            created,
        })
    }

    /// Waits until the name is in `dir`, the watched directory.
    pub(super) async fn wait(&self, dir: BorrowedFd<'_>) -> io::Result<()> {
        // Each who waits has a descriptor of its own, as a descriptor can be registered only once.
        let inotify = self.instance.inotify.try_clone()?;
        // SAFETY: the descriptor belongs to the registration and stays open as long.
        let inotify = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }
            .map_err(io::Error::from)?;
        loop {
            tokio::select! {
                () = self.created.notified() => {
                    if has_listener(dir) {
                        return Ok(());
                    }
                }
                ready = inotify.readable() => match self.instance.read() {
                    Ok(()) => {}
                    Err(Errno::AGAIN | Errno::INTR) => ready?.clear_ready(),
                    Err(error) => return Err(error.into()),
                },
            }
        }
    }
}

impl Drop for ListenerWatch {
    fn drop(&mut self) {
        lock(&self.instance.watches).remove(&self.descriptor);
        // It is gone already if the directory is.
        let _ = inotify::remove_watch(&self.instance.inotify, self.descriptor);
    }
}

impl Instance {
    fn shared() -> Result<Arc<Self>, Errno> {
        let mut shared = lock(&SHARED);
        if let Some(instance) = shared.upgrade() {
            return Ok(instance);
        }
        let instance = Arc::new(Self {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            watches: Mutex::default(),
        });
        *shared = Arc::downgrade(&instance);
        Ok(instance)
    }

    /// Reads once, and tells those whom it concerns. Once only: a function that floods its watch
    /// with events must not keep the thread.
    fn read(&self) -> Result<(), Errno> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = events.next()?;
            let watches = lock(&self.watches);
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                // Events were lost, and with them perhaps the one that somebody waits for.
                watches.values().for_each(|created| created.notify_one());
            } else if event
                .file_name()
                .is_some_and(|name| name.to_bytes() == LISTENER.as_bytes())
                && let Some(created) = watches.get(&event.wd())
            {
                created.notify_one();
            }
            drop(watches);
            if events.is_buffer_empty() {
                return Ok(());
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn has_listener(dir: BorrowedFd<'_>) -> bool {
    rustix::fs::statat(dir, LISTENER, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}
