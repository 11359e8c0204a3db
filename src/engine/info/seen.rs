//! Who sees what lies below some index objects, for each block of a disk. What one of them lays
//! over a block hides what lies below: it must never hide more.

use super::needer::{Kinship, Needer};
use crate::model::RunMap;
use std::ops::Range;

/// Neighbouring blocks that the same ones see, up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SeenPiece {
    end: u64,
    by: Needer,
}

/// Who sees each block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SeenFromBelow {
    /// From block 0 on, ascending; neighbours differ. After the last one: nobody.
    pieces: Vec<SeenPiece>,
}

impl SeenFromBelow {
    /// How many pieces.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    fn end(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.end)
    }

    fn push(&mut self, end: u64, by: Needer) {
        if end <= self.end() {
            return;
        }
        match self.pieces.last_mut() {
            Some(last) if last.by == by => last.end = end,
            _ => self.pieces.push(SeenPiece { end, by }),
        }
    }

    /// Says that these see the first `blocks` blocks, too.
    pub(super) fn also_all(&mut self, blocks: u64, by: Needer, kin: &Kinship) {
        let mut all = Self::default();
        all.push(blocks, by);
        self.also(&all, kin);
    }

    /// Says that what `other` says is so, too.
    pub(super) fn also(&mut self, other: &Self, kin: &Kinship) {
        let mine = std::mem::take(self).pieces;
        let (mut left, mut right) = (mine.iter().peekable(), other.pieces.iter().peekable());
        loop {
            let (end, by) = match (left.peek(), right.peek()) {
                (None, None) => return,
                (Some(one), None) | (None, Some(one)) => (one.end, one.by),
                (Some(one), Some(two)) => (one.end.min(two.end), kin.join(one.by, two.by)),
            };
            self.push(end, by);
            left.next_if(|piece| piece.end == end);
            right.next_if(|piece| piece.end == end);
        }
    }

    /// Says that nobody sees what is below `map`.
    pub(super) fn hide(&mut self, map: &RunMap) {
        let mut hidden = Self::default();
        let mut at = 0;
        for run in map.iter() {
            self.copy_to(run.start.0, &mut at, &mut hidden);
            hidden.push(run.end(), Needer::Nobody);
        }
        self.copy_to(u64::MAX, &mut at, &mut hidden);
        *self = hidden;
    }

    /// Copies what is not copied yet up to a block; `at` is the first piece that may reach there.
    fn copy_to(&self, end: u64, at: &mut usize, into: &mut Self) {
        while let Some(piece) = self.pieces.get(*at) {
            into.push(piece.end.min(end), piece.by);
            if piece.end > end {
                return;
            }
            *at += 1;
        }
    }

    /// Calls `each` for the pieces of some blocks that somebody sees.
    pub(super) fn each(&self, blocks: Range<u64>, each: &mut dyn FnMut(Range<u64>, Needer)) {
        let first = self.pieces.partition_point(|p| p.end <= blocks.start);
        let mut start = blocks.start;
        for piece in self.pieces.get(first..).unwrap_or_default() {
            if start >= blocks.end {
                return;
            }
            let end = piece.end.min(blocks.end);
            if piece.by != Needer::Nobody {
                each(start..end, piece.by);
            }
            start = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::needer::CopyOf;
    use super::*;
    use crate::model::{BlockIndex, Content, Run};
    use proptest::prelude::*;

    const BLOCKS: u64 = 40;

    fn kinship() -> Kinship {
        let copies = (0..4).map(|n| CopyOf {
            snapshot: n,
            disk: 0,
        });
        Kinship {
            copies: copies.collect(),
            disk_hosts: vec![0],
            snapshot_hosts: vec![0; 4],
        }
    }

    fn slow(seen: &SeenFromBelow) -> Vec<Needer> {
        let mut found = vec![Needer::Nobody; BLOCKS as usize];
        seen.each(0..BLOCKS, &mut |blocks, by| {
            for block in blocks {
                found[block as usize] = by;
            }
        });
        found
    }

    fn map(start: u64, count: u64) -> RunMap {
        let mut map = RunMap::new();
        for at in [start, start + 2 * count] {
            let count = count.min(BLOCKS.saturating_sub(at));
            map.insert(Run {
                start: BlockIndex(at),
                count,
                content: Content::Zero,
            });
        }
        map
    }

    proptest! {
        #[test]
        fn it_is_what_a_slow_count_says(
            steps in prop::collection::vec((0..3_u8, 0..4_u32, 0..BLOCKS, 1..9_u64), 0..30)
        ) {
            let kin = kinship();
            let mut seen = SeenFromBelow::default();
            let mut expected = slow(&seen);
            for (verb, who, start, count) in steps {
                let by = Needer::Copy(who);
                match verb {
                    0 => {
                        seen.hide(&map(start, count));
                        for run in map(start, count).iter() {
                            expected[run.start.0 as usize..run.end() as usize].fill(Needer::Nobody);
                        }
                    }
                    1 => {
                        seen.also_all(start, by, &kin);
                        let some = &mut expected[..start as usize];
                        some.iter_mut().for_each(|one| *one = kin.join(*one, by));
                    }
                    _ => {
                        let mut other = SeenFromBelow::default();
                        other.also_all(BLOCKS, by, &kin);
                        other.hide(&map(start, count));
                        let more = slow(&other);
                        seen.also(&other, &kin);
                        let both = expected.iter_mut().zip(more);
                        both.for_each(|(one, more)| *one = kin.join(*one, more));
                    }
                }
                prop_assert_eq!(&slow(&seen), &expected);
                let differ = seen.pieces.windows(2).all(|two| two[0].by != two[1].by);
                prop_assert!(differ, "{seen:?}");
                // A part of it is as the whole.
                let mut part = vec![Needer::Nobody; BLOCKS as usize];
                let end = (start + count).min(BLOCKS);
                seen.each(start..end, &mut |blocks, by| {
                    blocks.for_each(|block| part[block as usize] = by);
                });
                let (from, to) = (start as usize, end as usize);
                prop_assert_eq!(&part[from..to], &expected[from..to]);
                let mut others = part[..from].iter().chain(&part[to..]);
                prop_assert!(others.all(|by| *by == Needer::Nobody));
            }
        }
    }
}
