//! What a run needs to know of a disk before it begins: how to read it, and whom to ask.

use super::mode::CaptureMode;
use super::packed_before::PackedBefore;
use super::resume::Sent;
use crate::capture::Baseline;
use crate::device::FreeSpace;
use crate::device::read::DiskReader;
use crate::error::Result;
use crate::format::{DiskRecord, FilesystemRecord};
use crate::freeze::Expedite;
use crate::model::{BlockSet, DiskIdentity, Epoch};
use crate::track::ChangeSource;
use std::sync::Arc;
use std::time::Instant;

/// Asks which blocks are free space of filesystems now.
pub type AskFree = Box<dyn FnMut(FreeScan) -> Result<FreeSpace> + Send>;

/// How free space is looked for.
#[derive(Clone, Copy, Debug)]
pub enum FreeScan {
    /// On the whole host.
    WholeHost,
    /// The same shortly before the cut. The filesystems that answer are kept open, to be asked
    /// while they are frozen. Not earlier: a filesystem that is kept open cannot be unmounted.
    BeforeCut,
    /// While all is frozen: only the filesystems that are kept open, and until this moment. What
    /// is found by then is a part.
    Frozen(Instant),
}

/// Asks for some blocks.
pub type AskBlocks = Box<dyn FnMut() -> Result<BlockSet> + Send>;

/// What a run needs to know of a disk before it begins.
pub struct DiskRunOptions {
    /// Which disk.
    pub identity: DiskIdentity,
    /// How it is read.
    pub reader: Box<dyn DiskReader>,
    /// What tells its changes.
    pub changes: Box<dyn ChangeSource>,
    /// Which blocks hold nothing that matters. Asked after an epoch has begun, so that a block that
    /// is put to use later is seen as changed.
    pub ask_free: AskFree,
    /// Which blocks never matter and may be written at any time: swap.
    pub ask_swap: AskBlocks,
    /// In which blocks some files lie, picked at random: none of these can be free.
    pub ask_files: AskBlocks,
    /// Full, incremental or compare.
    pub capture: CaptureMode,
    /// The parent's record and map, when the disk is built on a parent.
    pub parent: Option<(DiskRecord, Arc<Baseline>)>,
    /// How its last snapshot was packed, whether it is built on or not.
    pub packed_before: Option<PackedBefore>,
    /// What runs that were cut off have put of it.
    pub sent: Option<Arc<Sent>>,
    /// Copy free space and swap too.
    pub all_blocks: bool,
    /// What is mounted on it.
    pub filesystems: Vec<FilesystemRecord>,
    /// Expedites the kernel's grace periods where an epoch waits for one.
    pub expedite: Expedite,
}

impl DiskRunOptions {
    /// Starts an epoch.
    pub(super) fn advance(&mut self) -> Result<Epoch> {
        let _expedited = self.expedite.begin();
        self.changes.advance()
    }
}
