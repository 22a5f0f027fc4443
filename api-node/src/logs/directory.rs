//! Logs in a directory of this machine, or of one that all API nodes share.
//!
//! A part is written beside its place and renamed, so that nobody sees half of one. It is not forced
//! to the disk: what was appended survives the death of the process, and not always that of the
//! machine. A log is not worth a wait for the disk per part; the call itself is kept by the database.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use object_store::local::LocalFileSystem;

use super::objects::ObjectParts;

const DIRECTORY_MODE: u32 = 0o750;

/// Opens a directory, which is created when missing.
pub(super) fn open(path: &Path) -> Result<ObjectParts, io::Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)?;
    let files = LocalFileSystem::new_with_prefix(path)
        .map_err(io::Error::other)?
        .with_automatic_cleanup(true);
    Ok(ObjectParts::new(Arc::new(files), None))
}
