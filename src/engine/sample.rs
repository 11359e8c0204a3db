//! Trust but check: a few blocks that tracking calls unchanged are read and compared with the
//! parent. One that differs, and that tracking still does not know of, means that tracking is
//! wrong.

use super::subject::Subject;
use crate::capture::Baseline;
use crate::device::read::Limits;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BLOCK_SIZE, BlockIndex, BlockSet, Bytes, Content, Extent, Mode, ObjectId};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Blocks that are looked at, at least.
const FEWEST: u64 = 32;
/// Blocks that are looked at, at most.
const MOST: u64 = 256;
/// How long a write may be under way that has reached the disk and is not completed yet.
const PATIENCE: Duration = Duration::from_secs(3);

/// Reads the sample. Answers a block that differs though tracking says it did not change.
/// An error of kind `Damaged`: the parent cannot be read and should not be built on.
pub fn check(subject: &mut Subject, limits: &Limits<'_>) -> Result<Option<BlockIndex>> {
    if subject.options.plan.mode != Mode::Incremental {
        return Ok(None);
    }
    let Some((_, baseline)) = subject.options.parent.clone() else {
        return Ok(None);
    };
    let since = subject.options.plan.since.unwrap_or_default();
    let mut known = subject.options.changes.changed_since(since)?;
    known.add(&subject.swap);
    let mut suspects = differing(subject, &baseline, &draw(&baseline, &known), limits)?;
    let until = Instant::now() + PATIENCE;
    while !suspects.is_empty() {
        suspects.remove(&subject.options.changes.changed_since(since)?);
        // A write under way, whose mark comes when it completes, or a true difference?
        suspects = differing(subject, &baseline, &suspects, limits)?;
        suspects.remove(&subject.options.changes.changed_since(since)?);
        if Instant::now() > until {
            break;
        }
        if !suspects.is_empty() {
            if let Some(stop) = limits.stop {
                stop()?;
            }
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

/// A random number.
pub fn random() -> u64 {
    let ObjectId(bytes) = ObjectId::generate();
    u64::from_le_bytes(bytes[..8].try_into().expect("16 bytes are more than 8"))
}

/// Which of the blocks are not what the parent says.
fn differing(
    subject: &mut Subject,
    baseline: &Baseline,
    blocks: &BlockSet,
    limits: &Limits<'_>,
) -> Result<BlockSet> {
    let size = subject.size();
    let mut differ = BlockSet::new();
    let mut extents = blocks.ranges(1).map(|range| Extent::of_blocks(range, size));
    let read = subject
        .options
        .reader
        .read(&mut extents, limits, &mut |extent, buffer| {
            let block = extent.offset.block();
            match baseline.agrees(block, &buffer) {
                Ok(Some(false)) => differ.insert(block),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
    subject.read.reads += read.reads;
    subject.read.bytes.0 += read.bytes.0;
    Ok(differ)
}

/// Reads the blocks called free in which files were found to lie. Answers one that has bytes, of
/// which still no mark tells: what filesystems say of their free space is wrong then, or was
/// misunderstood.
pub fn check_free(subject: &mut Subject, limits: &Limits<'_>) -> Result<Option<BlockIndex>> {
    let mut suspects = subject.files_in_free_space()?;
    let until = Instant::now() + PATIENCE;
    // The place of a file is known before what is written there has a mark.
    while !suspects.is_empty() && Instant::now() < until {
        suspects.remove(&subject.changed()?);
        if let Some(stop) = limits.stop {
            stop()?;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let size = subject.size();
    let mut with_bytes = BlockSet::new();
    let mut extents = suspects
        .ranges(1)
        .map(|range| Extent::of_blocks(range, size));
    let reader = &mut subject.options.reader;
    reader.read(&mut extents, limits, &mut |extent, buffer| {
        if buffer.iter().any(|byte| *byte != 0) {
            with_bytes.insert(extent.offset.block());
        }
        Ok(())
    })?;
    if !with_bytes.is_empty() {
        // Written while it was read.
        with_bytes.remove(&subject.changed()?);
    }
    Ok(with_bytes.nth(0))
}

/// What is said when that has found something.
pub fn free_alarm(subject: &Subject, block: BlockIndex) -> Error {
    Error::new(
        ErrorKind::Inconsistent,
        format!(
            "{}: a file lies at byte {}, which a filesystem calls free space",
            subject.name(),
            block.offset().0
        ),
    )
}

/// What is said when the sample has found something.
pub fn alarm(subject: &Subject, block: BlockIndex) -> Error {
    Error::new(
        ErrorKind::Inconsistent,
        format!(
            "{}: tracking called byte {} unchanged, but it differs from the parent snapshot",
            subject.name(),
            block.offset().0
        ),
    )
}

/// What is said when the parent has lost something: it is read and stored anew.
pub fn loss(subject: &Subject) -> Option<String> {
    let (_, baseline) = subject.options.parent.as_ref()?;
    let lost = baseline.lost();
    let of = |segments: &BTreeSet<ObjectId>, what: &str| {
        let first = segments.first()?;
        Some(format!(
            "{} segments that the parent snapshot needs {what}, the first is {first}",
            segments.len()
        ))
    };
    let missing = of(&lost.segments, "are missing in the vault or cut short");
    let damaged = of(&lost.damaged, "were found damaged by `verify`");
    let what: Vec<String> = missing.into_iter().chain(damaged).collect();
    (!what.is_empty()).then(|| {
        format!(
            "{}: {}: {} of the disk are read and stored anew, but older snapshots stay damaged; \
             run `stillpoint verify --all`",
            subject.name(),
            what.join("; "),
            Bytes(lost.blocks.len() * BLOCK_SIZE)
        )
    })
}
