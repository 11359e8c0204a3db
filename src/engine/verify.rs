//! `verify`: whether what a vault holds is whole, and what is lost if not.

use super::monitor::{Event, Monitor};
use super::rot::{Findings, Noted, Rot, is_damage, note};
use crate::error::{Error, ErrorKind, Result};
use crate::format::DiskRecord;
use crate::model::{
    BLOCK_SIZE, BlockIndex, Bytes, Content, Extent, ObjectId, SnapshotId, block_count, block_len,
};
use crate::store::{SnapshotRef, Vault};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Most places that are listed for one snapshot.
const MAX_PLACES: usize = 32;
/// Most disks of one snapshot whose indexes cannot be read that are told one by one.
const MAX_DISKS: usize = 256;

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
    /// In words.
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
    /// How many were not: it was to be a sample.
    pub unread: usize,
    /// How many bytes were read of them.
    pub bytes: Bytes,
    /// What is wrong; empty: nothing is lost.
    pub broken: Vec<Broken>,
    /// What is damaged without anything being lost of these snapshots, in words.
    pub harmless: Vec<String>,
    /// Whether the next runs will know.
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
    let mut report = VerifyReport {
        snapshots: snapshots.len(),
        ..VerifyReport::default()
    };
    let known = vault.known_damage()?;
    let mut segments = Segments::new();
    let mut bad = Bad::default();
    for snapshot in snapshots {
        monitor.check()?;
        monitor.tell(Event::Phase(format!(
            "reading the index of {}",
            snapshot.id
        )));
        let manifest = match vault.manifest(snapshot) {
            Ok(manifest) => manifest,
            // Deleted since they were listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                report.snapshots -= 1;
                continue;
            }
            Err(error) => {
                keep_damage(error, (snapshot.id, None), &mut report)?;
                continue;
            }
        };
        for disk in &manifest.disks {
            if let Err(error) = check_disk(vault, disk, (&mut segments, &mut bad), monitor) {
                keep_damage(error, (snapshot.id, Some(disk)), &mut report)?;
            }
        }
    }
    let all = segments.len();
    let sample = sample(segments, options.sample);
    report.unread = all - sample.len();
    bad.append(&mut read_segments(
        vault,
        &sample,
        (options.workers, monitor),
        &mut report,
    )?);
    let rot = Rot::find(vault, bad, monitor)?;
    if !rot.is_empty() {
        name_the_lost(vault, snapshots, (&rot, &mut report), monitor)?;
    }
    // What was found is told, whatever becomes of the note.
    report.noted = match vault.snapshots() {
        Err(error) => Noted::Failed(error),
        Ok(now) => note(
            vault,
            Findings {
                read: &sample.iter().map(|(segment, _)| *segment).collect(),
                rot: &rot,
                complete: report.unread == 0 && now == snapshots,
                known,
            },
        ),
    };
    Ok(report)
}

/// The segments that are needed, and how long each is, as its footer says; 0 where none says it.
type Segments = BTreeMap<ObjectId, u64>;

/// Segments in which something is wrong, and what.
type Bad = BTreeMap<ObjectId, String>;

