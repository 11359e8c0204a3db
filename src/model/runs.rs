//! What a disk holds, as runs of blocks: where each run's bytes are stored, or that they need not
//! be.

use super::id::ObjectId;
use super::units::{BlockIndex, BlockRange, Bytes};
use std::collections::BTreeMap;

/// Where the bytes of a block are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// In a segment: the run's first block in slot `slot`, the next in the slot after, and so on.
    Data {
        /// The segment.
        segment: ObjectId,
        /// The slot of the run's first block.
        slot: u32,
    },
    /// All bytes are zero.
    Zero,
    /// Free space of a filesystem, or swap: not read, comes back as zeros.
    Free,
}

impl Content {
    /// What a run that starts `blocks` later holds.
    fn later(self, blocks: u64) -> Self {
        match self {
            Self::Data { segment, slot } => {
                let blocks = u32::try_from(blocks).expect("a run of data is within one segment");
                Self::Data {
                    segment,
                    slot: slot + blocks,
                }
            }
            other => other,
        }
    }
}

/// Neighbouring blocks whose bytes are in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First block.
    pub start: BlockIndex,
    /// How many; never 0.
    pub count: u64,
    /// Where they are.
    pub content: Content,
}

impl Run {
    /// The block after the last one.
    pub fn end(&self) -> u64 {
        self.start.0 + self.count
    }

    /// Its blocks.
    pub fn blocks(&self) -> BlockRange {
        (self.start.0..self.end()).into()
    }

    /// The segment that they stand in, if they have bytes.
    pub fn segment(&self) -> Option<ObjectId> {
        match self.content {
            Content::Data { segment, .. } => Some(segment),
            Content::Zero | Content::Free => None,
        }
    }

    /// What they hold, each taken as whole.
    pub fn bytes(&self) -> Bytes {
        Bytes::of_blocks(self.count)
    }

    /// The part of the run inside `range`, which must overlap it.
    fn cut(&self, range: impl Into<BlockRange>) -> Self {
        let range = range.into();
        let start = self.start.0.max(range.start.0);
        let end = self.end().min(range.end.0);
        Self {
            start: BlockIndex(start),
            count: end - start,
            content: self.content.later(start - self.start.0),
        }
    }

    fn continues(&self, next: &Self) -> bool {
        self.end() == next.start.0 && self.content.later(self.count) == next.content
    }
}

/// Runs that do not overlap, ascending; neighbours that continue one another are one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunMap {
    runs: BTreeMap<u64, RunFrom>,
}

/// A run without its first block, which is its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RunFrom {
    count: u64,
    content: Content,
}

impl RunFrom {
    fn at(self, start: u64) -> Run {
        Run {
            start: BlockIndex(start),
            count: self.count,
            content: self.content,
        }
    }
}

impl RunMap {
    /// The empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lays a run over what is there; where they overlap the new one counts.
    pub fn insert(&mut self, run: Run) {
        if run.count == 0 {
            return;
        }
        self.remove(run.blocks());
        let mut run = run;
        if let Some(before) = self
            .before(run.start.0)
            .filter(|before| before.continues(&run))
        {
            self.runs.remove(&before.start.0);
            run = Run {
                start: before.start,
                count: before.count + run.count,
                ..before
            };
        }
        if let Some(after) = self.at(run.end()).filter(|after| run.continues(after)) {
            self.runs.remove(&after.start.0);
            run.count += after.count;
        }
        self.put(run);
    }

    fn put(&mut self, run: Run) {
        let Run { count, content, .. } = run;
        self.runs.insert(run.start.0, RunFrom { count, content });
    }

    /// Lays all of `newer` over what is there.
    pub fn overlay(&mut self, newer: &Self) {
        for run in newer.iter() {
            self.insert(run);
        }
    }

    /// Takes away what is at or after `end`.
    pub fn truncate(&mut self, end: u64) {
        self.remove(end..u64::MAX);
    }

