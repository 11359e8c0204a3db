//! From what a run captured to the manifest: index objects, levels, sums. It claims nothing that
//! the run has not seen.

use super::capture::CaptureResult;
use super::captured_disk::CapturedDisk;
use super::cut::Cut;
use crate::engine::snapshot_options::SnapshotOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    DiskRecord, FREE_RULES, FooterCopiesRef, HookRecords, IndexRef, LookedRecord, Manifest,
};
use crate::model::{
    BlockSet, Bytes, Content, DevNumber, Level, Mode, ObjectId, Run, RunMap, SnapshotId,
    block_count,
};
use crate::store::{ChunksElsewhere, Draft};
use crate::sys::machine::kernel_release;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most index objects of a disk before they are folded into a new base.
const MAX_PARTS: usize = 32;
/// Most objects of copies of footers that are named for a disk: what is older has only the footers
/// in its segments.
const MAX_COPIES: usize = 512;
/// Deltas with fewer runs than this are not worth folding.
const SMALL: u64 = 4096;

/// What the manifest says beside what the run captured.
pub struct RecordOptions {
    /// The snapshot's name.
    pub snapshot: SnapshotId,
    /// The vault's.
    pub vault: ObjectId,
    /// When the run began.
    pub started: Timestamp,
    /// The host's name.
    pub host: String,
    /// How consistent it was asked to be.
    pub requested: Level,
    /// Whether filesystems were frozen.
    pub frozen: bool,
    /// Disks of which not all that uses them is known: what is unknown was not frozen.
    pub doubted: BTreeSet<DevNumber>,
    /// What became of the hooks, if any were asked for.
    pub hooks: Option<HookRecords>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Labels.
    pub tags: BTreeMap<String, String>,
    /// How long it must stay.
    pub keep: Option<Duration>,
}

impl RecordOptions {
    /// What is known when a run begins.
    pub(super) fn of(
        options: &SnapshotOptions,
        snapshot: SnapshotId,
        vault: ObjectId,
        started: Timestamp,
    ) -> Self {
        Self {
            snapshot,
            vault,
            started,
            host: String::new(),
            requested: options.level,
            frozen: false,
            doubted: BTreeSet::new(),
            hooks: None,
            warnings: Vec::new(),
            tags: options.tags.clone(),
            keep: options.keep,
        }
    }
}

/// Puts the index objects and makes the manifest.
pub fn record(result: CaptureResult, draft: &Draft, options: RecordOptions) -> Result<Manifest> {
    let cut = result.cut;
    let elsewhere = result.elsewhere.as_deref();
    let (mut disks, mut named) = (Vec::new(), Vec::new());
    for disk in result.disks {
        let mut level = level_of(&disk, options.frozen, &cut);
        if options.doubted.contains(&disk.identity.dev) {
            level = level.min(Level::Crash);
        }
        let copies = NamedCopies::of(&disk);
        let (one, others) = disk_record(disk, level, draft, elsewhere)?;
        named.push(copies.and(others));
        disks.push(one);
    }
    // After the index objects: what copies name is not taken back, and a full vault says so there.
    let put = draft.finish_copies()?;
    for (disk, copies) in disks.iter_mut().zip(named) {
        disk.footers = copies.and_own(&put);
    }
    // A disk that nothing uses has nothing to freeze: it does not lower the whole.
    let counted = disks.iter().filter(|disk| {
        let used = options.doubted.contains(&disk.identity.dev) || !disk.filesystems.is_empty();
        used || disk.level < Level::Crash
    });
    let level = counted.map(|disk| disk.level).min().unwrap_or(Level::Crash);
    let held = u64::try_from(cut.held.as_micros()).unwrap_or(u64::MAX);
    Ok(Manifest {
        format: draft.sealer().version(),
        snapshot: options.snapshot,
        vault: options.vault,
        time: cut.time,
        started: options.started,
        host: options.host,
        kernel: kernel_release(),
        writer: env!("CARGO_PKG_VERSION").into(),
        level,
        requested_level: options.requested,
        freeze_us: options.frozen.then_some(held),
        warnings: options.warnings,
        tags: options.tags,
        hooks: options.hooks,
        requests: None,
        keep_seconds: options.keep.map(|keep| keep.as_secs()),
        looked: elsewhere.map(|elsewhere| {
            let [read, left_out] = elsewhere.objects();
            LookedRecord { read, left_out }
        }),
        rewrites: Vec::new(),
        received: None,
        dedup: Some(draft.dedup()),
        other_mounts: Vec::new(),
        mounts_left_out: 0,
        disks,
    })
}

fn level_of(disk: &CapturedDisk, frozen: bool, cut: &Cut) -> Level {
    let all = &disk.filesystems;
    // What cannot be frozen beside what can (an EFI system partition) was seen not to change.
    let any = frozen && all.iter().any(|filesystem| filesystem.frozen);
    let still = any || (!all.is_empty() && all.iter().all(|filesystem| filesystem.read_only));
    match (cut.fuzzy, still) {
        (true, _) => Level::Fuzzy,
        (false, true) if cut.applications => Level::Application,
        (false, true) => Level::Filesystem,
        (false, false) => Level::Crash,
    }
}

