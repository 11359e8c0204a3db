//! What a run knows of a disk when all of it has been copied: what the manifest is made from.

use super::mode::CaptureMode;
use super::resume::Sent;
use crate::capture::{Baseline, Captured};
use crate::device::read::ReadStats;
use crate::format::{DiskRecord, FilesystemRecord, RewrittenRecord};
use crate::model::{BlockSet, Bytes, DiskIdentity, Witness};
use std::sync::Arc;

/// One disk of a run when all of it has been copied.
pub struct CapturedDisk {
    /// Which disk.
    pub identity: DiskIdentity,
    /// Full, incremental or compare.
    pub capture: CaptureMode,
    /// The parent's record and map, when the disk is built on a parent.
    pub parent: Option<(DiskRecord, Arc<Baseline>)>,
    /// What runs that were cut off have put of it.
    pub sent: Option<Arc<Sent>>,
    /// Free space and swap were copied too.
    pub all_blocks: bool,
    /// What is mounted on it.
    pub filesystems: Vec<FilesystemRecord>,
    /// Blocks that are recorded as free.
    pub free: BlockSet,
    /// How many passes there were.
    pub passes: u32,
    /// What was read.
    pub read: ReadStats,
    /// How much of it was read while everything was frozen.
    pub frozen: Bytes,
    /// What the tracker said at the cut.
    pub cut: Option<Witness>,
    /// What was stored.
    pub stored: Captured,
    /// What became of the parent's blocks that were rewritten in place; `None`: nobody has counted.
    pub rewritten: Option<RewrittenRecord>,
}
