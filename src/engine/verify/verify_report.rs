//! What `verify` has found.

use super::damaged_segments::Noted;
use crate::model::{Bytes, Extent, SnapshotId};

/// What is wrong with a snapshot.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which one.
    pub snapshot: SnapshotId,
    /// Which of its disks; `None`: the snapshot itself cannot be read.
    pub disk: Option<String>,
    /// What is wrong, as text.
    pub what: String,
    /// The places on the disk that cannot be restored, at most 32.
    pub places: Vec<Extent>,
    /// How many bytes cannot be restored.
    pub lost: Bytes,
}

/// What was found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// How many snapshots were looked at.
    pub snapshots: usize,
    /// How many segments were read.
    pub segments: usize,
    /// How many were not, as a sample was asked for.
    pub unread: usize,
    /// How many bytes were read of them.
    pub bytes: Bytes,
    /// What is wrong; empty: nothing is lost.
    pub broken: Vec<Broken>,
    /// What is damaged without these snapshots losing anything, as text.
    pub harmless: Vec<String>,
    /// Whether the damage is noted for the next runs.
    pub noted: Noted,
}
