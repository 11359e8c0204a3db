//! What `verify` has found.

use super::damaged_segments::Noted;
use super::lost_parts::LostPart;
use super::sample::Coverage;
use crate::engine::dedup_words::DedupWords;
use crate::format::{DiskRecord, FooterCopiesRef};
use crate::model::{Bytes, Extent, ObjectId, SnapshotId};
use crate::store::{KeysFound, SnapshotRef};
use std::collections::BTreeMap;

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
    /// In which partitions these are, where the disk's index can be read.
    pub parts: Vec<LostPart>,
}

impl Broken {
    /// Nothing of it is known to be lost yet.
    pub(super) fn of(snapshot: SnapshotId, disk: Option<&DiskRecord>) -> Self {
        Self {
            snapshot,
            disk: disk.map(|disk| disk.identity.name.clone()),
            what: String::new(),
            places: Vec::new(),
            lost: Bytes(0),
            parts: Vec::new(),
        }
    }
}

/// Objects in which something is wrong, and what, as text.
#[derive(Default)]
pub(in crate::engine) struct BrokenObjects {
    /// Manifests.
    pub(in crate::engine) manifests: Vec<(SnapshotRef, String)>,
    /// Index objects.
    pub(in crate::engine) indexes: BTreeMap<ObjectId, String>,
    /// Segments.
    pub(in crate::engine) segments: BTreeMap<ObjectId, String>,
    /// Copies of footers.
    pub(in crate::engine) copies: BTreeMap<FooterCopiesRef, String>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// How many snapshots were looked at.
    pub snapshots: usize,
    /// How many segments were read.
    pub segments: usize,
    /// How many were not: of those the end was looked at.
    pub unread: usize,
    /// How many bytes were read of them.
    pub bytes: Bytes,
    /// What is wrong; empty: nothing is lost.
    pub broken: Vec<Broken>,
    /// What is damaged without these snapshots losing anything, as text.
    pub harmless: Vec<String>,
    /// How many of the segments that were not read an earlier `verify` has noted as damaged.
    pub noted_before: usize,
    /// How the keys of an encrypted vault stand.
    pub keys: KeysFound,
    /// Whether the damage is noted for the next runs.
    pub noted: Noted,
    /// Whether `vault.json` was changed since snapshots were taken.
    pub dedup: Option<DedupWords>,
    /// What samples have come round to; `None`: this was none.
    pub coverage: Option<Coverage>,
}
