//! `verify`: whether what a vault holds is whole, and what is lost if not.

use super::monitor::{Event, Monitor};
use crate::error::{Error, ErrorKind, Result};
use crate::format::DiskRecord;
use crate::model::{
    BLOCK_SIZE, BlockIndex, Bytes, Content, Extent, ObjectId, Run, SnapshotId, block_count,
    block_len,
};
use crate::store::{SnapshotRef, Vault};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Most places that are listed for one snapshot.
const MAX_PLACES: usize = 32;

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
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// How many snapshots were looked at.
    pub snapshots: usize,
    /// How many segments were read.
    pub segments: usize,
    /// How many were not: it was to be a sample.
    pub unread: usize,
    /// How many bytes were read of them.
    pub bytes: Bytes,
    /// What is wrong; empty: all is well.
    pub broken: Vec<Broken>,
}

/// Verifies snapshots: every index, that every run stands in a segment, and every byte of the
/// segments, or of a sample of them.
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
    let mut segments = BTreeSet::new();
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
    if !bad.is_empty() {
        name_the_lost(vault, snapshots, (&bad, &mut report), monitor)?;
    }
    Ok(report)
}

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

/// A part of the vault that is of a newer format, or not there any more, is lost to this version
/// too.
fn is_damage(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Format
    )
}

/// The disk's index is whole; a segment in which one of its runs does not stand is bad.
fn check_disk(
    vault: &Vault,
    disk: &DiskRecord,
    (segments, bad): (&mut BTreeSet<ObjectId>, &mut Bad),
    monitor: &dyn Monitor,
) -> Result<()> {
    let size = disk.identity.size;
    let map = vault.read_index(&disk.index, block_count(size), &|| monitor.check())?;
    for run in map.iter() {
        monitor.check()?;
        let Content::Data { segment, slot } = run.content else {
            continue;
        };
        segments.insert(segment);
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

fn sample(segments: BTreeSet<ObjectId>, percent: f64) -> Vec<ObjectId> {
    let mut all: Vec<ObjectId> = segments.into_iter().collect();
    if percent >= 100.0 {
        return all;
    }
    // Names are hashes, but always the same: a fresh salt draws another sample each time.
    let salt = ObjectId::generate();
    all.sort_by_cached_key(|id| *blake3::keyed_hash(&spread(salt), &id.0).as_bytes());
    all.truncate((all.len() as f64 * percent / 100.0).ceil() as usize);
    all
}

fn spread(salt: ObjectId) -> [u8; 32] {
    *blake3::hash(&salt.0).as_bytes()
}

fn read_segments(
    vault: &Vault,
    segments: &[ObjectId],
    (workers, monitor): (usize, &dyn Monitor),
    report: &mut VerifyReport,
) -> Result<BTreeMap<ObjectId, String>> {
    monitor.tell(Event::Phase(format!("reading {} segments", segments.len())));
    let next = AtomicUsize::new(0);
    let bytes = AtomicU64::new(0);
    let bad = Mutex::new(BTreeMap::new());
    let failure = Mutex::new(None);
    let total = Bytes(segments.len() as u64 * crate::format::SEGMENT_TARGET as u64);
    std::thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            scope.spawn(|| {
                while let Some(id) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let checked = monitor.check().and_then(|()| vault.check_segment(*id));
                    match checked {
                        Ok(length) => {
                            let before = bytes.fetch_add(length, Ordering::Relaxed);
                            monitor.tell(Event::Progress {
                                done: Bytes(before + length),
                                total,
                            });
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
                }
            });
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    report.segments = segments.len();
    report.bytes = Bytes(bytes.into_inner());
    Ok(bad.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Which places of the snapshots are in bad segments, chunk by chunk. A bad segment of which no
/// snapshot has lost anything is reported with the first that needs it.
fn name_the_lost(
    vault: &Vault,
    snapshots: &[SnapshotRef],
    (bad, report): (&Bad, &mut VerifyReport),
    monitor: &dyn Monitor,
) -> Result<()> {
    monitor.tell(Event::Phase("looking for what is lost".into()));
    let mut blamed = BTreeSet::new();
    let mut harmless = BTreeMap::new();
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
            let mut here = BTreeSet::new();
            for run in map.iter() {
                let Content::Data { segment, slot } = run.content else {
                    continue;
                };
                if !bad.contains_key(&segment) {
                    continue;
                }
                harmless
                    .entry(segment)
                    .or_insert_with(|| (snapshot.id, broken.disk.clone()));
                let stands = (run, segment, slot);
                if lost_of(vault, stands, disk.identity.size, &mut broken, monitor)? {
                    here.insert(segment);
                }
            }
            if !here.is_empty() {
                let reasons: Vec<&str> = here.iter().take(3).map(|id| bad[id].as_str()).collect();
                broken.what = reasons.join("; ");
                report.broken.push(broken);
            }
            blamed.append(&mut here);
        }
    }
    for (segment, (snapshot, disk)) in harmless {
        if !blamed.contains(&segment) {
            report.broken.push(Broken {
                snapshot,
                disk,
                what: format!("{}: nothing that a snapshot needs is lost", bad[&segment]),
                places: Vec::new(),
                lost: Bytes(0),
            });
        }
    }
    Ok(())
}

/// Adds what cannot be read of a run; answers whether there was any.
fn lost_of(
    vault: &Vault,
    (run, segment, slot): (Run, ObjectId, u32),
    size: Bytes,
    broken: &mut Broken,
    monitor: &dyn Monitor,
) -> Result<bool> {
    let before = broken.lost;
    for n in 0..run.count {
        monitor.check()?;
        let place = Extent::of_blocks(run.start.0 + n..run.start.0 + n + 1, size);
        let mut fits = false;
        let look = &mut |chunks: &[&[u8]]| {
            let first = chunks.first();
            fits = first.is_some_and(|plain| plain.len() as u64 == place.length.0);
            Ok(())
        };
        match vault.read_chunks(segment, slot + n as u32, 1, look) {
            Err(error) if !is_damage(&error) => return Err(error),
            Ok(()) if fits => continue,
            _ => {}
        }
        broken.lost.0 += place.length.0;
        let listed = broken.places.len();
        match broken.places.last_mut() {
            Some(last) if last.end() == place.offset => last.length.0 += place.length.0,
            _ if listed < MAX_PLACES => broken.places.push(place),
            _ => {}
        }
    }
    Ok(broken.lost > before)
}

const _: () = assert!(BLOCK_SIZE <= u32::MAX as u64);
