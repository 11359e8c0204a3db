//! The first bytes of a disk, kept in memory until all the rest has been written to the target.

use super::target::{Target, each_at};
use crate::error::Result;
use crate::model::{Bytes, Extent};
use crate::sys::locked::{LockExt, LockResultExt};
use std::sync::Mutex;

/// How much is kept: what makes a disk bootable or known, from the partition table to the first
/// blocks of a filesystem and a boot loader before the first partition.
pub const HEAD: u64 = 1 << 20;

/// The first MiB of a disk. What is written behind it is not kept.
pub struct StagedHead {
    bytes: Mutex<Vec<u8>>,
}

impl StagedHead {
    /// Zeros, of a disk of `size`.
    pub fn new(size: Bytes) -> Self {
        // At most a MiB.
        let bytes = vec![0; size.0.min(HEAD) as usize];
        Self {
            bytes: Mutex::new(bytes),
        }
    }

    /// Keeps the part that is within the first MiB, and returns the rest.
    pub fn keep<'b>(&self, offset: Bytes, bytes: &'b [u8]) -> &'b [u8] {
        let mut head = self.bytes.locked();
        let at = usize::try_from(offset.0).unwrap_or(usize::MAX);
        let Some(place) = head.get_mut(at..) else {
            return bytes;
        };
        let (kept, rest) = bytes.split_at(place.len().min(bytes.len()));
        place[..kept.len()].copy_from_slice(kept);
        rest
    }

    /// The same for zeros.
    pub fn keep_zeros(&self, extent: Extent) -> Extent {
        let mut head = self.bytes.locked();
        let length = head.len() as u64;
        let (start, end) = (extent.offset.0.min(length), extent.end().0.min(length));
        head[start as usize..end as usize].fill(0);
        let kept = end - start;
        Extent::new(Bytes(extent.offset.0 + kept), Bytes(extent.length.0 - kept))
    }

    /// What was kept.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into_inner().unpoisoned()
    }
}

/// As a target of its own it shows the beginning of a disk before anything is written anywhere.
impl Target for StagedHead {
    fn write(&self, offset: Bytes, blocks: &[&[u8]]) -> Result<()> {
        each_at(offset, blocks, |at, bytes| {
            self.keep(at, bytes);
            Ok(())
        })
    }

    fn hole(&self, extent: Extent) -> Result<()> {
        self.keep_zeros(extent);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crosses_the_edge_is_divided() {
        let head = StagedHead::new(Bytes(2 << 20));
        let rest = head.keep(Bytes(HEAD - 3), &[1, 2, 3, 4, 5]);
        assert_eq!(rest, [4, 5]);
        assert_eq!(head.keep(Bytes(HEAD), &[6]), [6]);
        let rest = head.keep_zeros(Extent::new(Bytes(HEAD - 1), Bytes(100)));
        assert_eq!(rest, Extent::new(Bytes(HEAD), Bytes(99)));
        let far = Extent::new(Bytes(3 << 20), Bytes(5));
        assert_eq!(head.keep_zeros(far), far);
        let bytes = head.into_bytes();
        assert_eq!(bytes[HEAD as usize - 4..], [0, 1, 2, 0]);
        assert_eq!(StagedHead::new(Bytes(512)).into_bytes().len(), 512);
    }
}
