//! How a disk's marks lie in its map: page 0 is the header, then names of cuts, then summaries,
//! then marks. The other half of this is `bpf/cbt.bpf.c`. Arithmetic only; it must never trust a
//! header it has not checked.

use super::source::Epoch;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BLOCK_SIZE, BlockSet, Bytes, SECTOR_SIZE, block_count};

/// Bytes in one page of a map, on every machine.
pub(super) const PAGE: usize = 4096;

/// One page of a map.
pub(super) type Page = [u8; PAGE];

/// Marks in one page: a `u16` epoch for each grain.
pub(super) const MARKS_PER_PAGE: u64 = 2048;

/// Summaries in one page: two `u16` for each page of marks.
pub(super) const SUMMARIES_PER_PAGE: u64 = 1024;

/// How many of the last cuts have names: each quarter of an hour for six weeks.
pub(super) const NAMES: u64 = 4096;

/// Bytes for each: an epoch and 128 bits.
pub(super) const NAME_BYTES: usize = 24;

/// Pages of names.
const NAME_PAGES: u64 = NAMES * NAME_BYTES as u64 / PAGE as u64;

/// The number of the first page of summaries.
pub(super) const FIRST_SUMMARIES: u64 = 1 + NAME_PAGES;

/// Bytes of a map that userspace shares with the kernel: the header and the names.
pub(super) const SHARED: usize = FIRST_SUMMARIES as usize * PAGE;

/// The last epoch that fits into a mark.
pub(super) const LAST_EPOCH: u32 = u16::MAX as u32;

/// From this epoch on, attaching a disk starts it afresh: 10,000 snapshots of six epochs each, with
/// 5,000 epochs left for the run that is under way.
pub(super) const RENEW_FROM: u32 = 60_000;

/// Most memory for one disk's marks, on the largest machine.
const MOST_MEMORY: u64 = 256 << 20;

/// At most this part of the machine's memory for one disk's marks.
const MEMORY_SHARE: u64 = 64;

/// Where things are in the header page (`struct header` in `cbt.bpf.c`, and more behind it that
/// only userspace reads).
pub(super) mod at {
    pub const EPOCH: usize = 0;
    pub const GRAIN_SHIFT: usize = 4;
    pub const GRAINS: usize = 8;
    pub const VOIDS: usize = 16;
    pub const FIRST_MARKS: usize = 24;
    pub const MAGIC: usize = 32;
    pub const SIZE: usize = 40;
    pub const DISKSEQ: usize = 48;
    pub const RESIZES: usize = 56;
    /// How many cuts have been named.
    pub const NAMED: usize = 64;
    /// The number of the next record of the kernel's log to be read, where that is read.
    pub const LOG_NEXT: usize = 72;
    pub const SEEN: usize = 128;
    /// Behind the header.
    pub const NAMES: usize = super::PAGE;
}

/// `SPcbt` and the version of this layout.
const MAGIC: u64 = 0x0002_0074_6263_5053;

/// What a disk's header says once and for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MarkLayout {
    /// Size of the disk.
    pub size: Bytes,
    /// The kernel's disk sequence number; none before 5.15.
    pub diskseq: Option<u64>,
    /// A grain, the unit of a mark, has `1 << grain_shift` sectors: 128 or more.
    pub grain_shift: u32,
}

fn field(page: &Page, offset: usize) -> u64 {
    let bytes = page[offset..offset + 8].try_into();
    u64::from_ne_bytes(bytes.expect("eight bytes"))
}

fn short_field(page: &Page, offset: usize) -> u32 {
    let bytes = page[offset..offset + 4].try_into();
    u32::from_ne_bytes(bytes.expect("four bytes"))
}

