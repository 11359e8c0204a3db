//! Trust but check: a few blocks that tracking calls unchanged are read and compared with the
//! parent. One that differs, and that tracking still does not know of, means that tracking is
//! wrong.

use super::disk_run::DiskRun;
use crate::capture::Baseline;
use crate::device::read::Limits;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::random::random;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlockIndex, BlockSet, Content, Mode, ObjectId};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Blocks that are looked at, at least.
const FEWEST: u64 = 32;
/// Blocks that are looked at, at most.
const MOST: u64 = 256;
/// How long a write may be under way that has reached the disk and is not completed yet.
const PATIENCE: Duration = Duration::from_secs(3);

/// Reads the sample. Returns a block that differs though tracking says that it did not change.
/// An error of kind `Damaged`: the parent cannot be read and should not be built on.
pub fn check(disk: &mut DiskRun, monitor: &dyn Monitor) -> Result<Option<BlockIndex>> {
    let Some(baseline) = disk.parent().cloned() else {
        return Ok(None);
    };
    if disk.mode() != Mode::Incremental {
        return Ok(None);
    }
    let known = disk.known_changes()?;
    let mut suspects = draw(&baseline, &known);
    baseline.fetch(&suspects, monitor)?;
    leave_out_archived(disk, &baseline, &mut suspects, monitor);
    suspects = differing(disk, &baseline, &suspects, monitor)?;
    let until = Instant::now() + PATIENCE;
    while !suspects.is_empty() {
        suspects.remove(&disk.changed_since_parent()?);
        // A write under way, whose mark comes when it completes, or a true difference?
        suspects = differing(disk, &baseline, &suspects, monitor)?;
        suspects.remove(&disk.changed_since_parent()?);
        if Instant::now() > until {
            break;
        }
        if !suspects.is_empty() {
            monitor.check()?;
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(suspects.nth(0))
}

/// Blocks with bytes in the parent, and a few that were zero, that tracking calls unchanged.
fn draw(baseline: &Baseline, known: &BlockSet) -> BlockSet {
    let wanted = (FEWEST + known.len() / 128).min(MOST);
    let mut sample = BlockSet::new();
    pick(baseline, wanted, &mut sample, |content| {
        matches!(content, Content::Data { .. })
    });
    pick(baseline, wanted / 4, &mut sample, |content| {
        content == Content::Zero
    });
    sample.remove(known);
    sample
}

/// Adds `wanted` of the blocks whose content is `of` a sort, each as likely as any other.
fn pick(baseline: &Baseline, wanted: u64, sample: &mut BlockSet, of: fn(Content) -> bool) {
    let runs = || baseline.map().iter().filter(|run| of(run.content));
    let total: u64 = runs().map(|run| run.count).sum();
    if total == 0 {
        return;
    }
    let mut places: Vec<u64> = (0..wanted).map(|_| random() % total).collect();
    places.sort_unstable();
    let mut places = places.into_iter().peekable();
    let mut passed = 0;
    for run in runs() {
        while let Some(place) = places.next_if(|place| *place < passed + run.count) {
            sample.insert(BlockIndex(run.start.0 + (place - passed)));
        }
        passed += run.count;
    }
}

/// Takes out of a sample what cannot be compared: blocks of segments in an archive, where no copy
/// of the footer can be had.
fn leave_out_archived(
    disk: &DiskRun,
    baseline: &Baseline,
    sample: &mut BlockSet,
    monitor: &dyn Monitor,
) {
    let all = sample.len();
    let mut archived = BlockSet::new();
    for block in sample.ranges(1) {
        if !baseline.can_compare(block.start) {
            archived.insert(block.start);
        }
    }
    if archived.is_empty() {
        return;
    }
    sample.remove(&archived);
    monitor.tell(Event::Warning(format!(
        "{}: {} of {all} blocks that tracking calls unchanged could not be compared with the \
         parent snapshot: their segments lie in an archive, and have no copies of their footers",
        disk.name(),
        archived.len(),
    )));
}

/// Which of the blocks are not what the parent says.
fn differing(
    disk: &mut DiskRun,
    baseline: &Baseline,
    blocks: &BlockSet,
    monitor: &dyn Monitor,
) -> Result<BlockSet> {
    let limits = Limits::cancelled_by(monitor);
    let mut differ = BlockSet::new();
    disk.read_sample(blocks, &limits, &mut |extent, buffer| {
        let block = extent.offset.block();
        if baseline.agrees(block, &buffer)? == Some(false) {
            differ.insert(block);
        }
        Ok(())
    })?;
    Ok(differ)
}

/// Reads the blocks called free in which files were found to lie. Returns one that has bytes and
/// still no mark: what filesystems say of their free space is wrong then, or was misunderstood.
pub fn check_free(disk: &mut DiskRun, monitor: &dyn Monitor) -> Result<Option<BlockIndex>> {
    let mut suspects = disk.files_in_free_space()?;
    let until = Instant::now() + PATIENCE;
    // A file's place is known before what is written there has a mark.
    while !suspects.is_empty() && Instant::now() < until {
        suspects.remove(&disk.changed()?);
        monitor.check()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    let limits = Limits::cancelled_by(monitor);
    let mut with_bytes = BlockSet::new();
    disk.read_sample(&suspects, &limits, &mut |extent, buffer| {
        if buffer.iter().any(|byte| *byte != 0) {
            with_bytes.insert(extent.offset.block());
        }
        Ok(())
    })?;
    if !with_bytes.is_empty() {
        // Written while it was read.
        with_bytes.remove(&disk.changed()?);
    }
    Ok(with_bytes.nth(0))
}

/// What `check_free` found, as an error.
pub fn free_alarm(disk: &DiskRun, block: BlockIndex) -> Error {
    Error::new(
        ErrorKind::Inconsistent,
        format!(
            "{}: a file lies at byte {}, which a filesystem calls free space",
            disk.name(),
            block.offset().0
        ),
    )
}

/// What `check` found, as an error.
pub fn alarm(disk: &DiskRun, block: BlockIndex) -> Error {
    Error::new(
        ErrorKind::Inconsistent,
        format!(
            "{}: tracking called byte {} unchanged, but it differs from the parent snapshot",
            disk.name(),
            block.offset().0
        ),
    )
}

/// A warning when blocks were stored again because they could not be compared.
pub fn archived(disk: &DiskRun) -> Option<String> {
    let count = disk.parent()?.archived();
    (count > 0).then(|| {
        format!(
            "{}: {count} blocks were stored though the parent snapshot may hold the same: their \
             segments lie in an archive, and have no copies of their footers",
            disk.name()
        )
    })
}

/// A warning when the parent has lost something: that is read and stored again.
pub fn loss(disk: &DiskRun) -> Option<String> {
    let lost = disk.parent()?.lost();
    let of = |segments: &BTreeSet<ObjectId>, what: &str| {
        let first = segments.first()?;
        Some(format!(
            "{} segments that the parent snapshot needs {what}, the first is {first}",
            segments.len()
        ))
    };
    let missing = of(&lost.segments, "are missing in the vault or cut short");
    let damaged = of(&lost.damaged, "were found damaged by `verify`");
    let condemned = of(&lost.condemned, "are about to be deleted by `gc`");
    let harm = match (&missing, &damaged) {
        (None, None) => "",
        _ => ", but older snapshots stay damaged; run `stillpoint verify --all`",
    };
    let what = missing.into_iter().chain(damaged).chain(condemned);
    let what: Vec<String> = what.collect();
    (!what.is_empty()).then(|| {
        format!(
            "{}: {}: {} of the disk are read and stored anew{harm}",
            disk.name(),
            what.join("; "),
            lost.blocks.bytes()
        )
    })
}
