//! Which of the parent's blocks a run found rewritten in place, and which of these hardly pack. It
//! counts what the run has at hand, and asks nobody.

use super::captured_disk::CapturedDisk;
use crate::capture::Baseline;
use crate::format::RewrittenRecord;
use crate::model::{BlockSet, Content, Mode, Run, RunMap, SnapshotId, block_count};

/// What a run found rewritten of a disk.
pub(super) struct Rewritten<'a> {
    /// The counts, and an alarm of a run before.
    pub record: RewrittenRecord,
    /// The blocks that hardly pack now.
    pub hardly_pack: BlockSet,
    /// What the parent held there.
    pub parent: &'a Baseline,
    /// Its name.
    pub since: SnapshotId,
}

impl<'a> Rewritten<'a> {
    /// Of a disk that was captured by the run of this name; `None`: it is built on no parent.
    pub(super) fn of(disk: &'a CapturedDisk, run: SnapshotId) -> Option<Self> {
        let parent = disk.parent.as_ref();
        let (then, baseline) = parent.filter(|_| disk.capture.mode != Mode::Full)?;
        let since = disk.capture.parent?;
        let mut rewritten = changed_data(&disk.stored.map, baseline.map());
        // What an earlier attempt read there counts for nothing.
        rewritten.remove(&disk.free);
        let blocks = rewritten.len();
        let mut hardly_pack = rewritten;
        hardly_pack.intersect(&disk.stored.hardly_pack);
        let before = then.rewritten.unwrap_or_default();
        let passed = run.unix_ms().saturating_sub(since.unix_ms());
        let record = RewrittenRecord {
            blocks,
            hardly_pack: hardly_pack.len(),
            usual: before.usual_after(passed, block_count(disk.identity.size)),
            // What could not be compared was stored again, and may be the same.
            unknown: disk.capture.mode == Mode::Compare && baseline.archived() > 0,
            alarm: before.remembered(run),
        };
        Some(Self {
            record,
            hardly_pack,
            parent: baseline,
            since,
        })
    }
}

/// The blocks that are data in both, at different places of the vault.
fn changed_data(now: &RunMap, then: &RunMap) -> BlockSet {
    let is_data = |run: &Run| matches!(run.content, Content::Data { .. });
    let mut changed = BlockSet::new();
    for run in now.iter().filter(is_data) {
        for old in then.iter_range(run.blocks()).filter(is_data) {
            // A part of one run of both: they stand together or nowhere.
            let new = now.iter_range(old.blocks()).next();
            if new.is_none_or(|new| new.content != old.content) {
                changed.insert_range(old.blocks());
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockIndex, ObjectId};

    fn map(runs: &[(u64, u64, Content)]) -> RunMap {
        let mut map = RunMap::new();
        for (start, count, content) in runs {
            map.insert(Run {
                start: BlockIndex(*start),
                count: *count,
                content: *content,
            });
        }
        map
    }

    fn data(segment: u8, slot: u32) -> Content {
        Content::Data {
            segment: ObjectId([segment; 16]),
            slot,
        }
    }

    #[test]
    fn only_data_over_other_data_is_rewritten() {
        let then = map(&[
            (0, 10, data(1, 0)),
            (10, 10, Content::Zero),
            (20, 10, Content::Free),
            (30, 10, data(2, 5)),
        ]);
        let now = map(&[
            (4, 2, Content::Zero),
            (8, 24, data(3, 0)),
            // Compared, and found to be the same.
            (32, 3, data(2, 7)),
            (38, 9, data(3, 90)),
        ]);
        let changed = changed_data(&now, &then);
        let blocks: Vec<u64> = changed.iter().map(|block| block.0).collect();
        assert_eq!(blocks, [8, 9, 30, 31, 38, 39]);
    }
}
