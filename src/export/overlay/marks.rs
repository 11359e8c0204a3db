//! Which parts of a disk are in its overlay: a bit for each grain, in pages of which only those are
//! in memory that have a bit set. Bits are never taken back.

use super::head::PAGE;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Grains that a page of marks is of.
const PAGE_GRAINS: u64 = PAGE * 8;

/// Which grains are in an overlay.
#[derive(Default)]
pub(super) struct OverlayMarks {
    pages: BTreeMap<u64, Box<[u8]>>,
    /// Pages with marks that are not in the file yet.
    dirty: BTreeSet<u64>,
}

/// Neighbouring grains that are all in an overlay, or are all not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MarkedRun {
    pub(super) grains: Range<u64>,
    pub(super) is_marked: bool,
}

impl OverlayMarks {
    /// Takes over a page as it stands in the file.
    pub(super) fn load(&mut self, number: u64, page: &[u8]) {
        if page.iter().any(|byte| *byte != 0) {
            self.pages.insert(number, page.into());
        }
    }

    /// Whether a grain is in the overlay.
    pub(super) fn is_marked(&self, grain: u64) -> bool {
        let page = self.pages.get(&(grain / PAGE_GRAINS));
        let within = grain % PAGE_GRAINS;
        page.is_some_and(|page| page[(within / 8) as usize] & 1 << (within % 8) != 0)
    }

    /// Marks grains.
    pub(super) fn mark(&mut self, grains: Range<u64>) {
        let mut grain = grains.start;
        while grain < grains.end {
            let (number, within) = (grain / PAGE_GRAINS, grain % PAGE_GRAINS);
            let empty = || vec![0; PAGE as usize].into_boxed_slice();
            let page = self.pages.entry(number).or_insert_with(empty);
            self.dirty.insert(number);
            let byte = &mut page[(within / 8) as usize];
            if within.is_multiple_of(8) && grains.end - grain >= 8 {
                *byte = 0xff;
                grain += 8;
            } else {
                *byte |= 1 << (within % 8);
                grain += 1;
            }
        }
    }

    /// The first runs of a range, `most` at most, in order. They may end before the range does:
    /// nobody looks at many marks at once while others wait.
    pub(super) fn runs(&self, grains: Range<u64>, most: usize) -> Vec<MarkedRun> {
        let end = grains.end.min(grains.start.saturating_add(MOST_AT_ONCE));
        let mut runs: Vec<MarkedRun> = Vec::new();
        let mut at = grains.start;
        while at < end {
            let stretch = self.stretch(at, end);
            let next = stretch.grains.end;
            let is_full = runs.len() >= most;
            match runs.last_mut() {
                Some(last) if last.is_marked == stretch.is_marked => last.grains.end = next,
                _ if is_full => break,
                _ => runs.push(stretch),
            }
            at = next;
        }
        runs
    }

    /// Some grains from `at` on that are alike.
    fn stretch(&self, at: u64, end: u64) -> MarkedRun {
        let number = at / PAGE_GRAINS;
        let Some(page) = self.pages.get(&number) else {
            // Nothing of the page is marked.
            let grains = at..end.min((number + 1) * PAGE_GRAINS);
            let is_marked = false;
            return MarkedRun { grains, is_marked };
        };
        let within = at % PAGE_GRAINS;
        let rest = page[(within / 8) as usize] >> (within % 8);
        let is_marked = rest & 1 != 0;
        let alike = if is_marked { !rest } else { rest }.trailing_zeros();
        let left = 8 - within % 8;
        MarkedRun {
            grains: at..end.min(at + left.min(alike.into())),
            is_marked,
        }
    }

    /// The pages that the file does not have as they are here, each with its number. The file is
    /// taken to have them from here on.
    pub(super) fn take_dirty(&mut self) -> Vec<MarkPage> {
        let numbers = std::mem::take(&mut self.dirty).into_iter();
        let page = |number| {
            let bytes = self.pages.get(&number)?.clone();
            Some(MarkPage { number, bytes })
        };
        numbers.filter_map(page).collect()
    }

    /// The file does not have these pages after all.
    pub(super) fn put_back(&mut self, pages: &[MarkPage]) {
        self.dirty.extend(pages.iter().map(|page| page.number));
    }
}

/// Most grains that are looked at in one go: 4 GiB of 4 KiB each.
const MOST_AT_ONCE: u64 = 1 << 20;

/// A page of marks, for the file.
pub(super) struct MarkPage {
    pub(super) number: u64,
    pub(super) bytes: Box<[u8]>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the slow truth: a flag for each grain.
        #[test]
        fn marks_are_flags(
            marked in prop::collection::vec((0..3 * PAGE_GRAINS, 1..9000_u64), 0..8),
            from in 0..PAGE_GRAINS, length in 1..3 * PAGE_GRAINS,
        ) {
            let mut truth = vec![false; 5 * PAGE_GRAINS as usize];
            let mut marks = OverlayMarks::default();
            for (start, count) in marked {
                marks.mark(start..start + count);
                truth[start as usize..(start + count) as usize].fill(true);
            }
            let mut again = OverlayMarks::default();
            for page in marks.take_dirty() {
                again.load(page.number, &page.bytes);
            }
            prop_assert!(marks.take_dirty().is_empty());
            let mut at = from;
            let mut before = None;
            for run in again.runs(from..from + length, usize::MAX) {
                prop_assert_eq!(run.grains.start, at);
                prop_assert_ne!(before, Some(run.is_marked));
                for grain in run.grains.clone() {
                    prop_assert_eq!(truth[grain as usize], run.is_marked);
                }
                before = Some(run.is_marked);
                at = run.grains.end;
            }
            prop_assert_eq!(at, from + length);
            let first = again.runs(from..from + length, 2);
            prop_assert_eq!(&first[..], &again.runs(from..from + length, 3)[..first.len()]);
            prop_assert!(first.len() <= 2);
        }
    }
}
