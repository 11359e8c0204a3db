//! Which objects snapshots need, and until when the longest lock of those that name each. It must
//! never leave out what a snapshot needs; it may name what newer index objects lie over.

use crate::error::{Error, ErrorKind, Result};
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

/// An index object that has to be read.
#[derive(Clone, Copy)]
struct PartTerm {
    blocks: u64,
    until: Timestamp,
    /// A snapshot that names it.
    of: SnapshotId,
}

/// Objects and the ends of their locks.
#[derive(Default)]
pub(super) struct LockNeeds {
    /// Manifests: what no other snapshot needs.
    manifests: Vec<(ObjectName, Timestamp)>,
    parts: HashMap<ObjectId, PartTerm>,
    copies: HashMap<ObjectName, Timestamp>,
    segments: HashMap<ObjectId, Timestamp>,
}

fn later(of: &mut HashMap<ObjectId, Timestamp>, id: ObjectId, until: Timestamp) {
    let known = of.entry(id).or_insert(until);
    *known = until.max(*known);
}

impl LockNeeds {
    /// Adds a snapshot that must be locked until then.
    pub(super) fn add(&mut self, snapshot: &SnapshotRef, manifest: &Manifest, until: Timestamp) {
        self.manifests
            .push((snapshot.manifest_name().clone(), until));
        for disk in &manifest.disks {
            let blocks = block_count(disk.identity.size);
            for part in &disk.index {
                let known = self.parts.entry(part.id).or_insert(PartTerm {
                    blocks,
                    until,
                    of: snapshot.id,
                });
                known.until = until.max(known.until);
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
        self.manifests
            .push((snapshot.manifest_name().clone(), until));
    }

    /// The index objects that have to be read, and the blocks of their disks.
    pub(super) fn parts(&self) -> Vec<(ObjectId, u64)> {
        let mut parts: Vec<_> = self
            .parts
            .iter()
            .map(|(id, term)| (*id, term.blocks))
            .collect();
        parts.sort_unstable();
        parts
    }

    /// A snapshot that names this index object.
    pub(super) fn snapshot_of(&self, part: ObjectId) -> Option<SnapshotId> {
        self.parts.get(&part).map(|term| term.of)
    }

    /// Adds the segments that an index object names.
    pub(super) fn add_segments(&mut self, part: ObjectId, map: &RunMap) -> Result<()> {
        let Some(until) = self.parts.get(&part).map(|term| term.until) else {
            return Ok(());
        };
        for segment in map.iter().filter_map(|run| run.segment()) {
            later(&mut self.segments, segment, until);
        }
        let most = memory::total().map_or(0, |total| total.0 / 4);
        match self.segments.len() as u64 * NAME_BYTES <= most.max(LEAST_MEMORY) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Unsupported,
                "the names of all segments do not fit into a quarter of this host's memory",
            )
            .with_hint("run it on a host with more memory")),
        }
    }

    /// Manifests, and until when each must be locked.
    pub(super) fn alone(&self) -> impl Iterator<Item = (ObjectName, Timestamp)> + '_ {
        self.manifests.iter().cloned()
    }

    /// What several snapshots may need, and until when each must be locked.
    pub(super) fn shared(&self) -> impl Iterator<Item = (ObjectName, Timestamp)> + '_ {
        let parts = self.parts.iter();
        let parts = parts.map(|(id, term)| (ObjectName::index(*id), term.until));
        let copies = self
            .copies
            .iter()
            .map(|(name, until)| (name.clone(), *until));
        let segments = self.segments.iter();
        let segments = segments.map(|(id, until)| (ObjectName::segment(*id), *until));
        segments.chain(copies).chain(parts)
    }
}
