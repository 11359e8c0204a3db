//! A set of blocks of one disk, compressed: a full 15 TiB disk takes at most 32 MiB.

use super::units::{BLOCK_SIZE, BlockIndex, BlockRange, Bytes, Extent};
use roaring::RoaringBitmap;
use std::ops::Range;

/// A set of blocks. Blocks from 2^32 on (256 TiB) cannot be members: disks of that size are
/// refused before a set is made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockSet(RoaringBitmap);

fn narrow(block: u64) -> u32 {
    u32::try_from(block).expect("a disk has fewer than 2^32 blocks, checked when it is opened")
}

impl BlockSet {
    /// Most blocks a disk may have.
    pub const MAX_BLOCKS: u64 = 1 << 32;

    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The blocks of a range.
    pub fn from_range(range: impl Into<BlockRange>) -> Self {
        let mut set = Self::new();
        set.insert_range(range);
        set
    }

    /// Adds one block.
    pub fn insert(&mut self, block: BlockIndex) {
        self.0.insert(narrow(block.0));
    }

    /// Adds the blocks of a range.
    pub fn insert_range(&mut self, range: impl Into<BlockRange>) {
        let range = range.into();
        if range.count() > 0 {
            self.0
                .insert_range(narrow(range.start.0)..=narrow(range.end.0 - 1));
        }
    }

    /// Adds every block that the extent touches.
    pub fn insert_touched(&mut self, extent: Extent) {
        if extent.length.0 > 0 {
            self.insert_range(extent.offset.0 / BLOCK_SIZE..extent.end().0.div_ceil(BLOCK_SIZE));
        }
    }

    /// Adds every block that lies wholly inside the extent. A disk's short last block counts as
    /// whole when the extent reaches `size`.
    pub fn insert_inside(&mut self, extent: Extent, size: Bytes) {
        let end = if extent.end() >= size {
            size.0.div_ceil(BLOCK_SIZE)
        } else {
            extent.end().0 / BLOCK_SIZE
        };
        self.insert_range(extent.offset.0.div_ceil(BLOCK_SIZE)..end);
    }

    /// Puts one block in, or takes it out.
    pub fn set(&mut self, block: BlockIndex, is_in: bool) {
        match (is_in, u32::try_from(block.0)) {
            (true, _) => self.insert(block),
            (false, Ok(block)) => {
                self.0.remove(block);
            }
            // None so large is ever in.
            (false, Err(_)) => {}
        }
    }

    /// Whether the block is in the set.
    pub fn contains(&self, block: BlockIndex) -> bool {
        u32::try_from(block.0).is_ok_and(|block| self.0.contains(block))
    }

    /// How many blocks.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// What they hold, each taken as whole.
    pub fn bytes(&self) -> Bytes {
        Bytes::of_blocks(self.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        self.0 |= &other.0;
    }

    /// Takes all of `other` away.
    pub fn remove(&mut self, other: &Self) {
        self.0 -= &other.0;
    }

    /// Keeps what is in `other` too.
    pub fn intersect(&mut self, other: &Self) {
        self.0 &= &other.0;
    }

    /// The `n`th block, counted from 0 in ascending order.
    pub fn nth(&self, n: u64) -> Option<BlockIndex> {
        self.0
            .select(u32::try_from(n).ok()?)
            .map(|block| BlockIndex(block.into()))
    }

    /// The blocks, ascending.
    pub fn iter(&self) -> impl Iterator<Item = BlockIndex> + '_ {
        self.0.iter().map(|block| BlockIndex(block.into()))
    }

    /// Maximal ranges of neighbouring blocks, ascending, none longer than `limit` blocks. Takes
    /// time by ranges, not by blocks.
    pub fn ranges(&self, limit: u64) -> impl Iterator<Item = BlockRange> + '_ {
        let mut runs = self.0.iter();
        let mut ahead = next_run(&mut runs);
        let ranges = std::iter::from_fn(move || {
            let whole = ahead.as_mut()?;
            // A run may end where the bitmap's own containers do, and go on after.
            while whole.end - whole.start < limit {
                match next_run(&mut runs) {
                    Some(more) if more.start == whole.end => whole.end = more.end,
                    more => {
                        return std::mem::replace(&mut ahead, more);
                    }
                }
            }
            let part = whole.start..whole.start + limit;
            if part.end == whole.end {
                ahead = next_run(&mut runs);
            } else {
                whole.start = part.end;
            }
            Some(part)
        });
        ranges.map(BlockRange::from)
    }
}

fn next_run(runs: &mut roaring::bitmap::Iter<'_>) -> Option<Range<u64>> {
    let run = runs.next_range()?;
    Some(u64::from(*run.start())..u64::from(*run.end()) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn inside_and_touched_differ_at_ragged_ends() {
        let size = Bytes(10 * BLOCK_SIZE + 512);
        let ragged = Extent::new(Bytes(100), Bytes(3 * BLOCK_SIZE));
        let mut inside = BlockSet::new();
        inside.insert_inside(ragged, size);
        assert_eq!(inside, BlockSet::from_range(1..3));
        let mut touched = BlockSet::new();
        touched.insert_touched(ragged);
        assert_eq!(touched, BlockSet::from_range(0..4));
        let mut tail = BlockSet::new();
        tail.insert_inside(
            Extent::new(Bytes(9 * BLOCK_SIZE), Bytes(BLOCK_SIZE + 512)),
            size,
        );
        assert_eq!(tail, BlockSet::from_range(9..11));
    }

    proptest! {
        /// Against the slow truth: one block after another.
        #[test]
        fn ranges_are_the_blocks(
            parts in prop::collection::vec((0..200_000_u64, 1..70_000_u64), 0..8),
            limit in prop_oneof![1..40_u64, Just(65536), Just(u64::MAX)],
        ) {
            let mut set = BlockSet::new();
            for (start, count) in parts {
                set.insert_range(start..start + count);
            }
            let mut expected: Vec<BlockRange> = Vec::new();
            for block in set.iter() {
                match expected.last_mut() {
                    Some(last) if last.end == block && last.count() < limit => last.end.0 += 1,
                    _ => expected.push(block.into()),
                }
            }
            prop_assert_eq!(set.ranges(limit).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn ranges_are_maximal_and_limited() {
        let mut set = BlockSet::from_range(0..5);
        set.insert(BlockIndex(9));
        let ranges = |limit| set.ranges(limit).collect::<Vec<_>>();
        assert_eq!(ranges(u64::MAX), [0..5, 9..10].map(BlockRange::from));
        assert_eq!(ranges(2), [0..2, 2..4, 4..5, 9..10].map(BlockRange::from));
    }
}