impl MarkLayout {
    /// For a disk, on a machine with `memory`: 64 KiB grains unless their marks would take more
    /// than 256 MiB or a 64th of the memory.
    ///
    /// # Errors
    /// The disk is empty, or larger than a set of blocks can describe.
    pub fn plan(size: Bytes, diskseq: Option<u64>, memory: Bytes) -> Result<Self> {
        if size.0 == 0 || block_count(size) > BlockSet::MAX_BLOCKS {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("a disk of {} bytes cannot be tracked", size.0),
            ));
        }
        let limit = MOST_MEMORY.min(memory.0 / MEMORY_SHARE).max(PAGE as u64);
        let mut layout = Self {
            size,
            diskseq,
            grain_shift: (BLOCK_SIZE / SECTOR_SIZE).trailing_zeros(),
        };
        while layout.mark_pages() > 1 && layout.mark_pages() * PAGE as u64 > limit {
            layout.grain_shift += 1;
        }
        Ok(layout)
    }

    /// Bytes in a grain.
    pub fn grain(&self) -> Bytes {
        Bytes(SECTOR_SIZE << self.grain_shift)
    }

    /// How many grains the disk has, the last of which may be short.
    pub fn grains(&self) -> u64 {
        self.size.0.div_ceil(self.grain().0)
    }

    /// How many pages of marks.
    pub fn mark_pages(&self) -> u64 {
        self.grains().div_ceil(MARKS_PER_PAGE)
    }

    /// How many pages of summaries.
    pub fn summary_pages(&self) -> u64 {
        self.mark_pages().div_ceil(SUMMARIES_PER_PAGE)
    }

    /// The number of the first page of marks.
    pub fn first_marks(&self) -> u64 {
        FIRST_SUMMARIES + self.summary_pages()
    }

    /// How many pages the map has.
    pub fn pages(&self) -> u32 {
        u32::try_from(self.first_marks() + self.mark_pages())
            .expect("2^32 blocks need less than 2^22 pages")
    }

    /// Kernel memory that the map takes.
    pub fn memory(&self) -> Bytes {
        Bytes(u64::from(self.pages()) * PAGE as u64)
    }

    /// The header of a map without marks, at epoch 1 (0 is the mark of what never changed).
    pub fn header(&self) -> Page {
        let mut page = [0; PAGE];
        let mut put = |offset: usize, bytes: &[u8]| {
            page[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        put(at::EPOCH, &1_u32.to_ne_bytes());
        put(at::GRAIN_SHIFT, &self.grain_shift.to_ne_bytes());
        put(at::GRAINS, &self.grains().to_ne_bytes());
        let first_marks = u32::try_from(self.first_marks()).expect("as in `pages`");
        put(at::FIRST_MARKS, &first_marks.to_ne_bytes());
        put(at::MAGIC, &MAGIC.to_ne_bytes());
        put(at::SIZE, &self.size.0.to_ne_bytes());
        put(at::DISKSEQ, &self.diskseq.unwrap_or(0).to_ne_bytes());
        page
    }

    /// Reads a header back. `None` when it is not one of ours, or does not fit itself or `pages`.
    pub fn of_header(page: &Page, pages: u32) -> Option<Self> {
        let shift = short_field(page, at::GRAIN_SHIFT);
        if field(page, at::MAGIC) != MAGIC || !(7..32).contains(&shift) {
            return None;
        }
        let layout = Self {
            size: Bytes(field(page, at::SIZE)),
            diskseq: Some(field(page, at::DISKSEQ)).filter(|&seq| seq != 0),
            grain_shift: shift,
        };
        let fits = layout.size.0 > 0
            && block_count(layout.size) <= BlockSet::MAX_BLOCKS
            && field(page, at::GRAINS) == layout.grains()
            && u64::from(short_field(page, at::FIRST_MARKS)) == layout.first_marks()
            && layout.pages() == pages;
        fits.then_some(layout)
    }

    /// Adds the blocks of the grains `first..end`.
    pub fn insert_grains(&self, set: &mut BlockSet, first: u64, end: u64) {
        let wide = self.grain().0 / BLOCK_SIZE;
        let blocks = block_count(self.size);
        set.insert_range((first * wide).min(blocks)..(end * wide).min(blocks));
    }

    /// Adds the blocks that a page of marks says changed in `since` or later. `page` counts from 0
    /// at the first page of marks.
    pub fn insert_marked(&self, set: &mut BlockSet, page: u64, marks: &Page, since: Epoch) {
        let base = page * MARKS_PER_PAGE;
        let mut run: Option<u64> = None;
        for (grain, mark) in (base..).zip(marks.chunks_exact(2)) {
            let marked = u32::from(u16::from_ne_bytes([mark[0], mark[1]])) >= since.0;
            match (marked, run) {
                (true, None) => run = Some(grain),
                (false, Some(first)) => {
                    self.insert_grains(set, first, grain);
                    run = None;
                }
                _ => {}
            }
        }
        if let Some(first) = run {
            self.insert_grains(set, first, base + MARKS_PER_PAGE);
        }
    }
}

/// What a summary says of one page of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// The newest epoch in the page.
    pub newest: Epoch,
    /// An epoch in which all of the page's grains changed; 0 for none.
    pub whole: Epoch,
}

