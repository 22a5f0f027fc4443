//! How much of what was written to a Unix socket its peer has not read.
#![allow(unsafe_code)] // rustix has no safe form of this one ioctl.

use std::ffi::c_int;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// `SIOCOUTQ` of `<linux/sockios.h>`; the same number on every architecture that we build for.
const SIOCOUTQ: Opcode = 0x5411;

/// The memory, in bytes, that the peer's unread input takes up; zero when it has read everything.
/// A function that answers without reading its input would otherwise find the rest of it in front of
/// its next call (spec/11 11.5, PipesAreClear).
pub(super) fn bytes(socket: impl AsFd) -> usize {
    // SAFETY: the kernel writes one int for SIOCOUTQ on a socket.
    let unread = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) };
    // Not knowing is treated as unread: a new connection is always right.
    unread.map_or(usize::MAX, |bytes| {
        usize::try_from(bytes).unwrap_or(usize::MAX)
    })
}
