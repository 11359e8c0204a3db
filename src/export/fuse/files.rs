//! What the kernel asks of the FUSE filesystem. What needs the vault is handed on; all else is
//! answered at once. Nothing can be made, renamed or removed.

use super::layout::{Layout, Node};
use super::scratch::LayerPlace;
use super::served::Served;
use super::work::Work;
use crate::model::{Bytes, Extent};
use crossbeam_channel::Sender;
use fuser::{
    Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Nothing here ever changes.
const FOR_LONG: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest request, in bytes: as much as is read of a vault with one.
pub(super) const MOST_AT_ONCE: u32 = 1 << 20;
/// How many requests nobody waits for (read-ahead) the kernel may have open.
const MOST_AHEAD: u16 = 32;

pub(super) struct Files {
    served: Arc<Served>,
    work: Sender<Work>,
}

impl Files {
    pub(super) fn new(served: Arc<Served>, work: Sender<Work>) -> Self {
        Self { served, work }
    }

    fn layout(&self) -> &Layout {
        &self.served.layout
    }

    /// Hands work on. The readers are there as long as this is.
    fn hand_on(&self, work: Option<Work>) {
        let Some(work) = work else { return };
        let name = work.name;
        if self.work.send(work).is_err() {
            self.served.answers.refuse(name);
        }
    }
}

impl Filesystem for Files {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Errors say what would have been right: what the kernel has is right then.
        let _ = config.set_max_write(MOST_AT_ONCE);
        let _ = config.set_max_background(MOST_AHEAD);
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let folder = self.layout().node(parent);
        match folder.and_then(|folder| self.layout().find(folder, name)) {
            Some(node) => reply.entry(&FOR_LONG, &self.layout().attributes(node), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.layout().node(number) {
            Some(node) => reply.attr(&FOR_LONG, &self.layout().attributes(node)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let writes = flags.acc_mode() != OpenAccMode::O_RDONLY;
        match self.layout().node(number) {
            Some(Node::RawFile(_)) if writes => reply.error(Errno::EROFS),
            Some(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let (disk, layer) = match self.layout().node(number) {
            Some(Node::RawFile(disk)) => (disk, None),
            Some(Node::OverlayFile { disk, layer }) => (disk, Some(layer)),
            _ => return reply.error(Errno::EISDIR),
        };
        let end = self.layout().size(disk).0;
        let length = u64::from(size.min(MOST_AT_ONCE)).min(end.saturating_sub(offset));
        if length == 0 {
            return reply.data(&[]);
        }
        let place = Extent::new(Bytes(offset), Bytes(length));
        self.hand_on(self.served.read(disk, place, layer, reply));
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let Some(Node::OverlayFile { disk, layer }) = self.layout().node(number) else {
            return reply.error(Errno::EROFS);
        };
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > self.layout().size(disk).0) {
            return reply.error(Errno::ENOSPC);
        }
        let at = Bytes(offset);
        let place = LayerPlace { layer, disk, at };
        self.hand_on(self.served.write(place, data, reply));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        // It is thrown away.
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Some(folder) = self.layout().node(number) else {
            return reply.error(Errno::ENOENT);
        };
        let mut all = vec![(folder, "."), (Node::Root, "..")];
        all.extend(self.layout().entries(folder));
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (node, name)) in all.iter().enumerate().skip(from) {
            // Full: the kernel asks again from there.
            if reply.add(node.number(), at as u64 + 1, node.kind(), name) {
                break;
            }
        }
        reply.ok();
    }
}
