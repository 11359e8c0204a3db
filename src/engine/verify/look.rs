//! Looks at everything that snapshots need but the bytes of their disks: manifests, index objects,
//! copies of footers, and the ends of segments. What is wrong is kept by object, so that it can be
//! told, and put right.

use super::damaged_segments::is_damage;
use super::needed_slots::{NeededSlots, Segments, SomeSegments};
use super::verify_report::{Broken, BrokenObjects};
use crate::engine::dedup_words::DedupWords;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::run_phase::RunPhase;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, Footer, FooterCopiesRef, Manifest};
use crate::model::{Bytes, Content, Extent, ObjectId, block_count};
use crate::store::{SnapshotRef, Vault};
use std::collections::{BTreeMap, BTreeSet};

/// Most disks of one snapshot that are listed one by one when their indexes cannot be read.
const MAX_DISKS: usize = 256;
/// Most objects of copies of footers that are looked at.
const MOST_COPIES: usize = 1 << 14;
/// So many footers are asked for before it is told how far that is.
const FOOTERS_AT_ONCE: usize = 64;

/// A look at what snapshots are made of.
pub(super) struct Look<'a> {
    pub(super) vault: &'a Vault,
    pub(super) monitor: &'a dyn Monitor,
    /// How many snapshots were there.
    pub(super) snapshots: usize,
    /// What cannot be read of snapshots.
    pub(super) broken: Vec<Broken>,
    /// What is wrong, by object.
    pub(super) objects: BrokenObjects,
    pub(super) segments: Segments,
    /// Objects of copies of footers.
    pub(super) copies: BTreeSet<FooterCopiesRef>,
    /// What their runs were told.
    pub(super) dedup: DedupWords,
}

impl<'a> Look<'a> {
    /// Nothing was looked at.
    pub(super) fn new(vault: &'a Vault, monitor: &'a dyn Monitor) -> Self {
        Self {
            vault,
            monitor,
            snapshots: 0,
            broken: Vec::new(),
            objects: BrokenObjects::default(),
            segments: Segments::new(),
            copies: BTreeSet::new(),
            dedup: DedupWords::of(vault.info().dedup),
        }
    }

