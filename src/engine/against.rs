//! A snapshot against the disk that it was taken of, block by block, while the disk is in use. What
//! differs must have been written since, as tracking tells, or be free space then and now. It must
//! never call a difference allowed because nobody knows better: that is said to be unknown.

use super::lock::DiskLock;
use super::monitor::{Event, Monitor};
use super::parents::likeness;
use super::sample::random;
use super::snapshot::Places;
use super::tracking::Tracking;
use super::trust;
use crate::capture::Baseline;
use crate::device::read::{BufferPool, DiskReader, Limits, ReaderOptions, open_reader};
use crate::device::{Disk, FreeSpace, Host, HostLayout, blocks_of_files, free_space, swapped_now};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, Manifest};
use crate::model::{
    BLOCK_SIZE, BlockIndex, BlockSet, Bytes, Content, Epoch, Extent, Likeness, SnapshotId,
    block_count,
};
use crate::store::Vault;
use crate::track::{ChangeSource, DiskTracker, Moment, changes_since};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most places that are named for each finding.
const MAX_PLACES: usize = 32;
/// Blocks that are read with one request.
const BLOCKS_PER_READ: u64 = 16;
/// How long a write may be under way that has reached the disk and is not completed yet.
const PATIENCE: Duration = Duration::from_secs(3);
/// Buffers to read into, and the size of each.
const BUFFERS: (usize, Bytes) = (8, Bytes(1 << 20));

/// Parts of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// How much they are.
    pub bytes: Bytes,
    /// The first of them, at most 32.
    pub first: Vec<Extent>,
}

impl Parts {
    fn of(blocks: &BlockSet, size: Bytes) -> Self {
        let ranges = blocks.ranges(u64::MAX).take(MAX_PLACES);
        Self {
            bytes: Bytes(blocks.len() * BLOCK_SIZE),
            first: ranges.map(|range| Extent::of_blocks(range, size)).collect(),
        }
    }
}

/// What came of one disk.
#[derive(Clone, Debug)]
pub struct Against {
    /// Its name in the snapshot.
    pub disk: String,
    /// Its name here.
    pub device: String,
    /// How much was compared.
    pub compared: Bytes,
    /// How much differs, and was written since the cut.
    pub changed: Bytes,
    /// How much was free then, is free now or swapped to, and holds other bytes than zeros.
    pub free: Bytes,
    /// What differs though it was not written since, or is missing in the snapshot though a file
    /// has it.
    pub wrong: Parts,
    /// What differs, and of which nobody can tell whether it may.
    pub unknown: Parts,
    /// What stood in segments that the vault has no more, and was not compared.
    pub lost: Bytes,
    /// Why tracking cannot tell what was written since; `None`: it can.
    pub unproven: Option<String>,
}

/// Compares the disks of a snapshot with those of this host; with `name`, that one alone.
///
/// # Errors
/// `NotFound`: none of its disks is here. `Busy`: a run is at work on one. Else as for reading
/// disks and vaults.
pub fn against_disks(
    vault: &Arc<Vault>,
    manifest: &Manifest,
    name: Option<&str>,
    places: &Places,
    monitor: &dyn Monitor,
) -> Result<Vec<Against>> {
    let layout = HostLayout::scan()?;
    let mut found = Vec::new();
    for record in &manifest.disks {
        if name.is_some_and(|name| record.identity.name != name) {
            continue;
        }
        let disk = layout
            .topology
            .disks()
            .max_by_key(|disk| likeness(&layout.topology, disk, record));
        // A name alone is a weak sign, and one of another size is another disk, most likely.
        let is_it = |disk: &&Disk| {
            likeness(&layout.topology, disk, record) > Likeness::Other
                && disk.identity.size == record.identity.size
        };
        match disk.filter(is_it) {
            Some(disk) => found.push((record, disk)),
            None => monitor.tell(Event::Warning(format!(
                "{} of {} is not here, or has another size: it was not compared",
                record.identity.name, manifest.snapshot
            ))),
        }
    }
    if found.is_empty() {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "no disk of {} that was asked for is here",
                manifest.snapshot
            ),
        )
        .with_hint("`stillpoint show` names its disks, `stillpoint disks` those of this host"));
    }
    let compare = |(record, disk)| {
        let work = Work {
            vault,
            snapshot: manifest.snapshot,
            record,
            disk,
            places,
            monitor,
        };
        work.compare()
    };
    found.into_iter().map(compare).collect()
}

