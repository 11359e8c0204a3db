//! `verify`: whether what a vault holds is whole, and what is lost if not.

mod against_disk;
mod damaged_segments;
mod lost_places;
mod may_lack;
mod needed_slots;
mod verify_report;

pub use against_disk::{DiskComparison, Parts, compare_with_disks};
pub use damaged_segments::Noted;
pub use may_lack::{FreeTrace, MayLack, may_lack, may_lack_of_all};
pub use verify_report::{Broken, VerifyReport};

use crate::engine::monitor::{Event, Monitor};
use crate::engine::run_phase::RunPhase;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, FooterCopiesRef, Manifest};
use crate::model::{
    BLOCK_SIZE, BlockIndex, Bytes, Content, Extent, ObjectId, RunMap, SnapshotId, block_count,
    block_len,
};
use crate::store::{SnapshotRef, Vault};
use crate::sys::locked::{LockExt, LockResultExt};
pub(super) use damaged_segments::is_damage;
use damaged_segments::{DamagedSegments, VerifiedSegments, note_damage};
use lost_places::LostPlaces;
use needed_slots::NeededSlots;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Most disks of one snapshot that are listed one by one when their indexes cannot be read.
const MAX_DISKS: usize = 256;

/// Most objects of copies of footers that are looked at.
const MOST_COPIES: usize = 1 << 14;
/// Most segments that are in memory at once, where threads wait for a network more than they work.
const MOST_READ: usize = 4;

/// What to verify.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// The part of the segments to read, in percent; chosen at random. Indexes are read always.
    pub sample: f64,
    /// How many threads.
    pub workers: usize,
}

/// Verifies snapshots: every index, that every run stands in a segment, and every byte of the
/// segments, or of a sample of them. What is found damaged is noted in the vault.
pub fn verify(
    vault: &Vault,
    snapshots: &[SnapshotRef],
    options: &VerifyOptions,
    monitor: &dyn Monitor,
) -> Result<VerifyReport> {
    let known = vault.known_damage()?;
    let mut check = Check {
        vault,
        monitor,
        report: VerifyReport {
            snapshots: snapshots.len(),
            ..VerifyReport::default()
        },
        reads_all: options.sample >= 100.0,
        segments: Segments::new(),
        copies: BTreeSet::new(),
        bad: Bad::new(),
    };
    for (snapshot, manifest) in vault.manifests(snapshots.to_vec()) {
        check.snapshot(snapshot.id, manifest)?;
    }
    let (sample, unread) = sample(std::mem::take(&mut check.segments), options.sample);
    check.report.unread = unread.len();
    check.read_segments(&sample, options.workers)?;
    check.look_for(&unread)?;
    check.read_copies()?;
    let Check {
        bad, mut report, ..
    } = check;
    let damaged = DamagedSegments::find(vault, bad, monitor)?;
    if !damaged.is_empty() {
        let mut lost = LostPlaces::new(&damaged, vault, monitor, &mut report);
        for (snapshot, manifest) in vault.manifests(snapshots.to_vec()) {
            // One that cannot be read has been reported already.
            if let Ok(manifest) = manifest {
                lost.snapshot(snapshot.id, &manifest)?;
            }
        }
        lost.name_harmless();
    }
    // What was found is reported, whatever becomes of the note.
    report.noted = match vault.snapshots() {
        Err(error) => Noted::Failed(error),
        Ok(now) => note_damage(
            vault,
            VerifiedSegments {
                read: &sample.iter().map(|(segment, _)| *segment).collect(),
                damaged: &damaged,
                complete: report.unread == 0 && now == snapshots,
                known,
            },
        ),
    };
    Ok(report)
}

/// The segments that are needed.
type Segments = BTreeMap<ObjectId, NeededSegment>;

/// What is known of one.
#[derive(Default)]
struct NeededSegment {
    /// Its length by its footer; 0 where there is none, or where it will be read whole anyway.
    length: u64,
    /// What must be in it; nothing where the footer was asked for that.
    slots: NeededSlots,
}

impl NeededSegment {
    /// About how many bytes reading it moves.
    fn bytes(&self) -> Bytes {
        match self.length {
            0 => self.slots.bytes(),
            length => Bytes(length),
        }
    }
}