    /// Takes away what is in `range`.
    pub fn remove(&mut self, range: impl Into<BlockRange>) {
        let range = range.into();
        let touched: Vec<Run> = self.touching(range).collect();
        for run in touched {
            self.runs.remove(&run.start.0);
            if run.start < range.start {
                self.put(run.cut(0..range.start.0));
            }
            if run.end() > range.end.0 {
                self.put(run.cut(range.end.0..u64::MAX));
            }
        }
    }

    /// The runs that begin inside `range` or reach into it, ascending and whole.
    fn touching(&self, range: BlockRange) -> impl Iterator<Item = Run> + '_ {
        let (start, end) = (range.start.0, range.end.0);
        let first = self.before(start).filter(|run| run.end() > start);
        let others = self.runs.range(start..end);
        let others = others.map(|(start, run)| run.at(*start));
        first.into_iter().chain(others)
    }

    /// The run that starts nearest before `block`.
    fn before(&self, block: u64) -> Option<Run> {
        let (start, run) = self.runs.range(..block).next_back()?;
        Some(run.at(*start))
    }

    fn at(&self, block: u64) -> Option<Run> {
        self.runs.get(&block).map(|run| run.at(block))
    }

    /// Where one block is.
    pub fn get(&self, block: BlockIndex) -> Option<Content> {
        let (start, run) = self.runs.range(..=block.0).next_back()?;
        let run = run.at(*start);
        (run.end() > block.0).then(|| run.cut(block).content)
    }

    /// The runs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        self.runs.iter().map(|(start, run)| run.at(*start))
    }

    /// The parts of runs inside `range`, ascending.
    pub fn iter_range(&self, range: impl Into<BlockRange>) -> impl Iterator<Item = Run> + '_ {
        let range = range.into();
        let runs = self.touching(range).map(move |run| run.cut(range));
        runs.filter(|run| run.count > 0)
    }

    /// How many runs.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether each block of `0..blocks` is in a run and none is outside.
    pub fn covers(&self, blocks: u64) -> bool {
        let mut next = 0;
        for run in self.iter() {
            if run.start.0 != next {
                return false;
            }
            next = run.end();
        }
        next == blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCKS: u64 = 64;

    fn content() -> impl Strategy<Value = Content> {
        prop_oneof![
            Just(Content::Zero),
            Just(Content::Free),
            (0..3_u8, 0..8_u32).prop_map(|(s, slot)| Content::Data {
                segment: ObjectId([s; 16]),
                slot
            }),
        ]
    }

    proptest! {
        /// Against the slow truth: one entry a block.
        #[test]
        fn a_map_of_runs_is_a_map_of_blocks(
            inserts in prop::collection::vec((0..BLOCKS, 1..16_u64, content()), 0..40),
            range in (0..BLOCKS, 0..BLOCKS),
        ) {
            let mut map = RunMap::new();
            let mut truth = vec![None; 2 * BLOCKS as usize];
            for (start, count, content) in inserts {
                map.insert(Run { start: BlockIndex(start), count, content });
                for block in 0..count {
                    truth[(start + block) as usize] = Some(content.later(block));
                }
            }
            for (block, expected) in truth.iter().enumerate() {
                prop_assert_eq!(map.get(BlockIndex(block as u64)), *expected);
            }
            let mut last: Option<Run> = None;
            for run in map.iter() {
                if let Some(last) = last {
                    prop_assert!(last.end() <= run.start.0);
                    prop_assert!(!last.continues(&run));
                }
                last = Some(run);
            }
            let range = range.0..range.1.max(range.0);
            let mut inside = vec![None; 2 * BLOCKS as usize];
            for run in map.iter_range(range.clone()) {
                prop_assert!(run.start.0 >= range.start && run.end() <= range.end && run.count > 0);
                for block in 0..run.count {
                    inside[(run.start.0 + block) as usize] = Some(run.content.later(block));
                }
            }
            for block in 0..2 * BLOCKS {
                let expected =
                    range.contains(&block).then(|| truth[block as usize]).flatten();
                prop_assert_eq!(inside[block as usize], expected);
            }
            let whole = truth.iter().take_while(|block| block.is_some()).count();
            let covers = truth.iter().skip(whole).all(Option::is_none);
            prop_assert_eq!(map.covers(whole as u64), covers);
        }
    }
}