/// One disk that is compared.
struct Work<'a> {
    vault: &'a Arc<Vault>,
    snapshot: SnapshotId,
    record: &'a DiskRecord,
    disk: &'a Disk,
    places: &'a Places,
    monitor: &'a dyn Monitor,
}

/// Blocks that are not what the snapshot says.
#[derive(Default)]
struct Differing {
    /// It has bytes or zeros there.
    kept: BlockSet,
    /// It has nothing there, as they were free; and now there are bytes.
    free: BlockSet,
}

impl Work<'_> {
    fn compare(&self) -> Result<Against> {
        let name = self.disk.name();
        self.monitor.tell(Event::Phase(format!(
            "comparing {name} with {}",
            self.snapshot
        )));
        let _lock = DiskLock::take(&self.places.run_dir, self.disk.dev(), name)?;
        let check = || self.monitor.check();
        let baseline = Baseline::load(self.vault, self.record, &check)?;
        let mut tracking = Tracking::start(&self.places.pins, self.monitor)?;
        let mut changes = tracking.attach(self.disk)?;
        let (mut since, mut unproven) = self.proof(&mut changes)?;
        let pool = BufferPool::new(BUFFERS.0, BUFFERS.1)?;
        let mut reader = open_reader(&self.disk.path, &ReaderOptions::new(pool))?;
        let size = self.record.identity.size.min(reader.size());
        let mut all = BlockSet::from_range(0..block_count(size));
        all.remove(&baseline.lost().blocks);
        let mut found = self.differing(reader.as_mut(), &baseline, (&all, size), true)?;
        let written = self.written_since(&mut changes, since)?;
        let mut changed = take(&mut found, &written);
        let (free, told) = self.without_free(&mut found.free)?;
        if since.is_some() {
            self.wait_for_marks(reader.as_mut(), &baseline, &mut changes, &mut found)?;
        }
        // The marks count if they did to the end.
        if since.is_some()
            && let (None, why) = self.proof(&mut changes)?
        {
            (since, unproven) = (None, why);
        }
        let written = self.written_since(&mut changes, since)?;
        changed += take(&mut found, &written);
        let Differing { kept, free: gone } = found;
        // In use, by the word of a filesystem, and not written since: it may be set aside for a
        // file, and not be a file's yet. What a file has there is missing in the snapshot.
        let mut missing = gone.clone();
        missing.intersect(&told);
        if !missing.is_empty() {
            missing.intersect(&self.blocks_of_files()?);
        }
        let mut unknown = gone;
        unknown.remove(&missing);
        let mut wrong = kept;
        wrong.add(&missing);
        if since.is_none() {
            unknown.add(&std::mem::take(&mut wrong));
        }
        Ok(Against {
            disk: self.record.identity.name.clone(),
            device: name.to_owned(),
            compared: Bytes(all.len() * BLOCK_SIZE),
            changed: Bytes(changed * BLOCK_SIZE),
            free: Bytes(free * BLOCK_SIZE),
            wrong: Parts::of(&wrong, size),
            unknown: Parts::of(&unknown, size),
            lost: Bytes(baseline.lost().blocks.len() * BLOCK_SIZE),
            unproven,
        })
    }

    /// Whether tracking can tell what was written since the cut: the epoch, or why not.
    fn proof(&self, changes: &mut DiskTracker) -> Result<(Option<Epoch>, Option<String>)> {
        changes.advance()?;
        let witness = trust::steady(changes)?;
        let Some(cut) = &self.record.cut else {
            return Ok((None, Some("the disk was not tracked at the cut".into())));
        };
        let then = Moment {
            disk: &self.record.identity,
            witness: cut,
        };
        let now = Moment {
            disk: &self.disk.identity,
            witness: &witness,
        };
        Ok(match changes_since(then, changes.recall(cut)?, now) {
            Ok(since) => (Some(since), None),
            Err(void) => (None, Some(void.to_string())),
        })
    }

    fn written_since(&self, changes: &mut DiskTracker, since: Option<Epoch>) -> Result<BlockSet> {
        since.map_or_else(|| Ok(BlockSet::new()), |since| changes.changed_since(since))
    }

    /// Which of these blocks are not what the snapshot says.
    fn differing(
        &self,
        reader: &mut dyn DiskReader,
        baseline: &Baseline,
        (blocks, size): (&BlockSet, Bytes),
        told: bool,
    ) -> Result<Differing> {
        let stop = || self.monitor.check();
        let limits = Limits {
            deadline: None,
            stop: Some(&stop),
        };
        let mut found = Differing::default();
        let (mut done, total) = (Bytes(0), Bytes(blocks.len() * BLOCK_SIZE));
        let mut extents = blocks
            .ranges(BLOCKS_PER_READ)
            .map(|range| Extent::of_blocks(range, size));
        reader.read(&mut extents, &limits, &mut |extent, buffer| {
            let first = extent.offset.block();
            for (n, plain) in (0..).zip(buffer.chunks(BLOCK_SIZE as usize)) {
                let block = BlockIndex(first.0 + n);
                match baseline.map().get(block) {
                    Some(Content::Free) if plain.iter().any(|byte| *byte != 0) => {
                        found.free.insert(block);
                    }
                    // The last block of a disk that was larger then.
                    _ if baseline.agrees(block, plain)? == Some(false) => found.kept.insert(block),
                    _ => {}
                }
            }
            done.0 += extent.length.0;
            if told {
                self.monitor.tell(Event::Progress { done, total });
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// A write may have reached the disk whose mark comes when it completes.
    fn wait_for_marks(
        &self,
        reader: &mut dyn DiskReader,
        baseline: &Baseline,
        changes: &mut DiskTracker,
        found: &mut Differing,
    ) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let since = self.record.cut.as_ref().map(|cut| cut.epoch);
        while !(found.kept.is_empty() && found.free.is_empty()) && Instant::now() < until {
            self.monitor.check()?;
            std::thread::sleep(Duration::from_millis(100));
            let mut blocks = found.kept.clone();
            blocks.add(&found.free);
            blocks.remove(&self.written_since(changes, since)?);
            let size = reader.size();
            *found = self.differing(reader, baseline, (&blocks, size), false)?;
            let written = self.written_since(changes, since)?;
            take(found, &written);
        }
        Ok(())
    }

    /// Takes out of blocks that were free then those that are so now, or are swapped to. Answers
    /// how many that were, and of which blocks filesystems have told all.
    fn without_free(&self, blocks: &mut BlockSet) -> Result<(u64, BlockSet)> {
        let all = blocks.len();
        let host = Host::here();
        let FreeSpace {
            blocks: free, told, ..
        } = free_space(&host, self.disk.dev())?;
        blocks.remove(&free);
        let size = self.disk.identity.size;
        let mut swap = BlockSet::new();
        for extent in swapped_now(&host, self.disk.dev())? {
            swap.insert_inside(extent, size);
        }
        blocks.remove(&swap);
        let mut known = BlockSet::new();
        for place in told {
            known.insert_inside(place, size);
        }
        Ok((all - blocks.len(), known))
    }

    fn blocks_of_files(&self) -> Result<BlockSet> {
        let random = |below: u64| random() % below.max(1);
        blocks_of_files(&Host::here(), self.disk.dev(), &random)
    }
}

/// Takes out what was written since; answers how many blocks that were.
fn take(found: &mut Differing, written: &BlockSet) -> u64 {
    let before = found.kept.len() + found.free.len();
    found.kept.remove(written);
    found.free.remove(written);
    before - found.kept.len() - found.free.len()
}
