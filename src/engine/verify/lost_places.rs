//! What snapshots have lost in damaged segments, place by place.

use super::damaged_segments::{DamagedSegments, is_damage};
use super::lost_parts::LostParts;
use super::verify_report::{Broken, VerifyReport};
use crate::engine::monitor::Monitor;
use crate::error::Result;
use crate::format::{DiskRecord, Manifest};
use crate::model::{
    BlockIndex, Bytes, Content, Extent, ObjectId, SnapshotId, block_count, block_len,
};
use crate::store::Vault;
use std::collections::{BTreeMap, BTreeSet};

/// Most places that are listed for one snapshot.
const MAX_PLACES: usize = 32;

/// What snapshots have lost in damaged segments.
pub(super) struct LostPlaces<'a> {
    vault: &'a Vault,
    monitor: &'a dyn Monitor,
    damaged: &'a DamagedSegments,
    report: &'a mut VerifyReport,
    /// Segments in which a snapshot has lost something.
    blamed: BTreeSet<ObjectId>,
}

impl<'a> LostPlaces<'a> {
    /// Nothing is known to be lost yet; what is goes into the report.
    pub(super) fn new(
        damaged: &'a DamagedSegments,
        vault: &'a Vault,
        monitor: &'a dyn Monitor,
        report: &'a mut VerifyReport,
    ) -> Self {
        Self {
            vault,
            monitor,
            damaged,
            report,
            blamed: BTreeSet::new(),
        }
    }

    /// Names the places of a snapshot's disks that are in damaged chunks.
    pub(super) fn snapshot(&mut self, snapshot: SnapshotId, manifest: &Manifest) -> Result<()> {
        let mut disks = manifest.disks.iter();
        disks.try_for_each(|disk| self.disk(snapshot, disk))
    }

    fn disk(&mut self, snapshot: SnapshotId, disk: &DiskRecord) -> Result<()> {
        let (monitor, size) = (self.monitor, disk.identity.size);
        let index = self
            .vault
            .read_index(&disk.index, block_count(size), monitor);
        let map = match index {
            Ok(map) => map,
            Err(error) if is_damage(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut broken = Broken::of(snapshot, Some(disk));
        let mut here = BTreeMap::new();
        let mut parts: Option<LostParts> = None;
        for run in map.iter() {
            monitor.check()?;
            let Content::Data { segment, slot } = run.content else {
                continue;
            };
            let Some(damaged) = self.damaged.of(segment) else {
                continue;
            };
            let before = broken.lost;
            for n in 0..run.count {
                let slot = slot + n as u32;
                let block = BlockIndex(run.start.0 + n);
                let length = block_len(block, size);
                if damaged.has_lost(slot) || self.length_of(segment, slot)? != Some(length) {
                    let place = Extent::of_blocks(block, size);
                    lose(&mut broken, place);
                    let of_disk = || LostParts::of(self.vault, disk, &map);
                    parts.get_or_insert_with(of_disk).lose(place);
                }
            }
            if broken.lost > before {
                here.insert(segment, damaged.what.as_str());
            }
        }
        if !here.is_empty() {
            let reasons: Vec<&str> = here.values().take(3).copied().collect();
            broken.what = reasons.join("; ");
            broken.parts = parts.map(LostParts::into_lost).unwrap_or_default();
            self.report.broken.push(broken);
        }
        self.blamed.extend(here.into_keys());
        Ok(())
    }

    /// How long a chunk's bytes are; `None` where they cannot be had.
    fn length_of(&self, segment: ObjectId, slot: u32) -> Result<Option<Bytes>> {
        match self.vault.chunk(segment, slot) {
            Ok(chunk) => Ok(Some(Bytes(u64::from(chunk.plain_len)))),
            Err(error) if is_damage(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A damaged segment is harmless if no snapshot has lost anything in it.
    pub(super) fn name_harmless(self) {
        let all = self.damaged.segments();
        let harmless = all.filter(|(segment, _)| !self.blamed.contains(segment));
        let harmless = harmless.map(|(_, damaged)| damaged.what.clone());
        self.report.harmless.extend(harmless);
    }
}

/// Adds a place to what is lost.
fn lose(broken: &mut Broken, place: Extent) {
    broken.lost += place.length;
    let listed = broken.places.len();
    match broken.places.last_mut() {
        Some(last) if last.end() == place.offset => last.length += place.length,
        _ if listed < MAX_PLACES => broken.places.push(place),
        _ => {}
    }
}
