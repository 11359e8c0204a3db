//! How a snapshot of a disk was packed, as its manifest says: what the next one is estimated by. It
//! must never decide more than a warning: a manifest may say anything.

use crate::format::DiskRecord;
use crate::model::Bytes;

/// How much one snapshot had to pack of a disk, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedBefore {
    /// Bytes in blocks that were to be stored.
    pub changed: Bytes,
    /// Bytes that were.
    pub stored: Bytes,
}

impl PackedBefore {
    /// By a snapshot's record of the disk.
    pub fn of(record: &DiskRecord) -> Self {
        Self {
            changed: record.changed_bytes,
            stored: record.stored_bytes,
        }
    }
}
