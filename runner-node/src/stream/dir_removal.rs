//! Removes a directory that a function wrote to: links are not followed, permissions are taken back
//! where that is possible, and neither the depth nor the number of entries costs stack, descriptors
//! or memory.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Removes everything in `top`.
///
/// A directory below is not walked into: its own directories are moved up into `top` first, so there
/// is never more than one level to empty.
pub(super) fn empty(top: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut moved = 0u64;
    empty_with(top, |name| flatten(top, name, &mut moved))
}

/// Removes the files in `dir`, and gives its directories to `each`, until nothing is left: a listing
/// that is changed while it is read may skip names.
fn empty_with(
    dir: BorrowedFd<'_>,
    mut each: impl FnMut(&CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    loop {
        let mut found = false;
        for entry in names(dir)? {
            let (name, kind) = entry?;
            found = true;
            if kind == FileType::Directory || !unlink(dir, &name)? {
                each(&name)?;
            }
        }
        if !found {
            return Ok(());
        }
    }
}

/// Empties the directory `name` of `top`, and removes it.
fn flatten(top: BorrowedFd<'_>, name: &CStr, moved: &mut u64) -> Result<(), Errno> {
    let dir = open(top, name)?;
    empty_with(dir.as_fd(), |inner| move_up(top, dir.as_fd(), inner, moved))?;
    rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR)
}

fn move_up(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    inner: &CStr,
    moved: &mut u64,
) -> Result<(), Errno> {
    use rustix::fs::RenameFlags;
    // A directory that changes its parent must be writable itself.
    drop(open(dir, inner)?);
    loop {
        *moved += 1;
        let new = format!("removed-{moved}");
        // Not over a name that the function chose.
        match rustix::fs::renameat_with(dir, inner, top, new.as_str(), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            result => return result,
        }
    }
}

/// Opens a directory, and makes it ours to change.
fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = rustix::fs::openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
    // It may belong to another user; then only root gets on, and needs no permission.
    let by_descriptor = format!("/proc/self/fd/{}", path.as_raw_fd());
    let _ = rustix::fs::chmod(by_descriptor, Mode::RWXU);
    rustix::fs::openat(path, c".", flags | OFlags::RDONLY, Mode::empty())
}

/// Removes a name; `false` if it is a directory.
fn unlink(dir: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => Ok(false),
        Err(error) => Err(error),
    }
}

type Entry = Result<(CString, FileType), Errno>;

/// The entries of a directory as it is now; those that come or go meanwhile may be missing.
fn names(dir: BorrowedFd<'_>) -> Result<impl Iterator<Item = Entry>, Errno> {
    Ok(Dir::read_from(dir)?.filter_map(|entry| match entry {
        Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => None,
        Ok(entry) => Some(Ok((entry.file_name().to_owned(), entry.file_type()))),
        Err(error) => Some(Err(error)),
    }))
}
