//! Sizes and positions with their units. It must never convert with loss.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Range, Sub};

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
}

impl Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
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

/// For people: `1.5 GiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        indicatif::BinaryBytes(self.0).fmt(f)
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

    /// The bytes that the blocks `range` cover on a disk of `size`.
    pub fn of_blocks(range: Range<u64>, size: Bytes) -> Self {
        let start = BlockIndex(range.start).offset().0.min(size.0);
        let end = BlockIndex(range.end).offset().0.min(size.0);
        Self {
            offset: Bytes(start),
            length: Bytes(end - start),
        }
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.offset.0, self.end().0)
    }
}
