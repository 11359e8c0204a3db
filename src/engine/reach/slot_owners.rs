//! Which slots of one segment snapshots need, and which of them one snapshot alone needs.

use std::ops::Range;

/// Stands for more than one snapshot.
const SHARED: u32 = u32::MAX;

/// Slots in a row that have one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OwnedSlots {
    /// Slots are below 16,384.
    start: u16,
    end: u16,
    owner: u32,
}

/// Who needs the slots of a segment; slots that nobody needs are in no row.
#[derive(Clone, Debug, Default)]
pub(super) struct SlotOwners {
    /// Ascending, not overlapping; neighbours have different owners, or a gap between.
    rows: Vec<OwnedSlots>,
}

/// Who needs some slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotOwner {
    /// A snapshot, by its number.
    One(u32),
    /// More than one.
    Several,
}

impl SlotOwner {
    fn code(self) -> u32 {
        match self {
            Self::One(number) => number,
            Self::Several => SHARED,
        }
    }
}

impl SlotOwners {
    /// Says that `owner` needs these slots, too. Returns by how many rows there are more.
    pub(super) fn add(&mut self, slots: Range<u32>, owner: SlotOwner) -> isize {
        let before = self.rows.len();
        let (mut start, end) = (slots.start as u16, slots.end as u16);
        let owner = owner.code();
        let first = self.rows.partition_point(|row| row.end <= start);
        let last = first + self.rows[first..].partition_point(|row| row.start < end);
        let mut new: Vec<OwnedSlots> = Vec::with_capacity(2 * (last - first) + 1);
        for row in &self.rows[first..last] {
            push(&mut new, row.start, start, row.owner);
            push(&mut new, start, row.start, owner);
            let common = row.start.max(start)..row.end.min(end);
            let both = if row.owner == owner { owner } else { SHARED };
            push(&mut new, common.start, common.end, both);
            push(&mut new, end.max(row.start), row.end, row.owner);
            start = start.max(row.end);
        }
        push(&mut new, start, end, owner);
        self.rows.splice(first..last, new);
        self.join(first.saturating_sub(1));
        self.rows.len() as isize - before as isize
    }

    /// Joins the neighbours from this row on that belong together, as far as they may have changed.
    fn join(&mut self, from: usize) {
        let tail = self.rows.split_off(from.min(self.rows.len()));
        for row in tail {
            match self.rows.last_mut() {
                Some(last) if last.end == row.start && last.owner == row.owner => {
                    last.end = row.end;
                }
                _ => self.rows.push(row),
            }
        }
    }

    /// How many slots are needed.
    pub(super) fn live(&self) -> u32 {
        self.rows
            .iter()
            .map(|row| u32::from(row.end - row.start))
            .sum()
    }

    /// The slots that are needed, whoever needs them.
    pub(super) fn ranges(&self) -> Vec<Range<u32>> {
        let mut all: Vec<Range<u32>> = Vec::new();
        for row in &self.rows {
            let (start, end) = (u32::from(row.start), u32::from(row.end));
            match all.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => all.push(start..end),
            }
        }
        all
    }

    /// The rows that one snapshot alone needs: its number, and how many slots.
    pub(super) fn alone(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let rows = self.rows.iter().filter(|row| row.owner != SHARED);
        rows.map(|row| (row.owner, u32::from(row.end - row.start)))
    }
}

/// Adds a row, unless it is empty.
fn push(rows: &mut Vec<OwnedSlots>, start: u16, end: u16, owner: u32) {
    if start < end {
        rows.push(OwnedSlots { start, end, owner });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_what_a_slow_count_says(
            added in prop::collection::vec((0..60_u32, 1..20_u32, 0..4_u32), 0..30)
        ) {
            let (mut fast, mut slow) = (SlotOwners::default(), BTreeMap::new());
            let mut rows = 0;
            for (start, count, owner) in added {
                let who = if owner == 3 { SlotOwner::Several } else { SlotOwner::One(owner) };
                rows += fast.add(start..start + count, who);
                for slot in start..start + count {
                    let known = slow.entry(slot).or_insert(who);
                    if *known != who {
                        *known = SlotOwner::Several;
                    }
                }
                prop_assert_eq!(rows, fast.rows.len() as isize);
                let ascending = fast.rows.windows(2).all(|pair| pair[0].end <= pair[1].start);
                prop_assert!(ascending, "{:?}", fast.rows);
            }
            prop_assert_eq!(fast.live() as usize, slow.len());
            for number in 0..3 {
                let mine = fast.alone().filter(|(owner, _)| *owner == number);
                let mine: u32 = mine.map(|(_, slots)| slots).sum();
                let expected = slow.values().filter(|owner| **owner == SlotOwner::One(number));
                prop_assert_eq!(mine as usize, expected.count());
            }
            let ranges = fast.ranges();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            let slots: Vec<u32> = ranges.into_iter().flatten().collect();
            prop_assert_eq!(slots, slow.keys().copied().collect::<Vec<_>>());
        }
    }
}
