//! The disk as a file system in user space: what the kernel asks of the model, and what it is told.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::OFlags;

use super::content::Content;
use super::model::{Attributes, Change, Id, Model};

/// How long the kernel may remember what it was told: nobody else changes anything.
const LONG: Duration = Duration::from_secs(24 * 3600);
const GENERATION: Generation = Generation(0);
const BLOCK: u32 = 4096;
/// As many blocks are always free: 16 GiB.
const FREE_BLOCKS: u64 = 4 << 20;

/// A model that is mounted.
pub(super) struct Mounted {
    model: Arc<Mutex<Model>>,
    /// What is being listed, as it was when the directory was opened.
    listings: Mutex<Listings>,
}

#[derive(Default)]
struct Listings {
    next: u64,
    open: HashMap<u64, Vec<Listed>>,
}

struct Listed {
    id: Id,
    kind: FileType,
    name: OsString,
}

pub(super) fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mounted {
    pub(super) fn new(model: Arc<Mutex<Model>>) -> Self {
        Self {
            model,
            listings: Mutex::default(),
        }
    }
}

fn kind(model: &Model, id: Id) -> FileType {
    let content = model.node(id).and_then(|node| node.content.as_ref());
    match content {
        Some(_) => FileType::RegularFile,
        None => FileType::Directory,
    }
}

fn attributes(model: &Model, id: Id) -> Result<FileAttr, Errno> {
    let node = model.node(id).ok_or(Errno::ENOENT)?;
    let size = node.content.as_ref().map_or(0, Content::size);
    let modified = node.attributes.modified;
    Ok(FileAttr {
        ino: INodeNo(id),
        size,
        blocks: size.div_ceil(512),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind: kind(model, id),
        perm: node.attributes.mode,
        nlink: 1,
        uid: node.attributes.user,
        gid: node.attributes.group,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    })
}

/// A new file or directory of whoever asks.
fn make(
    model: &mut Model,
    request: &Request,
    (directory, name): (INodeNo, &OsStr),
    mode: u32,
    content: Option<Content>,
) -> Result<FileAttr, Errno> {
    if model.find(directory.0, name).is_some() {
        return Err(Errno::EEXIST);
    }
    let attributes_of_new = Attributes {
        mode: permissions(mode),
        user: request.uid(),
        group: request.gid(),
        modified: SystemTime::now(),
    };
    let id = model.add(attributes_of_new, content);
    model.change(Change::new(directory.0, name, Some(id)));
    attributes(model, id)
}

fn permissions(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).expect("twelve bits")
}

fn content(model: &mut Model, id: INodeNo) -> Result<&mut Content, Errno> {
    let node = model.node_mut(id.0).ok_or(Errno::ENOENT)?;
    node.attributes.modified = SystemTime::now();
    node.content.as_mut().ok_or(Errno::EISDIR)
}

fn remove(model: &mut Model, directory: INodeNo, name: &OsStr) -> Result<(), Errno> {
    let id = model.find(directory.0, name).ok_or(Errno::ENOENT)?;
    if !model.is_empty(id) {
        return Err(Errno::ENOTEMPTY);
    }
    model.change(Change::new(directory.0, name, None));
    Ok(())
}

fn rename(
    model: &mut Model,
    (from, old): (INodeNo, &OsStr),
    (to, new): (INodeNo, &OsStr),
    flags: RenameFlags,
) -> Result<(), Errno> {
    let id = model.find(from.0, old).ok_or(Errno::ENOENT)?;
    let replaced = model.find(to.0, new);
    if flags == RenameFlags::RENAME_NOREPLACE && replaced.is_some() {
        return Err(Errno::EEXIST);
    }
    if !flags.difference(RenameFlags::RENAME_NOREPLACE).is_empty() {
        return Err(Errno::EINVAL);
    }
    if replaced.is_some_and(|replaced| !model.is_empty(replaced)) {
        return Err(Errno::ENOTEMPTY);
    }
    // Two names of one file stay.
    if replaced != Some(id) {
        let gone = Change::new(from.0, old, None);
        model.change(gone.and(Change::new(to.0, new, Some(id))));
    }
    Ok(())
}

