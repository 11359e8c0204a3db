//! Sizes and positions with their units. It must never convert with loss.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, AddAssign, Range, Sub};

/// Bytes in a block: the unit that is tracked and, as a chunk, stored.
pub const BLOCK_SIZE: u64 = 64 * 1024;

/// Bytes in a sector as the kernel counts them, whatever the device's own sector size.
pub const SECTOR_SIZE: u64 = 512;

/// A number of bytes, or a byte offset from the start of a disk.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A number of 512-byte sectors, or a sector's position on a disk.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sectors(pub u64);

/// A block's position on a disk, in units of [`BLOCK_SIZE`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BlockIndex(pub u64);

impl Bytes {
    /// The block that holds the byte at this offset.
    pub fn block(self) -> BlockIndex {
        BlockIndex(self.0 / BLOCK_SIZE)
    }

    /// What that many whole blocks hold.
    pub fn of_blocks(count: u64) -> Self {
        Self(count * BLOCK_SIZE)
    }
}

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Bytes {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        // What others have written down may be more than there can be.
        Self(all.fold(0, |sum, bytes| sum.saturating_add(bytes.0)))
    }
}

/// For people: `1.50 GiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut amount = self.0 as f64;
        let mut unit = None;
        for larger in units {
            if amount < 1024.0 {
                break;
            }
            amount /= 1024.0;
            unit = Some(larger);
        }
        match unit {
            None => write!(f, "{} B", self.0),
            Some(unit) => write!(f, "{amount:.2} {unit}"),
        }
    }
}

impl Sectors {
    /// The same length or position in bytes. A sector count of a real device always fits.
    pub fn bytes(self) -> Bytes {
        Bytes(self.0.saturating_mul(SECTOR_SIZE))
    }
}

impl BlockIndex {
    /// The byte offset at which the block starts.
    pub fn offset(self) -> Bytes {
        Bytes(self.0 * BLOCK_SIZE)
    }
}

/// A half-open range of blocks on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRange {
    /// The first block.
    pub start: BlockIndex,
    /// The block after the last one.
    pub end: BlockIndex,
}

impl BlockRange {
    /// How many blocks.
    pub fn count(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }
}

impl From<Range<u64>> for BlockRange {
    fn from(range: Range<u64>) -> Self {
        Self {
            start: BlockIndex(range.start),
            end: BlockIndex(range.end),
        }
    }
}

/// That block alone.
impl From<BlockIndex> for BlockRange {
    fn from(block: BlockIndex) -> Self {
        Self::from(block.0..block.0 + 1)
    }
}

/// How many blocks a disk of `size` has, the last of which may be short.
pub fn block_count(size: Bytes) -> u64 {
    size.0.div_ceil(BLOCK_SIZE)
}

/// Length of `block` on a disk of `size`: [`BLOCK_SIZE`], less for the last one of an odd-sized
/// disk, zero past the end.
pub fn block_len(block: BlockIndex, size: Bytes) -> Bytes {
    Bytes(size.0.saturating_sub(block.offset().0).min(BLOCK_SIZE))
}

/// A half-open range of bytes on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// First byte.
    pub offset: Bytes,
    /// How many bytes.
    pub length: Bytes,
}

impl Extent {
    /// `length` bytes from `offset` on.
    pub fn new(offset: Bytes, length: Bytes) -> Self {
        Self { offset, length }
    }

    /// The byte after the last one.
    pub fn end(self) -> Bytes {
        self.offset + self.length
    }

    /// The bytes that these blocks cover on a disk of `size`.
    pub fn of_blocks(blocks: impl Into<BlockRange>, size: Bytes) -> Self {
        let blocks = blocks.into();
        let start = blocks.start.offset().min(size);
        let end = blocks.end.offset().min(size);
        Self::new(start, end - start)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.offset.0, self.end().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_printed_in_the_largest_unit_they_fill() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1500, "1.46 KiB"),
            (1_500_000_000_000, "1.36 TiB"),
            (u64::MAX, "16.00 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
