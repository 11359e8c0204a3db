//! What mirroring a vault has come to.

use crate::model::{Bytes, SnapshotId};

/// What was done, or, where nothing was to be put, what would be.
#[derive(Debug, Default)]
pub struct MirrorReport {
    /// How many snapshots of the source were looked at.
    pub snapshots: usize,
    /// How many of them were in the second place before.
    pub there: usize,
    /// Those that have come there now, newest first.
    pub sent: Vec<SnapshotId>,
    /// Those that were deleted in the source meanwhile.
    pub gone: Vec<SnapshotId>,
    /// How many objects were put.
    pub objects: u64,
    /// Their bytes.
    pub bytes: Bytes,
    /// What is damaged in the source.
    pub damaged: Vec<SourceDamage>,
    /// What was wrong in the second place.
    pub wrong: Vec<WrongObject>,
    /// What the user should know besides.
    pub warnings: Vec<String>,
}

/// A snapshot of which something is damaged in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceDamage {
    /// Which one.
    pub snapshot: SnapshotId,
    /// What is damaged, as text.
    pub what: String,
    /// Whether it came to the second place earlier, and was left alone there.
    pub there: bool,
}

/// An object of the second place that is not what it was when it was put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongObject {
    /// Its name.
    pub object: String,
    /// What is wrong, as text.
    pub what: String,
    /// Whether the source's was put in its place.
    pub replaced: bool,
}
