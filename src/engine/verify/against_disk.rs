//! `verify --against-disk`: a snapshot compared with the disk that it was taken of, block by block,
//! while the disk is in use. A block that differs must have been written since, as tracking says,
//! or be free space then and now. It must never call a difference allowed because nobody knows
//! better: that is reported as unknown.

use crate::capture::Baseline;
use crate::device::read::{BufferPool, DiskReader, Limits, ReaderOptions, open_reader};
use crate::device::{Disk, FreeSpace, Host, HostLayout, free_space};
use crate::engine::block_use::{sample_file_blocks, swap_blocks};
use crate::engine::disk_lock::DiskLock;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::parents::likeness;
use crate::engine::places::Places;
use crate::engine::run_phase::RunPhase;
use crate::engine::tracking::Tracking;
use crate::engine::witness;
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
/// Buffers to read into.
const BUFFERS: usize = 8;
/// The size of each.
const BUFFER: Bytes = Bytes(1 << 20);

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
            bytes: blocks.bytes(),
            first: ranges.map(|range| Extent::of_blocks(range, size)).collect(),
        }
    }
}

/// How one disk compares.
#[derive(Clone, Debug)]
pub struct DiskComparison {
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
    /// What differs though it was not written since, and what a file has that the snapshot lacks.
    pub wrong: Parts,
    /// What differs, and nobody knows whether it may.
    pub unknown: Parts,
    /// What was not compared, as the vault has lost its segments.
    pub lost: Bytes,
    /// Why tracking does not know what was written since; `None`: it does.
    pub unproven: Option<String>,
}

/// Compares the disks of a snapshot with those of this host; with `name`, that one alone.
///
/// # Errors
/// `NotFound`: none of its disks is here. `Busy`: a run is at work on one. Else as for reading
/// disks and vaults.
pub fn compare_with_disks(
    vault: &Arc<Vault>,
    manifest: &Manifest,
    name: Option<&str>,
    places: &Places,
    monitor: &dyn Monitor,
) -> Result<Vec<DiskComparison>> {
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
        let comparing = Comparing {
            vault,
            snapshot: manifest.snapshot,
            record,
            disk,
            places,
            monitor,
        };
        comparing.compare()
    };
    found.into_iter().map(compare).collect()
}

/// One disk that is compared.
struct Comparing<'a> {
    vault: &'a Arc<Vault>,
    snapshot: SnapshotId,
    record: &'a DiskRecord,
    disk: &'a Disk,
    places: &'a Places,
    monitor: &'a dyn Monitor,
}

