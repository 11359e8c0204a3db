//! The segments of a vault: how long each is, and who needs which of its slots. It must never call
//! a segment unneeded that a map leads to.

use super::needer::{Kinship, Needer};
use crate::model::{Bytes, Content, ObjectId, Run};
use jiff::Timestamp;
use std::collections::HashMap;
use std::ops::Range;

/// What a segment takes in memory, and a row of its slots, in bytes.
pub(super) const SEGMENT_BYTES: u64 = 144;
const ROW_BYTES: u64 = 24;

/// What a slot takes at most in a segment: a block that does not pack, and its place.
const MOST_SLOT_BYTES: u64 = 65_700;

/// Slots in a row that the same ones need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SlotRow {
    start: u32,
    end: u32,
    by: Needer,
}

/// A segment.
#[derive(Clone, Debug, Default)]
pub(super) struct SegmentNeeds {
    /// How long it is, and when it was put by the store's clock; `None`: no listing showed it.
    pub(super) listed: Option<ListedLength>,
    /// Ascending, not overlapping.
    rows: Vec<SlotRow>,
}

/// What a listing says of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListedLength {
    pub(super) bytes: Bytes,
    pub(super) put: Timestamp,
}

/// A part of a segment, about how many bytes it has, and who needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentShare {
    pub(super) bytes: Bytes,
    pub(super) by: Needer,
}

impl SegmentNeeds {
    /// Who needs anything of it.
    pub(super) fn needer(&self, kin: &Kinship) -> Needer {
        let rows = self.rows.iter().map(|row| row.by);
        rows.fold(Needer::Nobody, |all, by| kin.join(all, by))
    }

    /// How many slots it has at least, so that all that are needed are there.
    pub(super) fn slots(&self) -> u32 {
        self.rows.last().map_or(0, |row| row.end)
    }

    /// Who needs about how many bytes of it. How long each chunk is stands in the segment's footer,
    /// which is not read: they are taken for equally long, and for as many as are needed at least,
    /// and as such a length needs at least.
    pub(super) fn shares(&self) -> impl Iterator<Item = SegmentShare> + '_ {
        let bytes = self.listed.map_or(0, |listed| listed.bytes.0);
        let slots = u64::from(self.slots().max(1)).max(bytes.div_ceil(MOST_SLOT_BYTES));
        self.rows.iter().map(move |row| {
            let share = u128::from(bytes) * u128::from(row.end - row.start) / u128::from(slots);
            SegmentShare {
                bytes: Bytes(share as u64),
                by: row.by,
            }
        })
    }

    /// Says who needs these slots, too. Returns by how many rows there are more.
    fn add(&mut self, slots: Range<u32>, by: Needer, kin: &Kinship) -> i64 {
        let before = self.rows.len();
        let (mut start, end) = (slots.start, slots.end);
        let first = self.rows.partition_point(|row| row.end <= start);
        let rest = self.rows.get(first..).unwrap_or_default();
        let touched = rest.partition_point(|row| row.start < end);
        let mut new: Vec<SlotRow> = Vec::with_capacity(2 * touched + 1);
        let mut push = |start: u32, end: u32, by| {
            if start < end {
                new.push(SlotRow { start, end, by });
            }
        };
        for row in rest.iter().take(touched) {
            push(row.start, start, row.by);
            push(start, row.start, by);
            let both = row.start.max(start)..row.end.min(end);
            push(both.start, both.end, kin.join(row.by, by));
            push(end.max(row.start), row.end, row.by);
            start = start.max(row.end);
        }
        push(start, end, by);
        self.rows.splice(first..first + touched, new);
        self.join_neighbours(first.saturating_sub(1));
        self.rows.len() as i64 - before as i64
    }

    /// Joins the neighbours from this row on that belong together.
    fn join_neighbours(&mut self, from: usize) {
        let tail = self.rows.split_off(from.min(self.rows.len()));
        for row in tail {
            match self.rows.last_mut() {
                Some(last) if last.end == row.start && last.by == row.by => last.end = row.end,
                _ => self.rows.push(row),
            }
        }
    }
}