    /// Reads the indexes of a snapshot; what is damaged is kept.
    pub(super) fn snapshot(
        &mut self,
        snapshot: &SnapshotRef,
        manifest: Result<Manifest>,
    ) -> Result<()> {
        self.monitor.check()?;
        let phase = RunPhase::ReadingSnapshotIndex(snapshot.id);
        self.monitor.tell(Event::Phase(phase));
        let manifest = match manifest {
            Ok(manifest) => manifest,
            // Deleted since they were listed.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                self.snapshots += 1;
                let what = error.to_string();
                self.keep_damage(error, snapshot, None)?;
                self.objects.manifests.push((snapshot.clone(), what));
                return Ok(());
            }
        };
        self.snapshots += 1;
        self.dedup.note(snapshot.id, manifest.dedup);
        for disk in &manifest.disks {
            if let Err(error) = self.disk(disk) {
                self.keep_damage(error, snapshot, Some(disk))?;
                self.find_bad_indexes(disk)?;
            }
        }
        Ok(())
    }

    /// Keeps that a snapshot, or a disk of it, cannot be read; returns other errors.
    fn keep_damage(
        &mut self,
        error: Error,
        snapshot: &SnapshotRef,
        disk: Option<&DiskRecord>,
    ) -> Result<()> {
        if !is_damage(&error) {
            return Err(error);
        }
        let (broken, id) = (&mut self.broken, snapshot.id);
        let size = disk.map_or(Bytes(0), |disk| disk.identity.size);
        let listed = broken.iter().rev();
        let listed = listed.take_while(|broken| broken.snapshot == id);
        if listed.count() >= MAX_DISKS
            && let Some(last) = broken.last_mut()
        {
            last.disk = None;
            last.what = format!("this disk and others: {error}");
            last.places.clear();
            last.lost = [last.lost, size].into_iter().sum();
            return Ok(());
        }
        let mut one = Broken::of(id, disk);
        one.what = error.to_string();
        one.places = disk
            .map(|_| Extent::new(Bytes(0), size))
            .into_iter()
            .collect();
        one.lost = size;
        broken.push(one);
        Ok(())
    }

    /// Looks which of a disk's index objects cannot be read.
    fn find_bad_indexes(&mut self, disk: &DiskRecord) -> Result<()> {
        for part in &disk.index {
            self.monitor.check()?;
            if self.objects.indexes.contains_key(&part.id) {
                continue;
            }
            match self.vault.stored_index(part.id) {
                Ok(_) => {}
                Err(error) if is_damage(&error) => {
                    self.objects.indexes.insert(part.id, error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads a disk's index, and notes what must stand where.
    fn disk(&mut self, disk: &DiskRecord) -> Result<()> {
        let size = disk.identity.size;
        let map = self
            .vault
            .read_index(&disk.index, block_count(size), self.monitor)?;
        if self.copies.len() < MOST_COPIES {
            self.copies.extend(&disk.footers);
        }
        for run in map.iter() {
            self.monitor.check()?;
            if let Content::Data { segment, slot } = run.content {
                let needed = self.segments.entry(segment).or_default();
                needed.add(run, slot, size);
            }
        }
        Ok(())
    }

    /// Whether the ends of these segments are there, and say that in them is what must be. Copies
    /// of footers are read, all of them; where one stands in for a footer, the segment's length is
    /// asked for. One that is damaged loses nothing.
    pub(super) fn look_at_ends(&mut self, segments: &SomeSegments) -> Result<()> {
        if !segments.is_empty() {
            let phase = RunPhase::ReadingFooters(segments.len());
            self.monitor.tell(Event::Phase(phase));
        }
        let needed: BTreeMap<ObjectId, &NeededSlots> =
            segments.iter().map(|(id, needed)| (*id, needed)).collect();
        let lengths = self.read_copies(&needed)?;
        let all = segments.len() as u64;
        let mut own: Vec<ObjectId> = needed.keys().copied().collect();
        own.retain(|id| !lengths.contains_key(id));
        let (vault, monitor) = (self.vault, self.monitor);
        let mut done = lengths.len() as u64;
        for some in own.chunks(FOOTERS_AT_ONCE) {
            vault.own_footers(some, monitor, &mut |id, footer| {
                let has_all = footer.and_then(|footer| match needed.get(&id) {
                    Some(needed) => check_slots(id, needed, &footer),
                    None => Ok(()),
                });
                self.keep_bad(id, has_all)
            })?;
            done += some.len() as u64;
            monitor.tell(Event::Progress {
                done: Bytes(done),
                total: Bytes(all),
            });
        }
        for lost in vault.lost_of_lengths(lengths.into_iter(), monitor)? {
            let what = format!("segment {lost} is missing or has another length than its footer");
            self.objects.segments.entry(lost).or_insert(what);
        }
        Ok(())
    }

    /// Reads all copies of footers; returns how long those segments are of which there is one.
    fn read_copies(
        &mut self,
        needed: &BTreeMap<ObjectId, &NeededSlots>,
    ) -> Result<BTreeMap<ObjectId, u64>> {
        let mut lengths = BTreeMap::new();
        for copies in std::mem::take(&mut self.copies) {
            self.monitor.check()?;
            let mut found = Vec::new();
            let wrong = self.vault.check_copies(copies, &mut |id, footer| {
                if let Some(needed) = needed.get(&id) {
                    lengths.insert(id, footer.segment_len());
                    found.push((id, check_slots(id, needed, &footer)));
                }
            })?;
            for (id, has_all) in found {
                self.keep_bad(id, has_all)?;
            }
            if let Some(wrong) = wrong {
                self.objects.copies.insert(copies, wrong);
            }
        }
        Ok(lengths)
    }

    fn keep_bad(&mut self, id: ObjectId, found: Result<()>) -> Result<()> {
        match found {
            Ok(()) => Ok(()),
            Err(error) if is_damage(&error) => {
                let bad = self.objects.segments.entry(id);
                bad.or_insert_with(|| error.to_string());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a segment has all that is needed of it.
pub(super) fn check_slots(id: ObjectId, needed: &NeededSlots, footer: &Footer) -> Result<()> {
    let has_all = needed.check(footer);
    has_all.map_err(|error| error.context(format!("segment {id}")))
}