/// A snapshot that cannot be read, or all of a disk whose index cannot be.
fn keep_damage(
    error: Error,
    (snapshot, disk): (SnapshotId, Option<&DiskRecord>),
    report: &mut VerifyReport,
) -> Result<()> {
    if !is_damage(&error) {
        return Err(error);
    }
    let size = disk.map_or(Bytes(0), |disk| disk.identity.size);
    let told = report.broken.iter().rev();
    let told = told.take_while(|broken| broken.snapshot == snapshot);
    if told.count() >= MAX_DISKS
        && let Some(last) = report.broken.last_mut()
    {
        last.disk = None;
        last.what = format!("this disk and others: {error}");
        last.places.clear();
        last.lost = [last.lost, size].into_iter().sum();
        return Ok(());
    }
    report.broken.push(Broken {
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

/// The disk's index is whole; a segment in which one of its runs does not stand is bad.
fn check_disk(
    vault: &Vault,
    disk: &DiskRecord,
    (segments, bad): (&mut Segments, &mut Bad),
    monitor: &dyn Monitor,
) -> Result<()> {
    let size = disk.identity.size;
    let map = vault.read_index(&disk.index, block_count(size), &|| monitor.check())?;
    for run in map.iter() {
        monitor.check()?;
        let Content::Data { segment, slot } = run.content else {
            continue;
        };
        if let Entry::Vacant(unseen) = segments.entry(segment) {
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
                    bad.entry(segment).or_insert_with(|| error.to_string());
                    break;
                }
                Err(error) => return Err(error),
            };
            let block = BlockIndex(run.start.0 + n);
            if u64::from(chunk.plain_len) != block_len(block, size).0 {
                let what = format!("segment {segment}: block {} has another length", block.0);
                bad.entry(segment).or_insert(what);
                break;
            }
        }
    }
    Ok(())
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

fn read_segments(
    vault: &Vault,
    segments: &[(ObjectId, u64)],
    (workers, monitor): (usize, &dyn Monitor),
    report: &mut VerifyReport,
) -> Result<Bad> {
    monitor.tell(Event::Phase(format!("reading {} segments", segments.len())));
    let next = AtomicUsize::new(0);
    let (bytes, passed) = (AtomicU64::new(0), AtomicU64::new(0));
    let bad = Mutex::new(Bad::new());
    let failure = Mutex::new(None);
    let total = Bytes(segments.iter().map(|(_, length)| length).sum());
    std::thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            scope.spawn(|| {
                while let Some((id, length)) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match monitor.check().and_then(|()| vault.check_segment(*id)) {
                        Ok(read) => {
                            bytes.fetch_add(read, Ordering::Relaxed);
                        }
                        Err(error) if is_damage(&error) => {
                            let mut bad = bad.lock().unwrap_or_else(PoisonError::into_inner);
                            bad.insert(*id, error.to_string());
                        }
                        Err(error) => {
                            let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                            first.get_or_insert(error);
                            return;
                        }
                    }
                    // A damaged one is done with too: the last one of all is the end.
                    let before = passed.fetch_add(*length, Ordering::Relaxed);
                    let done = Bytes(before + length);
                    monitor.tell(Event::Progress { done, total });
                }
            });
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    // Threads may have told of their last one in another order.
    monitor.tell(Event::Progress { done: total, total });
    report.segments = segments.len();
    report.bytes = Bytes(bytes.into_inner());
    Ok(bad.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Which places of the snapshots are in damaged chunks. A damaged segment of which no snapshot has
/// lost anything is harmless.
fn name_the_lost(
    vault: &Vault,
    snapshots: &[SnapshotRef],
    (rot, report): (&Rot, &mut VerifyReport),
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut blamed = BTreeSet::new();
    for snapshot in snapshots {
        // What cannot be read has been reported already.
        let Ok(manifest) = vault.manifest(snapshot) else {
            continue;
        };
        for disk in &manifest.disks {
            let blocks = block_count(disk.identity.size);
            let map = match vault.read_index(&disk.index, blocks, &|| monitor.check()) {
                Ok(map) => map,
                Err(error) if is_damage(&error) => continue,
                Err(error) => return Err(error),
            };
            let mut broken = Broken {
                snapshot: snapshot.id,
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
                let Some(rotten) = rot.of(segment) else {
                    continue;
                };
                let before = broken.lost;
                for n in 0..run.count {
                    let at = slot + n as u32;
                    let block = BlockIndex(run.start.0 + n);
                    if rotten.has_lost(at) || !fits(vault, (segment, at), block, disk)? {
                        lose(
                            &mut broken,
                            Extent::of_blocks(block.0..block.0 + 1, disk.identity.size),
                        );
                    }
                }
                if broken.lost > before {
                    here.insert(segment, rotten.what.as_str());
                }
            }
            if !here.is_empty() {
                let reasons: Vec<&str> = here.values().take(3).copied().collect();
                broken.what = reasons.join("; ");
                report.broken.push(broken);
            }
            blamed.extend(here.into_keys());
        }
    }
    let harmless = rot
        .segments()
        .filter(|(segment, _)| !blamed.contains(segment));
    let harmless = harmless.map(|(_, rotten)| rotten.what.clone());
    report.harmless.extend(harmless);
    Ok(())
}

/// Whether a chunk is as long as the block whose bytes it shall be.
fn fits(
    vault: &Vault,
    (segment, slot): (ObjectId, u32),
    block: BlockIndex,
    disk: &DiskRecord,
) -> Result<bool> {
    match vault.chunk(segment, slot) {
        Ok(chunk) => Ok(u64::from(chunk.plain_len) == block_len(block, disk.identity.size).0),
        Err(error) if is_damage(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Adds a place to what is lost.
fn lose(broken: &mut Broken, place: Extent) {
    broken.lost.0 += place.length.0;
    let listed = broken.places.len();
    match broken.places.last_mut() {
        Some(last) if last.end() == place.offset => last.length.0 += place.length.0,
        _ if listed < MAX_PLACES => broken.places.push(place),
        _ => {}
    }
}

const _: () = assert!(BLOCK_SIZE <= u32::MAX as u64);