/// All segments.
#[derive(Default)]
pub(super) struct Segments {
    pub(super) all: HashMap<ObjectId, SegmentNeeds>,
    rows: u64,
}

impl Segments {
    /// Says who needs the blocks of a run, too.
    pub(super) fn add(&mut self, run: Run, by: Needer, kin: &Kinship) {
        if let Content::Data { segment, slot } = run.content {
            // A run of data is within a segment of at most 16,384 slots: its decoder has checked.
            let end = slot.saturating_add(u32::try_from(run.count).unwrap_or(u32::MAX));
            let needs = self.all.entry(segment).or_default();
            let more = needs.add(slot..end, by, kin);
            self.rows = self.rows.saturating_add_signed(more);
        }
    }

    /// About what they take in memory.
    pub(super) fn memory(&self) -> u64 {
        self.all.len() as u64 * SEGMENT_BYTES + self.rows * ROW_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::super::needer::CopyOf;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_nobody_needs_at_its_end_is_not_who_needs_its_beginning_has() {
        let kin = Kinship::default();
        let share = |bytes: u64, slots: Range<u32>| {
            let put = Timestamp::UNIX_EPOCH;
            let bytes = Bytes(bytes);
            let listed = Some(ListedLength { bytes, put });
            let mut needs = SegmentNeeds {
                listed,
                rows: Vec::new(),
            };
            needs.add(slots, Needer::Copy(0), &kin);
            needs.shares().next().unwrap().bytes.0
        };
        // Ten blocks that do not pack, of which the first is needed.
        assert_eq!(share(10 * 65_600, 0..1), 65_600);
        assert_eq!(share(10 * 65_600, 0..10), 10 * 65_600);
        // Blocks that pack well are more than that length needs.
        assert_eq!(share(65_600, 0..10), 65_600);
        assert_eq!(share(0, 0..1), 0);
    }

    proptest! {
        #[test]
        fn it_is_what_a_slow_count_says(
            added in prop::collection::vec((0..60_u32, 1..20_u32, 0..4_u32), 0..30)
        ) {
            let copies = [(0, 0), (0, 1), (1, 0), (2, 2)];
            let kin = Kinship {
                copies: copies.map(|(snapshot, disk)| CopyOf { snapshot, disk }).to_vec(),
                disk_hosts: vec![0, 0, 1],
                snapshot_hosts: vec![0, 0, 1],
            };
            let listed = ListedLength { bytes: Bytes(80), put: Timestamp::UNIX_EPOCH };
            let mut needs = SegmentNeeds { listed: Some(listed), rows: Vec::new() };
            let (mut slow, mut rows) = (BTreeMap::<u32, Needer>::new(), 0);
            for (start, count, who) in added {
                let by = Needer::Copy(who);
                rows += needs.add(start..start + count, by, &kin);
                for slot in start..start + count {
                    let known = slow.entry(slot).or_default();
                    *known = kin.join(*known, by);
                }
                prop_assert_eq!(rows, needs.rows.len() as i64);
            }
            let all = slow.values().fold(Needer::Nobody, |all, by| kin.join(all, *by));
            prop_assert_eq!(needs.needer(&kin), all);
            let last = slow.keys().last().map_or(1, |last| last + 1);
            let slots = |by: Needer| slow.values().filter(|one| **one == by).count() as u64;
            for share in needs.shares() {
                prop_assert!(share.bytes.0 <= 80 * slots(share.by) / u64::from(last));
            }
            let of_all: u64 = needs.shares().map(|share| share.bytes.0).sum();
            let exact = 80 * slow.len() as u64 / u64::from(last);
            // Each row is rounded down.
            prop_assert!((of_all..=of_all + needs.rows.len() as u64).contains(&exact));
        }
    }
}