impl Comparing<'_> {
    fn compare(&self) -> Result<DiskComparison> {
        let name = self.disk.name();
        self.monitor.tell(Event::Phase(RunPhase::Comparing {
            disk: name.to_owned(),
            snapshot: self.snapshot,
        }));
        let _lock = DiskLock::take(&self.places.run_dir, self.disk.dev(), name)?;
        let baseline = Baseline::load(self.vault, self.record, self.monitor)?;
        let mut tracking = Tracking::start(&self.places.pins, self.monitor)?;
        let mut changes = tracking.attach(self.disk)?;
        let (mut since, mut unproven) = self.proof(&mut changes)?;
        let pool = BufferPool::new(BUFFERS, BUFFER)?;
        let reader = open_reader(&self.disk.path, &ReaderOptions::new(pool))?;
        let size = self.record.identity.size.min(reader.size());
        let mut live = LiveDisk {
            reader,
            baseline: &baseline,
            size,
            monitor: self.monitor,
        };
        let mut all = BlockSet::from_range(0..block_count(size));
        all.remove(&baseline.lost().blocks);
        let total = all.bytes();
        let progress = |done| self.monitor.tell(Event::Progress { done, total });
        let mut found = live.differing(&all, &progress)?;
        let written = written_since(&mut changes, since)?;
        let mut changed = found.remove(&written);
        let (free, answered) = self.without_free(&mut found.free)?;
        if since.is_some() {
            self.wait_for_marks(&mut live, &mut changes, &mut found)?;
        }
        // The marks count if they are proven to the end.
        if since.is_some()
            && let (None, why) = self.proof(&mut changes)?
        {
            (since, unproven) = (None, why);
        }
        let written = written_since(&mut changes, since)?;
        changed += found.remove(&written);
        let Differing { kept, free: gone } = found;
        // A filesystem says that these are in use, and they were not written since. They may be set
        // aside for a file without being a file's yet. What a file has there, the snapshot lacks.
        let mut missing = gone.clone();
        missing.intersect(&answered);
        if !missing.is_empty() {
            missing.intersect(&sample_file_blocks(self.disk.dev())?);
        }
        let mut unknown = gone;
        unknown.remove(&missing);
        let mut wrong = kept;
        wrong.add(&missing);
        if since.is_none() {
            unknown.add(&std::mem::take(&mut wrong));
        }
        Ok(DiskComparison {
            disk: self.record.identity.name.clone(),
            device: name.to_owned(),
            compared: total,
            changed: Bytes::of_blocks(changed),
            free: Bytes::of_blocks(free),
            wrong: Parts::of(&wrong, size),
            unknown: Parts::of(&unknown, size),
            lost: baseline.lost().blocks.bytes(),
            unproven,
        })
    }

    /// Whether tracking knows what was written since the cut: the epoch, or why not.
    fn proof(&self, changes: &mut DiskTracker) -> Result<(Option<Epoch>, Option<String>)> {
        changes.advance()?;
        let witness = witness::steady(changes)?;
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

    /// Waits for the marks of writes that have reached the disk: a mark is made when its write
    /// completes.
    fn wait_for_marks(
        &self,
        live: &mut LiveDisk<'_>,
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
            blocks.remove(&written_since(changes, since)?);
            *found = live.differing(&blocks, &|_| {})?;
            found.remove(&written_since(changes, since)?);
        }
        Ok(())
    }

    /// Takes out of blocks that were free then those that are free now, or are swapped to. Returns
    /// how many those were, and for which blocks filesystems have answered.
    fn without_free(&self, blocks: &mut BlockSet) -> Result<(u64, BlockSet)> {
        let all = blocks.len();
        let (dev, size) = (self.disk.dev(), self.disk.identity.size);
        let FreeSpace {
            blocks: free,
            mapped,
            ..
        } = free_space(&Host::here(), dev)?;
        blocks.remove(&free);
        blocks.remove(&swap_blocks(dev, size)?);
        let mut answered = BlockSet::new();
        for place in mapped {
            answered.insert_inside(place, size);
        }
        Ok((all - blocks.len(), answered))
    }
}

/// The disk, read beside what the snapshot has of it.
struct LiveDisk<'a> {
    reader: Box<dyn DiskReader>,
    baseline: &'a Baseline,
    size: Bytes,
    monitor: &'a dyn Monitor,
}

impl LiveDisk<'_> {
    /// Which of these blocks are not what the snapshot says.
    fn differing(&mut self, blocks: &BlockSet, progress: &dyn Fn(Bytes)) -> Result<Differing> {
        let limits = Limits::cancelled_by(self.monitor);
        let (baseline, size) = (self.baseline, self.size);
        let mut found = Differing::default();
        let mut done = Bytes(0);
        let mut extents = blocks
            .ranges(BLOCKS_PER_READ)
            .map(|range| Extent::of_blocks(range, size));
        let reader = &mut self.reader;
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
            done += extent.length;
            progress(done);
            Ok(())
        })?;
        Ok(found)
    }
}

/// Blocks that are not what the snapshot says.
#[derive(Default)]
struct Differing {
    /// It has bytes or zeros there.
    kept: BlockSet,
    /// It has nothing there, as they were free, and now there are bytes.
    free: BlockSet,
}

impl Differing {
    /// Takes out what was written since; returns how many blocks those were.
    fn remove(&mut self, written: &BlockSet) -> u64 {
        let before = self.kept.len() + self.free.len();
        self.kept.remove(written);
        self.free.remove(written);
        before - self.kept.len() - self.free.len()
    }
}

fn written_since(changes: &mut DiskTracker, since: Option<Epoch>) -> Result<BlockSet> {
    since.map_or_else(|| Ok(BlockSet::new()), |since| changes.changed_since(since))
}
