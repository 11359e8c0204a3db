//! Which slots of one segment snapshots need, whichever they are: who needs them, `info` asks.

use std::ops::Range;

/// Slots in a row that are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LiveRow {
    /// Slots are below 16,384.
    start: u16,
    end: u16,
}

/// The slots of a segment that are needed.
#[derive(Clone, Debug, Default)]
pub(super) struct LiveSlots {
    /// Ascending; none touches the next.
    rows: Vec<LiveRow>,
}

impl LiveSlots {
    /// Says that these slots are needed, at least one. Returns by how many rows there are more.
    pub(super) fn add(&mut self, slots: Range<u32>) -> isize {
        let before = self.rows.len();
        let (mut start, mut end) = (slots.start as u16, slots.end as u16);
        let first = self.rows.partition_point(|row| row.end < start);
        let rest = self.rows.get(first..).unwrap_or_default();
        let touched = rest.partition_point(|row| row.start <= end);
        for row in rest.iter().take(touched) {
            start = start.min(row.start);
            end = end.max(row.end);
        }
        self.rows
            .splice(first..first + touched, [LiveRow { start, end }]);
        self.rows.len() as isize - before as isize
    }

    /// How many slots are needed.
    pub(super) fn count(&self) -> u32 {
        let rows = self.rows.iter();
        rows.map(|row| u32::from(row.end - row.start)).sum()
    }

    /// The slots that are needed, ascending; none touches the next.
    pub(super) fn ranges(&self) -> Vec<Range<u32>> {
        let rows = self.rows.iter();
        rows.map(|row| u32::from(row.start)..u32::from(row.end))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_what_a_slow_count_says(
            added in prop::collection::vec((0..60_u32, 1..20_u32), 0..30)
        ) {
            let (mut fast, mut slow) = (LiveSlots::default(), BTreeSet::new());
            let mut rows = 0;
            for (start, count) in added {
                rows += fast.add(start..start + count);
                slow.extend(start..start + count);
                prop_assert_eq!(rows, fast.rows.len() as isize);
            }
            prop_assert_eq!(fast.count() as usize, slow.len());
            let ranges = fast.ranges();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            let slots: BTreeSet<u32> = ranges.into_iter().flatten().collect();
            prop_assert_eq!(slots, slow);
        }
    }
}