/// Whether what is written through a file opened with these flags is durable at once.
fn is_synchronous(flags: OpenFlags) -> bool {
    let flags = OFlags::from_bits_retain(flags.0.cast_unsigned());
    flags.intersects(OFlags::SYNC | OFlags::DSYNC)
}

fn said(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn entered(made: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match made {
        Ok(attributes) => reply.entry(&LONG, &attributes, GENERATION),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let model = lock(&self.model);
        let id = model.find(parent.0, name).ok_or(Errno::ENOENT);
        entered(id.and_then(|id| attributes(&model, id)), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&lock(&self.model), ino.0) {
            Ok(attributes) => reply.attr(&LONG, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut model = lock(&self.model);
        if let Some(size) = size {
            match content(&mut model, ino) {
                Ok(content) => content.resize(size),
                Err(error) => return reply.error(error),
            }
        }
        let Some(node) = model.node_mut(ino.0) else {
            return reply.error(Errno::ENOENT);
        };
        let known = &mut node.attributes;
        known.mode = mode.map_or(known.mode, permissions);
        known.user = uid.unwrap_or(known.user);
        known.group = gid.unwrap_or(known.group);
        known.modified = match mtime {
            None => known.modified,
            Some(TimeOrNow::Now) => SystemTime::now(),
            Some(TimeOrNow::SpecificTime(time)) => time,
        };
        match attributes(&model, ino.0) {
            Ok(attributes) => reply.attr(&LONG, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let mut model = lock(&self.model);
        let made = make(&mut model, request, (parent, name), mode, None);
        entered(made, reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut model = lock(&self.model);
        let empty = Some(Content::default());
        match make(&mut model, request, (parent, name), mode, empty) {
            Ok(attributes) => reply.created(
                &LONG,
                &attributes,
                GENERATION,
                FileHandle(0),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(error) => reply.error(error),
        }
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let mut model = lock(&self.model);
        if model.find(newparent.0, newname).is_some() {
            return reply.error(Errno::EEXIST);
        }
        model.change(Change::new(newparent.0, newname, Some(ino.0)));
        entered(attributes(&model, ino.0), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        said(remove(&mut lock(&self.model), parent, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        said(remove(&mut lock(&self.model), parent, name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut model = lock(&self.model);
        let (from, to) = ((parent, name), (newparent, newname));
        said(rename(&mut model, from, to, flags), reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let model = lock(&self.model);
        let content = model.node(ino.0).and_then(|node| node.content.as_ref());
        match content {
            Some(content) => reply.data(&content.read(offset, size)),
            None => reply.error(Errno::EISDIR),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut model = lock(&self.model);
        match content(&mut model, ino) {
            Ok(content) => content.write(offset, data),
            Err(error) => return reply.error(error),
        }
        if is_synchronous(flags) {
            model.sync(ino.0);
        }
        reply.written(u32::try_from(data.len()).expect("no more than was asked for"));
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let mut model = lock(&self.model);
        let enlarged = content(&mut model, ino);
        let enlarged = enlarged.map(|content| content.resize(content.size().max(offset + length)));
        said(enlarged, reply);
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        lock(&self.model).sync(ino.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        lock(&self.model).sync(ino.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let model = lock(&self.model);
        let own = [(".".into(), ino.0), ("..".into(), ino.0)];
        let listed = own.into_iter().chain(model.entries(ino.0));
        let listed = listed.map(|(name, id)| Listed {
            id,
            kind: kind(&model, id),
            name,
        });
        let mut listings = lock(&self.listings);
        listings.next += 1;
        let handle = listings.next;
        listings.open.insert(handle, listed.collect());
        reply.opened(FileHandle(handle), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listings = lock(&self.listings);
        let Some(listed) = listings.open.get(&handle.0) else {
            return reply.error(Errno::EBADF);
        };
        for (next, entry) in (1..).zip(listed).skip_while(|(next, _)| *next <= offset) {
            if reply.add(INodeNo(entry.id), next, entry.kind, &entry.name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        lock(&self.listings).open.remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (files, longest_name) = (1 << 20, 255);
        reply.statfs(
            2 * FREE_BLOCKS,
            FREE_BLOCKS,
            FREE_BLOCKS,
            2 * files,
            files,
            BLOCK,
            longest_name,
            BLOCK,
        );
    }
}
