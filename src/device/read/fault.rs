//! Reads that failed: where exactly, and in which words. It must never leave out a range that could
//! not be read.

use super::queue::Geometry;
use crate::error::{Error, ErrorKind};
use crate::model::{Bytes, Extent, SECTOR_SIZE};
use std::fmt;
use std::io;

/// At most so many bad ranges are named.
pub const MAX_RANGES: usize = 16;

/// Why a read was not performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The system's error number.
    Errno(i32),
    /// No bytes came where there should be some.
    Ended,
}

impl Fault {
    /// Whether it may be one bad sector among good ones.
    /// `block/blk-core.c: blk_errors[]` maps media, protection and target errors to these.
    pub fn is_local(self) -> bool {
        let local = [libc::EIO, libc::ENODATA, libc::EILSEQ, libc::EREMOTEIO];
        matches!(self, Self::Errno(errno) if local.contains(&errno))
    }

    fn is_gone(self) -> bool {
        let gone = [libc::ENXIO, libc::ENODEV, libc::ENOMEDIUM];
        matches!(self, Self::Errno(errno) if gone.contains(&errno))
    }
}

/// What a device could not give: the source of the [`Error`] that tells it.
#[derive(Debug)]
pub struct Unreadable {
    ranges: Vec<Extent>,
    more: bool,
    rough: bool,
    errno: i32,
}

impl Unreadable {
    /// The bad ranges, ascending, in whole logical blocks.
    pub fn ranges(&self) -> &[Extent] {
        &self.ranges
    }

    /// Whether there may be more than are listed.
    pub fn more(&self) -> bool {
        self.more
    }

    /// Whether good blocks may be inside the ranges, because the search was cut short.
    pub fn rough(&self) -> bool {
        self.rough
    }

    /// The one that is this error's source, if there is one.
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.errno).fmt(f)
    }
}

impl std::error::Error for Unreadable {}

/// Collects bad ranges, by trying the halves of what failed.
#[derive(Debug, Default)]
pub struct BadBlockSearch {
    ranges: Vec<Extent>,
    more: bool,
    rough: bool,
}

impl BadBlockSearch {
    /// Finds out which logical blocks of `failed`, which could not be read as a whole, are bad.
    /// `readable` tries one; `None` means that no more may be tried. To be called with ascending
    /// extents that do not overlap.
    pub fn narrow(
        &mut self,
        failed: Extent,
        logical_block: u32,
        readable: &mut dyn FnMut(Extent) -> Option<bool>,
    ) {
        let block = u64::from(logical_block);
        let mut bad = vec![failed];
        while let Some(piece) = bad.pop() {
            if self.more {
                return;
            }
            if piece.length.0 <= block {
                self.add(piece);
                continue;
            }
            let half = (piece.length.0 / 2).next_multiple_of(block);
            let left = Extent::new(piece.offset, Bytes(half));
            let right = Extent::new(left.end(), piece.length - left.length);
            match (readable(left), readable(right)) {
                (Some(left_reads), Some(right_reads)) if !(left_reads && right_reads) => {
                    // The left half ends up on top, so that ranges come out in order.
                    bad.extend(
                        [(right, right_reads), (left, left_reads)]
                            .iter()
                            .filter_map(|&(half, reads)| (!reads).then_some(half)),
                    );
                }
                // Readable in halves, but not as a whole; or no more tries.
                _ => {
                    self.rough = true;
                    self.add(piece);
                }
            }
        }
    }

    fn add(&mut self, range: Extent) {
        let room = self.ranges.len() < MAX_RANGES;
        match self.ranges.last_mut() {
            Some(last) if last.end() == range.offset => {
                last.length += range.length;
            }
            _ if room => self.ranges.push(range),
            _ => self.more = true,
        }
    }

    /// The error that names them.
    pub fn finish(self, disk: &Geometry, errno: i32) -> Error {
        let named: Vec<_> = self.ranges.iter().map(|&range| place(range)).collect();
        let rough = if self.rough { " or parts of it" } else { "" };
        let more = if self.more { " and more" } else { "" };
        let name = disk.name.display();
        let message = format!("cannot read {name} at {}{rough}{more}", named.join(", "));
        Error::new(ErrorKind::Io, message)
            .with_source(Unreadable {
                ranges: self.ranges,
                more: self.more,
                rough: self.rough,
                errno,
            })
            .with_hint(
                "no snapshot was made of what cannot be read, earlier snapshots are untouched; \
                 see `dmesg`, check the disk, and copy what is left of it while it works",
            )
    }
}

/// `bytes 0..512 (sectors 0..1)`.
fn place(range: Extent) -> String {
    let first = range.offset.0 / SECTOR_SIZE;
    let last = range.end().0.div_ceil(SECTOR_SIZE);
    format!("bytes {range} (sectors {first}..{last})")
}

