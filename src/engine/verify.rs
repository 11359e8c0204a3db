//! `verify`: whether what a vault holds is whole, and what is lost if not.

use super::monitor::{Event, Monitor};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::model::{
    BLOCK_SIZE, Bytes, Content, Extent, ObjectId, Run, SnapshotId, block_count, block_len,
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
    for snapshot in snapshots {
        monitor.check()?;
        monitor.tell(Event::Phase(format!(
            "reading the index of {}",
            snapshot.id
        )));
        match vault.manifest(snapshot) {
            Ok(manifest) => {
                for disk in &manifest.disks {
                    let found = check_disk(vault, &manifest, disk, &mut segments);
                    keep_damage(found, (snapshot.id, Some(&disk.identity.name)), &mut report)?;
                }
            }
            Err(error) => keep_damage(Err(error), (snapshot.id, None), &mut report)?,
        }
    }
    let sample = sample(segments, options.sample);
    let bad = read_segments(vault, &sample, (options.workers, monitor), &mut report)?;
    if !bad.is_empty() {
        for snapshot in snapshots {
            name_the_lost(vault, snapshot, &bad, &mut report)?;
        }
    }
    Ok(report)
}

fn keep_damage(
    result: Result<()>,
    (snapshot, disk): (SnapshotId, Option<&String>),
    report: &mut VerifyReport,
) -> Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => {
            report.broken.push(Broken {
                snapshot,
                disk: disk.cloned(),
                what: error.to_string(),
                places: Vec::new(),
                lost: Bytes(0),
            });
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The disk's index is whole and every run of data stands in a segment's footer.
fn check_disk(
    vault: &Vault,
    _: &Manifest,
    disk: &crate::format::DiskRecord,
    segments: &mut BTreeSet<ObjectId>,
) -> Result<()> {
    let size = disk.identity.size;
    let map = vault.load_index(&disk.index, block_count(size))?;
    for run in map.iter() {
        let Content::Data { segment, slot } = run.content else {
            continue;
        };
        segments.insert(segment);
        check_run(vault, run, (segment, slot), size)?;
    }
    Ok(())
}

fn check_run(vault: &Vault, run: Run, (segment, slot): (ObjectId, u32), size: Bytes) -> Result<()> {
    for n in 0..run.count as u32 {
        let block = crate::model::BlockIndex(run.start.0 + u64::from(n));
        // A footer that cannot be read is reported with the segment, later.
        let Ok(chunk) = vault.chunk(segment, slot + n) else {
            return Ok(());
        };
        if u64::from(chunk.plain_len) != block_len(block, size).0 {
            let what = format!("block {} has a chunk of another length", block.0);
            return Err(Error::new(ErrorKind::Damaged, what));
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
                        Err(error) if error.kind() == ErrorKind::Damaged => {
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

/// Which places of a snapshot are in bad segments, chunk by chunk.
fn name_the_lost(
    vault: &Vault,
    snapshot: &SnapshotRef,
    bad: &BTreeMap<ObjectId, String>,
    report: &mut VerifyReport,
) -> Result<()> {
    // What cannot be read has been reported already.
    let Ok(manifest) = vault.manifest(snapshot) else {
        return Ok(());
    };
    for disk in &manifest.disks {
        let size = disk.identity.size;
        let Ok(map) = vault.load_index(&disk.index, block_count(size)) else {
            continue;
        };
        let mut places: Vec<Extent> = Vec::new();
        let mut lost = Bytes(0);
        let mut what = BTreeSet::new();
        for run in map.iter() {
            let Content::Data { segment, slot } = run.content else {
                continue;
            };
            let Some(reason) = bad.get(&segment) else {
                continue;
            };
            for n in 0..run.count {
                let one = &mut |_: u32, _: &[u8]| Ok(());
                if vault.read_chunks(segment, slot + n as u32, 1, one).is_ok() {
                    continue;
                }
                what.insert(reason.clone());
                let block = run.start.0 + n;
                let place = Extent::of_blocks(block..block + 1, size);
                lost.0 += place.length.0;
                let listed = places.len();
                match places.last_mut() {
                    Some(last) if last.end() == place.offset => last.length.0 += place.length.0,
                    _ if listed < MAX_PLACES => places.push(place),
                    _ => {}
                }
            }
        }
        if !what.is_empty() {
            report.broken.push(Broken {
                snapshot: snapshot.id,
                disk: Some(disk.identity.name.clone()),
                what: what.into_iter().take(3).collect::<Vec<_>>().join("; "),
                places,
                lost,
            });
        }
    }
    Ok(())
}

const _: () = assert!(BLOCK_SIZE <= u32::MAX as u64);
