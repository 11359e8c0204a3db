//! What the snapshots of the source are made of, by their manifests and index objects. Each index
//! object is read once, however many snapshots it serves.

use crate::engine::monitor::{Event, Monitor};
use crate::engine::run_phase::RunPhase;
use crate::engine::verify::is_damage;
use crate::error::{ErrorKind, Result};
use crate::format::{DiskRecord, FooterCopiesRef, Manifest, ManifestLikeness};
use crate::model::{ObjectId, SnapshotId, block_count};
use crate::store::{NeededSegments, SnapshotRef, Vault};
use std::collections::{BTreeMap, BTreeSet};

/// What one snapshot is made of.
pub(super) struct SnapshotNeeds {
    pub(super) snapshot: SnapshotRef,
    /// Its index objects.
    pub(super) indexes: Vec<ObjectId>,
    /// Why that is not known of all its disks.
    pub(super) damage: Option<String>,
    /// What it is called; `None`: its manifest cannot be read.
    pub(super) names: Option<SnapshotNames>,
}

/// What a snapshot is called, and what all its names have in common.
pub(super) struct SnapshotNames {
    pub(super) borne: Vec<SnapshotId>,
    pub(super) likeness: ManifestLikeness,
}

/// The objects of copies of footers that a snapshot names.
pub(super) fn copies_named_by(manifest: &Manifest) -> BTreeSet<FooterCopiesRef> {
    let disks = manifest.disks.iter();
    disks
        .flat_map(|disk| disk.footers.iter().copied())
        .collect()
}

/// What all of them are made of.
#[derive(Default)]
pub(super) struct SourceNeeds {
    /// The newest first.
    pub(super) snapshots: Vec<SnapshotNeeds>,
    /// Those that were deleted since they were listed.
    pub(super) gone: Vec<SnapshotId>,
    /// By index object, the segments that it names.
    named: BTreeMap<ObjectId, NeededSegments>,
    /// Index objects that cannot be read, and why.
    unreadable: BTreeMap<ObjectId, String>,
}

impl SourceNeeds {
    /// Reads them; the newest comes first, as it is what is wanted most if this ends early.
    pub(super) fn read(
        source: &Vault,
        snapshots: &[SnapshotRef],
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let once: BTreeSet<&SnapshotRef> = snapshots.iter().collect();
        let newest_first = once.into_iter().rev().cloned().collect();
        let mut needs = Self::default();
        for (snapshot, manifest) in source.manifests(newest_first) {
            monitor.check()?;
            monitor.tell(Event::Phase(RunPhase::ReadingSnapshotIndex(snapshot.id)));
            let mut one = SnapshotNeeds {
                snapshot,
                indexes: Vec::new(),
                damage: None,
                names: None,
            };
            match manifest {
                Ok(manifest) => needs.add(source, &manifest, &mut one, monitor)?,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    needs.gone.push(one.snapshot.id);
                    continue;
                }
                Err(error) if is_damage(&error) => one.damage = Some(error.to_string()),
                Err(error) => return Err(error),
            }
            needs.snapshots.push(one);
        }
        Ok(needs)
    }

    fn add(
        &mut self,
        source: &Vault,
        manifest: &Manifest,
        one: &mut SnapshotNeeds,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        one.names = Some(SnapshotNames {
            borne: manifest.borne().collect(),
            likeness: manifest.likeness()?,
        });
        for disk in &manifest.disks {
            self.read_indexes(source, disk, monitor)?;
            one.indexes.extend(disk.index.iter().map(|part| part.id));
        }
        let bad = one.indexes.iter().find_map(|id| self.unreadable.get(id));
        one.damage = bad.cloned();
        Ok(())
    }

    /// Reads those of a disk's index objects that no newer snapshot has.
    fn read_indexes(
        &mut self,
        source: &Vault,
        disk: &DiskRecord,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let ids = disk.index.iter().map(|part| part.id);
        let new: Vec<ObjectId> = ids
            .filter(|id| !self.named.contains_key(id) && !self.unreadable.contains_key(id))
            .collect();
        let blocks = block_count(disk.identity.size);
        source.segments_named_by(&new, blocks, monitor, &mut |id, named| {
            match named {
                Ok(named) => drop(self.named.insert(id, named)),
                Err(error) if is_damage(&error) => {
                    self.unreadable.insert(id, error.to_string());
                }
                Err(error) => return Err(error),
            }
            Ok(())
        })
    }

    /// The segments that a snapshot's index objects name.
    pub(super) fn named_by(&self, one: &SnapshotNeeds) -> impl Iterator<Item = ObjectId> {
        let each = one.indexes.iter().filter_map(|id| self.named.get(id));
        each.flat_map(|named| named.keys().copied())
    }

    /// The same, with how many slots of each are named.
    pub(super) fn slots_named_by(&self, one: &SnapshotNeeds) -> NeededSegments {
        let each = one.indexes.iter().filter_map(|id| self.named.get(id));
        most_of_each(each)
    }

    /// All index objects.
    pub(super) fn indexes(&self) -> BTreeSet<ObjectId> {
        let all = self.named.keys().chain(self.unreadable.keys());
        all.copied().collect()
    }

    /// How many slots of each segment are named: the most that any index object needs.
    pub(super) fn slots(&self) -> NeededSegments {
        most_of_each(self.named.values())
    }

    /// All segments.
    pub(super) fn segments(&self) -> BTreeSet<ObjectId> {
        let named = self.named.values().flat_map(|named| named.keys());
        named.copied().collect()
    }
}

fn most_of_each<'a>(all: impl Iterator<Item = &'a NeededSegments>) -> NeededSegments {
    let mut most = NeededSegments::new();
    for (&id, &slots) in all.flatten() {
        let known = most.entry(id).or_default();
        *known = slots.max(*known);
    }
    most
}