/// A disk's record, without copies of footers, and those that others have put and it needs.
fn disk_record(
    disk: CapturedDisk,
    level: Level,
    draft: &Draft,
    elsewhere: Option<&ChunksElsewhere>,
) -> Result<(DiskRecord, BTreeSet<FooterCopiesRef>)> {
    let blocks = block_count(disk.identity.size);
    let mut delta = disk.stored.map;
    let mut changed = bytes_of(&delta);
    lay_free_over(&mut delta, &disk.free);
    let mode = disk.capture.mode;
    let parent = disk.parent.filter(|_| mode != Mode::Full);
    let index = match &parent {
        None => base(&delta, blocks, draft)?,
        Some((record, baseline)) => {
            if mode == Mode::Compare {
                delta = differences(&delta, baseline.map());
                changed = bytes_of(&delta);
            }
            let same_size = record.identity.size == disk.identity.size;
            let fresh = !same_size || draft.is_condemned(&record.index);
            if fresh || fold(&record.index, &delta) {
                let mut map = baseline.map().clone();
                map.overlay(&delta);
                map.truncate(blocks);
                base(&map, blocks, draft)?
            } else {
                let mut parts = record.index.clone();
                if !delta.is_empty() {
                    parts.extend(draft.put_index(&delta, blocks, false)?);
                }
                parts
            }
        }
    };
    let used = disk.sent.as_ref().map(|sent| sent.used_in(&delta));
    let (resumed, segments) = used.unwrap_or_default();
    let shared = elsewhere.map(|elsewhere| elsewhere.used_in(&delta, &segments));
    let shared = shared.unwrap_or_default();
    draft.take_over(segments);
    draft.take_over(shared.segments);
    let reason = with_resumed(disk.capture.reason, resumed);
    let record = DiskRecord {
        level,
        mode,
        reason,
        parent: disk.capture.parent,
        all_blocks: disk.all_blocks,
        passes: disk.passes,
        read_bytes: disk.read.bytes,
        changed_bytes: changed,
        stored_bytes: disk.stored.stored,
        resumed_bytes: resumed,
        shared_bytes: shared.bytes,
        rewritten: disk.rewritten,
        frozen_bytes: disk.frozen,
        free_skipped_bytes: disk.free.bytes(),
        free_rules: FREE_RULES,
        filesystems: disk.filesystems,
        index,
        footers: Vec::new(),
        cut: disk.cut.filter(|_| level > Level::Fuzzy),
        identity: disk.identity,
    };
    Ok((record, shared.copies))
}

/// Over what an earlier attempt captured: what is free now was not read again, and may have
/// changed.
fn lay_free_over(delta: &mut RunMap, free: &BlockSet) {
    for range in free.ranges(u64::MAX) {
        delta.insert(Run {
            start: range.start,
            count: range.count(),
            content: Content::Free,
        });
    }
}

/// Why a disk was captured as it was, and what that spared.
fn with_resumed(reason: String, resumed: Bytes) -> String {
    match resumed {
        Bytes(0) => reason,
        _ => format!("{reason}; {resumed} were in the vault from a run that was cut off"),
    }
}

/// Objects of copies of footers that a manifest names for a disk.
struct NamedCopies {
    others: Vec<FooterCopiesRef>,
    /// Whether anything of the disk was put: then this run's are named, too.
    is_put: bool,
}

impl NamedCopies {
    /// Its parent's.
    fn of(disk: &CapturedDisk) -> Self {
        let parent = disk
            .parent
            .as_ref()
            .filter(|_| disk.capture.mode != Mode::Full);
        let parents = parent.map(|(record, _)| record.footers.clone());
        Self {
            others: parents.unwrap_or_default(),
            is_put: disk.stored.stored > Bytes(0),
        }
    }

    /// And those that others have put, by which it was found what they had.
    fn and(mut self, found_by: BTreeSet<FooterCopiesRef>) -> Self {
        self.others.extend(found_by);
        self
    }

    /// And of these, which the run has put, all.
    fn and_own(self, put: &[FooterCopiesRef]) -> Vec<FooterCopiesRef> {
        let own = put.iter().filter(|_| self.is_put).copied();
        newest_of(self.others.into_iter().chain(own))
    }
}

/// Each once, and not more than there may be: what comes first is left out.
fn newest_of(all: impl Iterator<Item = FooterCopiesRef>) -> Vec<FooterCopiesRef> {
    let mut known = BTreeSet::new();
    let mut copies: Vec<FooterCopiesRef> = all.filter(|one| known.insert(*one)).collect();
    copies.drain(..copies.len().saturating_sub(MAX_COPIES));
    copies
}

fn bytes_of(map: &RunMap) -> Bytes {
    map.iter().map(|run| run.bytes()).sum()
}

fn base(map: &RunMap, blocks: u64, draft: &Draft) -> Result<Vec<IndexRef>> {
    if !map.covers(blocks) {
        return Err(Error::new(
            ErrorKind::Failed,
            "a part of the disk was neither read nor known: this is a bug; no snapshot was made",
        ));
    }
    draft.put_index(map, blocks, true)
}

/// Whether the deltas have outgrown a quarter of the base.
fn fold(parts: &[IndexRef], delta: &RunMap) -> bool {
    let base_end = parts
        .iter()
        .rposition(|part| part.base)
        .map_or(0, |last| last + 1);
    let base: u64 = parts.iter().take(base_end).map(|part| part.runs).sum();
    let deltas: u64 = parts.iter().skip(base_end).map(|part| part.runs).sum();
    let deltas = deltas + delta.len() as u64;
    parts.len() >= MAX_PARTS || (deltas > SMALL && deltas > base / 4)
}

/// The runs of `new` where it says something else than `old`.
fn differences(new: &RunMap, old: &RunMap) -> RunMap {
    let mut delta = RunMap::new();
    for run in new.iter() {
        delta.insert(run);
        for known in old.iter_range(run.blocks()) {
            let same = new.iter_range(known.blocks()).next();
            if same.is_some_and(|same| same.content == known.content) {
                delta.remove(known.blocks());
            }
        }
    }
    delta
}
