//! `verify`: whether what a vault holds is whole, and what is lost if not.

mod against_disk;
mod damaged_segments;
mod may_lack;

pub use against_disk::{DiskComparison, Parts, compare_with_disks};
pub use damaged_segments::Noted;
pub use may_lack::{FreeTrace, MayLack, may_lack, may_lack_of_all};

use crate::engine::monitor::{Event, Monitor};
use crate::engine::run_phase::RunPhase;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, Manifest};
use crate::model::{
    BLOCK_SIZE, BlockIndex, Bytes, Content, Extent, ObjectId, SnapshotId, block_count, block_len,
};
use crate::store::{SnapshotRef, Vault};
use crate::sys::locked::{LockExt, LockResultExt};
pub(super) use damaged_segments::is_damage;
use damaged_segments::{DamagedSegments, VerifiedSegments, note_damage};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Most places that are listed for one snapshot.
const MAX_PLACES: usize = 32;
/// Most disks of one snapshot that are listed one by one when their indexes cannot be read.
const MAX_DISKS: usize = 256;

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
        segments: Segments::new(),
        bad: Bad::new(),
    };
    for (snapshot, manifest) in vault.manifests(snapshots.to_vec()) {
        check.snapshot(snapshot.id, manifest)?;
    }
    let all = check.segments.len();
    let sample = sample(std::mem::take(&mut check.segments), options.sample);
    check.report.unread = all - sample.len();
    check.read_segments(&sample, options.workers)?;
    let Check {
        bad, mut report, ..
    } = check;
    let damaged = DamagedSegments::find(vault, bad, monitor)?;
    if !damaged.is_empty() {
        let mut lost = LostPlaces {
            vault,
            monitor,
            damaged: &damaged,
            report: &mut report,
            blamed: BTreeSet::new(),
        };
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

/// The segments that are needed, with their lengths by their footers; 0 where there is no length.
type Segments = BTreeMap<ObjectId, u64>;

/// Segments in which something is wrong, and what.
type Bad = BTreeMap<ObjectId, String>;

/// A look at indexes and segments.
struct Check<'a> {
    vault: &'a Vault,
    monitor: &'a dyn Monitor,
    report: VerifyReport,
    segments: Segments,
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

    /// Reads a disk's index. A segment is bad if one of the disk's runs does not stand in it.
    fn disk(&mut self, disk: &DiskRecord) -> Result<()> {
        let Self { vault, monitor, .. } = *self;
        let size = disk.identity.size;
        let map = vault.read_index(&disk.index, block_count(size), monitor)?;
        for run in map.iter() {
            monitor.check()?;
            let Content::Data { segment, slot } = run.content else {
                continue;
            };
            if let Entry::Vacant(unseen) = self.segments.entry(segment) {
                unseen.insert(match vault.segment_length(segment) {
                    Ok(length) => length,
                    // What is wrong with its footer is found below.
                    Err(error) if is_damage(&error) => 0,
                    Err(error) => return Err(error),
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

    /// Reads every byte of these segments, with so many threads.
    fn read_segments(&mut self, segments: &[(ObjectId, u64)], workers: usize) -> Result<()> {
        let Self { vault, monitor, .. } = *self;
        monitor.tell(Event::Phase(RunPhase::ReadingSegments(segments.len())));
        let next = AtomicUsize::new(0);
        let (bytes, passed) = (AtomicU64::new(0), AtomicU64::new(0));
        let bad = Mutex::new(&mut self.bad);
        let failure = Mutex::new(None);
        let total = Bytes(segments.iter().map(|(_, length)| length).sum());
        let work = || {
            while let Some((id, length)) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
                match monitor.check().and_then(|()| vault.check_segment(*id)) {
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
                let before = passed.fetch_add(*length, Ordering::Relaxed);
                let done = Bytes(before + length);
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

fn sample(segments: Segments, percent: f64) -> Vec<(ObjectId, u64)> {
    let mut all: Vec<(ObjectId, u64)> = segments.into_iter().collect();
    if percent >= 100.0 {
        return all;
    }
    // Names are hashes, but always the same: a fresh salt draws another sample each time.
    let salt = ObjectId::generate();
    all.sort_by_cached_key(|(id, _)| *blake3::keyed_hash(&spread(salt), &id.0).as_bytes());
    all.truncate((all.len() as f64 * percent / 100.0).ceil() as usize);
    all
}

fn spread(salt: ObjectId) -> [u8; 32] {
    *blake3::hash(&salt.0).as_bytes()
}

/// What snapshots have lost in damaged segments.
struct LostPlaces<'a> {
    vault: &'a Vault,
    monitor: &'a dyn Monitor,
    damaged: &'a DamagedSegments,
    report: &'a mut VerifyReport,
    /// Segments in which a snapshot has lost something.
    blamed: BTreeSet<ObjectId>,
}

impl LostPlaces<'_> {
    /// Names the places of a snapshot's disks that are in damaged chunks.
    fn snapshot(&mut self, snapshot: SnapshotId, manifest: &Manifest) -> Result<()> {
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
        let mut broken = Broken {
            snapshot,
            disk: Some(disk.identity.name.clone()),
            what: String::new(),
            places: Vec::new(),
            lost: Bytes(0),
        };
        let mut here = BTreeMap::new();
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
                    lose(&mut broken, Extent::of_blocks(block, size));
                }
            }
            if broken.lost > before {
                here.insert(segment, damaged.what.as_str());
            }
        }
        if !here.is_empty() {
            let reasons: Vec<&str> = here.values().take(3).copied().collect();
            broken.what = reasons.join("; ");
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
    fn name_harmless(self) {
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

const _: () = assert!(BLOCK_SIZE <= u32::MAX as u64);
