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
    // A directory that changes its parent must be writable itself.
    drop(open(dir, inner)?);
    loop {
        *moved += 1;
        match rustix::fs::renameat(dir, inner, top, format!("removed-{moved}")) {
            // The function chose that name too.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_closed_directory_is_made_ours() {
        let top = tempfile::tempdir().expect("a temporary directory");
        let path = top.path().join("closed");
        std::fs::create_dir(&path).expect("a directory");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).expect("a mode");
        let parent = std::fs::File::open(top.path()).expect("a directory");
        drop(open(parent.as_fd(), c"closed").expect("opened"));
        let mode = std::fs::metadata(&path).expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o7777, 0o700);
    }
}
