//! What a filesystem's driver writes while it replays a log: pages in memory, laid over disks of a
//! snapshot. They are thrown away at the end; nothing here reaches a vault.

use crate::model::{Bytes, Extent};
use std::collections::BTreeMap;

/// The unit of what is kept.
pub(super) const PAGE: u64 = 4096;

/// One page of one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PageName {
    disk: usize,
    page: u64,
}

/// The pages that were written.
pub(super) struct ReplayedPages {
    pages: BTreeMap<PageName, Box<[u8]>>,
    most: usize,
}

/// A page cannot be kept: there are as many as there may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ScratchFull;

impl ReplayedPages {
    /// Keeps no more than this.
    pub(super) fn new(most: Bytes) -> Self {
        Self {
            pages: BTreeMap::new(),
            most: usize::try_from(most.0 / PAGE).unwrap_or(usize::MAX),
        }
    }

    /// Lays what was written over bytes of a disk that begin at `offset`.
    pub(super) fn lay_over(&self, disk: usize, offset: Bytes, bytes: &mut [u8]) {
        let end = offset.0 + bytes.len() as u64;
        let name = |page| PageName { disk, page };
        for (at, page) in self
            .pages
            .range(name(offset.0 / PAGE)..name(end.div_ceil(PAGE)))
        {
            let start = at.page * PAGE;
            let from = start.max(offset.0);
            let until = (start + page.len() as u64).min(end);
            if let (Some(into), Some(part)) = (
                bytes.get_mut((from - offset.0) as usize..(until - offset.0) as usize),
                page.get((from - start) as usize..(until - start) as usize),
            ) {
                into.copy_from_slice(part);
            }
        }
    }

    /// The parts of pages that writing this extent leaves as they are, so that they must be there
    /// first: the page at its beginning and that at its end.
    pub(super) fn needs(&self, disk: usize, place: Extent) -> Vec<u64> {
        let (start, end) = (place.offset.0, place.end().0);
        let mut cut = Vec::new();
        if !start.is_multiple_of(PAGE) {
            cut.push(start / PAGE);
        }
        if !end.is_multiple_of(PAGE) && cut.last() != Some(&(end / PAGE)) {
            cut.push(end / PAGE);
        }
        cut.retain(|&page| !self.pages.contains_key(&PageName { disk, page }));
        cut
    }

    /// Keeps a page as the disk has it.
    pub(super) fn add(
        &mut self,
        disk: usize,
        page: u64,
        bytes: Vec<u8>,
    ) -> Result<(), ScratchFull> {
        let name = PageName { disk, page };
        if self.pages.contains_key(&name) {
            return Ok(());
        }
        if self.pages.len() >= self.most {
            return Err(ScratchFull);
        }
        self.pages.insert(name, bytes.into());
        Ok(())
    }

    /// Writes. Every page that is written in part must have been added.
    pub(super) fn write(
        &mut self,
        disk: usize,
        offset: Bytes,
        data: &[u8],
    ) -> Result<(), ScratchFull> {
        let mut at = offset.0;
        let mut rest = data;
        while !rest.is_empty() {
            let (page, within) = (at / PAGE, (at % PAGE) as usize);
            let length = rest.len().min(PAGE as usize - within);
            let (part, after) = rest.split_at(length);
            let name = PageName { disk, page };
            match self.pages.get_mut(&name) {
                Some(kept) => {
                    if let Some(into) = kept.get_mut(within..within + length) {
                        into.copy_from_slice(part);
                    }
                }
                None => self.add(disk, page, part.to_vec())?,
            }
            at += length as u64;
            rest = after;
        }
        Ok(())
    }

    /// How much is kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> Bytes {
        Bytes(self.pages.len() as u64 * PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes as the server does: cut pages come from the disk first.
    fn write(scratch: &mut ReplayedPages, disk: &[u8], offset: u64, data: &[u8]) {
        let place = Extent::new(Bytes(offset), Bytes(data.len() as u64));
        for page in scratch.needs(0, place) {
            let start = (page * PAGE) as usize;
            let end = (start + PAGE as usize).min(disk.len());
            scratch.add(0, page, disk[start..end].to_vec()).unwrap();
        }
        scratch.write(0, Bytes(offset), data).unwrap();
    }

    proptest! {
        #[test]
        fn what_was_written_is_seen_and_all_else_is_the_disk(
            writes in prop::collection::vec((0..60_000_u64, 1..9_000_usize, any::<u8>()), 1..12),
            (from, length) in (0..60_000_u64, 1..20_000_usize),
        ) {
            let disk: Vec<u8> = (0..61_111_u32).map(|at| (at % 251) as u8).collect();
            let mut truth = disk.clone();
            let mut scratch = ReplayedPages::new(Bytes(1 << 20));
            for (offset, length, byte) in writes {
                let length = length.min(disk.len() - offset as usize);
                let data = vec![byte; length];
                write(&mut scratch, &disk, offset, &data);
                truth[offset as usize..offset as usize + length].fill(byte);
            }
            let end = (from as usize + length).min(disk.len());
            let mut seen = disk[from as usize..end].to_vec();
            scratch.lay_over(0, Bytes(from), &mut seen);
            prop_assert_eq!(&seen, &truth[from as usize..end]);
            let mut other = disk[from as usize..end].to_vec();
            scratch.lay_over(1, Bytes(from), &mut other);
            prop_assert_eq!(&other, &disk[from as usize..end]);
        }
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let mut scratch = ReplayedPages::new(Bytes(3 * PAGE));
        let data = vec![1; 2 * PAGE as usize];
        scratch.write(0, Bytes(0), &data).unwrap();
        assert_eq!(scratch.write(1, Bytes(0), &data), Err(ScratchFull));
        assert_eq!(scratch.kept(), Bytes(3 * PAGE));
        // What is kept can be written again.
        scratch.write(0, Bytes(PAGE), &data[..9]).unwrap();
    }
}