/// Segments in which something is wrong, and what.
type Bad = BTreeMap<ObjectId, String>;

/// A look at indexes and segments.
struct Check<'a> {
    vault: &'a Vault,
    monitor: &'a dyn Monitor,
    report: VerifyReport,
    /// Every segment will be read.
    reads_all: bool,
    segments: Segments,
    /// Objects of copies of footers.
    copies: BTreeSet<FooterCopiesRef>,
    bad: Bad,
}

impl Check<'_> {
    /// Reads the indexes of a snapshot; what is damaged goes into the report.
    fn snapshot(&mut self, snapshot: SnapshotId, manifest: Result<Manifest>) -> Result<()> {
        self.monitor.check()?;
        let phase = RunPhase::ReadingSnapshotIndex(snapshot);
        self.monitor.tell(Event::Phase(phase));
        let manifest = match manifest {
            Ok(manifest) => manifest,
            // Deleted since they were listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.report.snapshots -= 1;
                return Ok(());
            }
            Err(error) => return self.keep_damage(error, snapshot, None),
        };
        for disk in &manifest.disks {
            if let Err(error) = self.disk(disk) {
                self.keep_damage(error, snapshot, Some(disk))?;
            }
        }
        Ok(())
    }

    /// Keeps that a snapshot, or a disk of it, cannot be read; returns other errors.
    fn keep_damage(
        &mut self,
        error: Error,
        snapshot: SnapshotId,
        disk: Option<&DiskRecord>,
    ) -> Result<()> {
        if !is_damage(&error) {
            return Err(error);
        }
        let size = disk.map_or(Bytes(0), |disk| disk.identity.size);
        let broken = &mut self.report.broken;
        let listed = broken.iter().rev();
        let listed = listed.take_while(|broken| broken.snapshot == snapshot);
        if listed.count() >= MAX_DISKS
            && let Some(last) = broken.last_mut()
        {
            last.disk = None;
            last.what = format!("this disk and others: {error}");
            last.places.clear();
            last.lost = [last.lost, size].into_iter().sum();
            return Ok(());
        }
        broken.push(Broken {
            snapshot,
            disk: disk.map(|disk| disk.identity.name.clone()),
            what: error.to_string(),
            places: disk
                .map(|_| Extent::new(Bytes(0), size))
                .into_iter()
                .collect(),
            lost: size,
        });
        Ok(())
    }

    /// Reads a disk's index, and notes or looks what must stand where.
    fn disk(&mut self, disk: &DiskRecord) -> Result<()> {
        let size = disk.identity.size;
        let map = self
            .vault
            .read_index(&disk.index, block_count(size), self.monitor)?;
        if self.copies.len() < MOST_COPIES {
            self.copies.extend(&disk.footers);
        }
        if !self.reads_all {
            self.vault.know_footers(&disk.footers, &map);
            return self.look_into_footers(&map, size);
        }
        for run in map.iter() {
            self.monitor.check()?;
            if let Content::Data { segment, slot } = run.content {
                let needed = self.segments.entry(segment).or_default();
                needed.slots.add(run, slot, size);
            }
        }
        Ok(())
    }

    /// A segment is bad if one of the disk's runs does not stand in it, as its footer says.
    fn look_into_footers(&mut self, map: &RunMap, size: Bytes) -> Result<()> {
        let Self { vault, monitor, .. } = *self;
        for run in map.iter() {
            monitor.check()?;
            let Content::Data { segment, slot } = run.content else {
                continue;
            };
            if let Entry::Vacant(unseen) = self.segments.entry(segment) {
                let length = match vault.segment_length(segment) {
                    Ok(length) => length,
                    // What is wrong with its footer is found below.
                    Err(error) if is_damage(&error) => 0,
                    Err(error) => return Err(error),
                };
                unseen.insert(NeededSegment {
                    length,
                    slots: NeededSlots::default(),
                });
            }
            for n in 0..run.count {
                let chunk = match vault.chunk(segment, slot + n as u32) {
                    Ok(chunk) => chunk,
                    Err(error) if is_damage(&error) => {
                        let bad = self.bad.entry(segment);
                        bad.or_insert_with(|| error.to_string());
                        break;
                    }
                    Err(error) => return Err(error),
                };
                let block = BlockIndex(run.start.0 + n);
                if u64::from(chunk.plain_len) != block_len(block, size).0 {
                    let what = format!("segment {segment}: block {} has another length", block.0);
                    self.bad.entry(segment).or_insert(what);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Looks whether segments that are not read are there: where copies stand in for footers,
    /// nothing else has asked for them.
    fn look_for(&mut self, unread: &[(ObjectId, NeededSegment)]) -> Result<()> {
        if self.copies.is_empty() {
            return Ok(());
        }
        let lengths = unread.iter().map(|(id, needed)| (*id, needed.length));
        let lengths = lengths.filter(|(_, length)| *length > 0);
        for lost in self.vault.lost_of_lengths(lengths, self.monitor)? {
            let what = format!("segment {lost} is missing or has another length than its footer");
            self.bad.entry(lost).or_insert(what);
        }
        Ok(())
    }

    /// Reads the copies of footers, where all is read. One that is damaged loses nothing.
    fn read_copies(&mut self) -> Result<()> {
        for copies in self.copies.iter().filter(|_| self.reads_all) {
            self.monitor.check()?;
            let wrong = self.vault.check_copies(*copies)?;
            self.report.harmless.extend(wrong);
        }
        Ok(())
    }

    /// Reads every byte of these segments, with so many threads.
    fn read_segments(
        &mut self,
        segments: &[(ObjectId, NeededSegment)],
        workers: usize,
    ) -> Result<()> {
        let Self { vault, monitor, .. } = *self;
        monitor.tell(Event::Phase(RunPhase::ReadingSegments(segments.len())));
        let next = AtomicUsize::new(0);
        let (bytes, passed) = (AtomicU64::new(0), AtomicU64::new(0));
        let bad = Mutex::new(&mut self.bad);
        let failure = Mutex::new(None);
        let total = segments.iter().map(|(_, needed)| needed.bytes()).sum();
        let check = |id: ObjectId, needed: &NeededSegment| {
            monitor.check()?;
            let footer = vault.check_segment(id)?;
            let has_all = needed.slots.check(&footer);
            has_all.map_err(|error| error.context(format!("segment {id}")))?;
            Ok(footer.segment_len())
        };
        let work = || {
            while let Some((id, needed)) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
                match check(*id, needed) {
                    Ok(read) => {
                        bytes.fetch_add(read, Ordering::Relaxed);
                    }
                    Err(error) if is_damage(&error) => {
                        let mut bad = bad.locked();
                        bad.insert(*id, error.to_string());
                    }
                    Err(error) => {
                        let mut first = failure.locked();
                        first.get_or_insert(error);
                        return;
                    }
                }
                // A damaged one is done with too: progress must reach the end.
                let length = needed.bytes();
                let before = passed.fetch_add(length.0, Ordering::Relaxed);
                let done = Bytes(before + length.0);
                monitor.tell(Event::Progress { done, total });
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..vault.readers(workers).min(workers.max(MOST_READ)).max(1) {
                scope.spawn(work);
            }
        });
        if let Some(error) = failure.into_inner().unpoisoned() {
            return Err(error);
        }
        // Threads may have reported their last segments in another order.
        monitor.tell(Event::Progress { done: total, total });
        self.report.segments = segments.len();
        self.report.bytes = Bytes(bytes.into_inner());
        Ok(())
    }
}

/// Segments, some or all of those that are needed.
type SomeSegments = Vec<(ObjectId, NeededSegment)>;

/// The part that is to be read, and the rest.
fn sample(segments: Segments, percent: f64) -> (SomeSegments, SomeSegments) {
    let mut all: SomeSegments = segments.into_iter().collect();
    if percent >= 100.0 {
        return (all, Vec::new());
    }
    // Names are hashes, but always the same: a fresh salt draws another sample each time.
    let salt = ObjectId::generate();
    all.sort_by_cached_key(|(id, _)| *blake3::keyed_hash(&spread(salt), &id.0).as_bytes());
    let some = (all.len() as f64 * percent / 100.0).ceil() as usize;
    let rest = all.split_off(some.min(all.len()));
    (all, rest)
}

fn spread(salt: ObjectId) -> [u8; 32] {
    *blake3::hash(&salt.0).as_bytes()
}

const _: () = assert!(BLOCK_SIZE <= u32::MAX as u64);