/// The error for a fault that is not about single blocks: `size` is what the disk says now.
pub fn explain(disk: &Geometry, extent: Extent, fault: Fault, size: io::Result<Bytes>) -> Error {
    let size = size.ok().filter(|size| size.0 > 0);
    match (size, fault) {
        (Some(size), _) if size != disk.size => {
            resized(disk, size).context(format!("cannot read at {}", place(extent)))
        }
        (Some(_), Fault::Ended) => {
            let name = disk.name.display();
            let message = format!("cannot read {name} at {}: no bytes came", place(extent));
            Error::new(ErrorKind::Io, message)
        }
        (Some(_), Fault::Errno(errno)) if !fault.is_gone() => {
            let name = disk.name.display();
            let message = format!("cannot read {name} at {}", place(extent));
            Error::new(ErrorKind::Io, message).with_source(io::Error::from_raw_os_error(errno))
        }
        _ => gone(disk).context(format!("cannot read at {}", place(extent))),
    }
}

/// The disk has another size than when it was opened.
pub fn resized(disk: &Geometry, size: Bytes) -> Error {
    let name = disk.name.display();
    let (before, now) = (disk.size.0, size.0);
    let message = format!("{name} changed its size from {before} to {now} bytes");
    Error::new(ErrorKind::Inconsistent, message).with_hint("start again, with the new size")
}

/// The disk is not there any more.
pub fn gone(disk: &Geometry) -> Error {
    let message = format!("{} is gone", disk.name.display());
    Error::new(ErrorKind::Io, message).with_hint("was it detached? see `dmesg`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn disk() -> Geometry {
        Geometry {
            name: "/dev/vdz".into(),
            size: Bytes(1 << 30),
            logical_block: 512,
        }
    }

    fn of_blocks(first: u64, count: u64, block: u32) -> Extent {
        Extent::new(
            Bytes(first * u64::from(block)),
            Bytes(count * u64::from(block)),
        )
    }

    #[test]
    fn the_error_names_bytes_and_sectors_and_carries_them() {
        let mut search = BadBlockSearch::default();
        search.add(Extent::new(Bytes(4096), Bytes(512)));
        search.add(Extent::new(Bytes(8192), Bytes(1024)));
        let error = search.finish(&disk(), libc::EIO);
        assert_eq!(
            error.to_string(),
            "cannot read /dev/vdz at bytes 4096..4608 (sectors 8..9), bytes 8192..9216 (sectors \
             16..18): Input/output error (os error 5)"
        );
        assert!(
            error
                .hint()
                .unwrap()
                .contains("earlier snapshots are untouched")
        );
        let unreadable = Unreadable::of(&error).unwrap();
        assert_eq!(unreadable.ranges().len(), 2);
        assert!(!unreadable.more() && !unreadable.rough());
    }

    #[test]
    fn more_ranges_than_can_be_listed_are_told() {
        let mut search = BadBlockSearch::default();
        let tries = &mut |piece: Extent| {
            let blocks = piece.offset.0 / 512..piece.end().0 / 512;
            Some(!blocks.into_iter().any(|block| block % 2 == 0))
        };
        search.narrow(of_blocks(0, 100, 512), 512, tries);
        let error = search.finish(&disk(), libc::EIO);
        assert_eq!(Unreadable::of(&error).unwrap().ranges().len(), MAX_RANGES);
        assert!(error.to_string().contains(" and more: "), "{error}");
    }

    #[test]
    fn what_reads_in_halves_only_is_still_bad() {
        let mut search = BadBlockSearch::default();
        let whole = of_blocks(8, 8, 4096);
        search.narrow(whole, 4096, &mut |_| Some(true));
        let error = search.finish(&disk(), libc::EIO);
        let unreadable = Unreadable::of(&error).unwrap();
        assert_eq!(unreadable.ranges(), [whole]);
        assert!(unreadable.rough());
    }

    proptest! {
        #[test]
        fn exactly_the_bad_blocks_are_found(
            (start, bad) in (0_u64..100, proptest::collection::btree_set(0_u64..64, 1..8)),
            length in 64_u64..200,
            block in prop_oneof![Just(512_u32), Just(4096)],
        ) {
            let is_bad = |at: u64| bad.contains(&(at - start));
            let mut search = BadBlockSearch::default();
            search.narrow(of_blocks(start, length, block), block, &mut |piece| {
                let size = u64::from(block);
                let blocks = piece.offset.0 / size..piece.end().0 / size;
                Some(!blocks.into_iter().any(is_bad))
            });
            let mut found = Vec::new();
            for range in &search.ranges {
                let size = u64::from(block);
                found.extend(range.offset.0 / size - start..range.end().0 / size - start);
            }
            prop_assert_eq!(found, bad.iter().copied().collect::<Vec<_>>());
        }

        #[test]
        fn a_search_cut_short_names_too_much_rather_than_too_little(
            bad in proptest::collection::btree_set(0_u64..256, 1..8),
            tries in 0_usize..40,
        ) {
            let mut left = tries;
            let mut search = BadBlockSearch::default();
            search.narrow(of_blocks(0, 256, 512), 512, &mut |piece| {
                left = left.checked_sub(1)?;
                let blocks = piece.offset.0 / 512..piece.end().0 / 512;
                Some(!blocks.into_iter().any(|block| bad.contains(&block)))
            });
            for block in bad {
                let at = Bytes(block * 512);
                let named = |range: &Extent| range.offset <= at && at < range.end();
                prop_assert!(search.ranges.iter().any(named), "{} is missing", block);
            }
        }
    }
}
