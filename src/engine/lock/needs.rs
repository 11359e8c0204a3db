//! Which objects snapshots need, and until when the longest lock of those that name each. It must
//! never leave out what a snapshot needs; it may name what newer index objects lie over.

use crate::format::Manifest;
use crate::model::{ObjectId, RunMap, SnapshotId, block_count};
use crate::store::{ObjectName, SnapshotRef};
use crate::sys::memory;
use jiff::Timestamp;
use std::collections::HashMap;

/// What a name takes in memory, in bytes.
const NAME_BYTES: u64 = 80;
/// What a host with little memory may use.
const LEAST_MEMORY: u64 = 256 << 20;
/// Most names that no listing had and that are asked for all the same: a listing may be late, and
/// who may put a manifest may invent as many as it likes.
const MOST_ABSENT: usize = 4096;

/// An index object as it is named: as one of a disk of so many blocks. Who names it as another
/// disk's has no say in how it is read for those who name it rightly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NamedPart {
    pub(super) id: ObjectId,
    pub(super) blocks: u64,
}

/// Who needs an index object, and until when.
struct PartTerm {
    until: Timestamp,
    /// The numbers of all snapshots that name it.
    of: Vec<u32>,
}

/// Objects and the ends of their locks.
#[derive(Default)]
pub(super) struct LockNeeds {
    snapshots: Vec<SnapshotId>,
    /// Manifests: what no other snapshot needs.
    manifests: Vec<(ObjectName, Timestamp)>,
    parts: HashMap<NamedPart, PartTerm>,
    copies: HashMap<ObjectName, Timestamp>,
    /// What was listed; `None`: nothing is known to need it.
    segments: HashMap<ObjectId, Option<Timestamp>>,
    /// What no listing had.
    absent: HashMap<ObjectId, Timestamp>,
    /// Most bytes that names of segments may take.
    most: Option<u64>,
    /// Whether they would take more.
    is_full: bool,
}

fn later(of: &mut HashMap<ObjectId, Timestamp>, id: ObjectId, until: Timestamp) {
    let known = of.entry(id).or_insert(until);
    *known = until.max(*known);
}

impl LockNeeds {
    /// Adds a snapshot that must be locked until then.
    pub(super) fn add(&mut self, snapshot: &SnapshotRef, manifest: &Manifest, until: Timestamp) {
        self.add_alone(snapshot, until);
        let number = self.snapshots.len() as u32 - 1;
        for disk in &manifest.disks {
            let blocks = block_count(disk.identity.size);
            for part in &disk.index {
                let part = NamedPart {
                    id: part.id,
                    blocks,
                };
                let of = Vec::new();
                let known = self.parts.entry(part);
                let known = known.or_insert(PartTerm { until, of });
                known.until = until.max(known.until);
                if known.of.last() != Some(&number) {
                    known.of.push(number);
                }
            }
            for copies in &disk.footers {
                let known = self.copies.entry(ObjectName::footers(*copies));
                let known = known.or_insert(until);
                *known = until.max(*known);
            }
        }
    }

    /// Adds a manifest that cannot be read: it is locked, and what it needs is not known.
    pub(super) fn add_alone(&mut self, snapshot: &SnapshotRef, until: Timestamp) {
        self.snapshots.push(snapshot.id);
        self.manifests
            .push((snapshot.manifest_name().clone(), until));
    }

    /// The index objects that have to be read, as they are named.
    pub(super) fn parts(&self) -> Vec<NamedPart> {
        let mut parts: Vec<_> = self.parts.keys().copied().collect();
        parts.sort_unstable();
        parts
    }

    /// All snapshots that name this index object so.
    pub(super) fn snapshots_of(&self, part: NamedPart) -> impl Iterator<Item = SnapshotId> + '_ {
        let of = self.parts.get(&part).map(|term| &term.of[..]);
        let of = of.unwrap_or_default().iter();
        of.filter_map(move |number| self.snapshots.get(*number as usize).copied())
    }

    /// Notes a segment that is there, where there is room for its name.
    pub(super) fn note_listed(&mut self, segment: ObjectId) {
        let most = || memory::total().map_or(0, |total| total.0 / 4);
        let most = *self.most.get_or_insert_with(most);
        self.is_full = self.segments.len() as u64 * NAME_BYTES > most.max(LEAST_MEMORY);
        if !self.is_full {
            self.segments.entry(segment).or_default();
        }
    }

    /// Whether more segments are there than could be noted.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Adds the segments that an index object names. Returns how often it names one that was not
    /// listed and that is not asked for, as there are too many such.
    pub(super) fn add_segments(&mut self, part: NamedPart, map: &RunMap) -> usize {
        let Some(until) = self.parts.get(&part).map(|term| term.until) else {
            return 0;
        };
        let mut left_out = 0;
        for segment in map.iter().filter_map(|run| run.segment()) {
            if let Some(known) = self.segments.get_mut(&segment) {
                *known = Some(until).max(*known);
            } else if self.absent.len() < MOST_ABSENT || self.absent.contains_key(&segment) {
                later(&mut self.absent, segment, until);
            } else {
                left_out += 1;
            }
        }
        left_out
    }

    /// Manifests, and until when each must be locked.
    pub(super) fn alone(&self) -> impl Iterator<Item = (ObjectName, Timestamp)> + '_ {
        self.manifests.iter().cloned()
    }

    /// What several snapshots may need, and until when each must be locked: each name once.
    pub(super) fn shared(&self) -> impl Iterator<Item = (ObjectName, Timestamp)> + '_ {
        let mut parts = HashMap::new();
        for (part, term) in &self.parts {
            later(&mut parts, part.id, term.until);
        }
        let parts = parts.into_iter();
        let parts = parts.map(|(id, until)| (ObjectName::index(id), until));
        let copies = self
            .copies
            .iter()
            .map(|(name, until)| (name.clone(), *until));
        let listed = self.segments.iter();
        let listed = listed.filter_map(|(id, until)| until.map(|until| (*id, until)));
        let absent = self.absent.iter().map(|(id, until)| (*id, *until));
        let segments = listed.chain(absent);
        let segments = segments.map(|(id, until)| (ObjectName::segment(id), until));
        segments.chain(copies).chain(parts)
    }
}