/// The summaries in one page of them.
pub(super) fn summaries(page: &Page) -> impl Iterator<Item = Summary> + '_ {
    page.chunks_exact(4).map(|entry| Summary {
        newest: Epoch(u16::from_ne_bytes([entry[0], entry[1]]).into()),
        whole: Epoch(u16::from_ne_bytes([entry[2], entry[3]]).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;

    fn plan(size: u64, memory: u64) -> MarkLayout {
        MarkLayout::plan(Bytes(size), Some(7), Bytes(memory)).unwrap()
    }

    #[test]
    fn a_tebibyte_takes_32_mib_and_larger_disks_get_coarser_grains() {
        let layout = plan(TIB, 64 * GIB);
        assert_eq!(layout.grain(), Bytes(BLOCK_SIZE));
        assert!(layout.memory() <= Bytes((32 << 20) + 40 * PAGE as u64));
        assert_eq!(plan(8 * TIB, 64 * GIB).grain(), Bytes(BLOCK_SIZE));
        assert_eq!(plan(64 * TIB, 64 * GIB).grain(), Bytes(8 * BLOCK_SIZE));
        // A 64th of 1 GiB is 16 MiB: half of what 64 KiB grains would take.
        assert_eq!(plan(TIB, GIB).grain(), Bytes(2 * BLOCK_SIZE));
        assert!(MarkLayout::plan(Bytes(0), None, Bytes(GIB)).is_err());
        assert!(MarkLayout::plan(Bytes(257 * TIB), None, Bytes(GIB)).is_err());
    }

    #[test]
    fn a_foreign_or_damaged_header_is_not_believed() {
        let layout = plan(10 * GIB + 512, 64 * GIB);
        let page = layout.header();
        assert_eq!(MarkLayout::of_header(&page, layout.pages()), Some(layout));
        assert_eq!(MarkLayout::of_header(&page, layout.pages() + 1), None);
        assert_eq!(MarkLayout::of_header(&[0; PAGE], 1), None);
        for offset in [at::GRAIN_SHIFT, at::GRAINS, at::MAGIC, at::SIZE + 4] {
            let mut bad = page;
            bad[offset] ^= 0x21;
            assert_eq!(
                MarkLayout::of_header(&bad, layout.pages()),
                None,
                "{offset}"
            );
        }
    }

    proptest! {
        #[test]
        fn headers_come_back_and_every_grain_has_its_mark(
            size in 1..256 * TIB,
            memory in (1_u64 << 28)..(1 << 42),
        ) {
            let layout = plan(size, memory);
            prop_assert_eq!(MarkLayout::of_header(&layout.header(), layout.pages()), Some(layout));
            prop_assert!(layout.mark_pages() * MARKS_PER_PAGE >= layout.grains());
            prop_assert!(layout.summary_pages() * SUMMARIES_PER_PAGE >= layout.mark_pages());
            prop_assert!(layout.memory().0 <= (257 << 20));
            let mut all = BlockSet::new();
            layout.insert_grains(&mut all, layout.grains() - 1, layout.grains());
            prop_assert!(all.contains(crate::model::BlockIndex(block_count(Bytes(size)) - 1)));
            prop_assert_eq!(all.iter().last().unwrap().0, block_count(Bytes(size)) - 1);
        }
    }

    #[test]
    fn marks_become_blocks() {
        let layout = plan(GIB, 64 * GIB);
        let mut page = [0; PAGE];
        for (grain, epoch) in [(0_usize, 5_u16), (1, 6), (2, 4), (2047, 9)] {
            page[grain * 2..grain * 2 + 2].copy_from_slice(&epoch.to_ne_bytes());
        }
        let mut set = BlockSet::new();
        layout.insert_marked(&mut set, 1, &page, Epoch(5));
        let blocks: Vec<_> = set.iter().map(|block| block.0).collect();
        assert_eq!(blocks, [2048, 2049, 4095]);
    }
}
