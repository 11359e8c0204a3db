//! The second witness of free space: the superblock as it stands on the disk, read past all
//! caches, against the mounted filesystem as the kernel's memory has it. It only reads.

use super::super::head::head_on_disk;
use crate::model::{Bytes, Extent};
use crate::sys::fsinfo::{counts, xfs_geometry};
use std::fs::File;
use std::io;
use std::path::Path;

/// A superblock of those types that are asked for free space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Bytes of the filesystem.
    pub size: Bytes,
    /// ext4: it has noted errors (`EXT4_ERROR_FS` in `s_state`), and was not checked since.
    pub errors: bool,
    /// Whether it is an xfs.
    pub xfs: bool,
}

impl Superblock {
    /// Reads it from the disk at that path, of which the filesystem is believed to begin at
    /// `place`. `None`: none stands there.
    pub(super) fn read(disk: &Path, place: Extent) -> io::Result<Option<Self>> {
        Ok(parse(&head_on_disk(disk, place)?))
    }

    /// Why this is not the superblock of the filesystem that `root` is on; `None`: it is.
    pub(super) fn differs(&self, root: &File) -> io::Result<Option<String>> {
        let same = if self.xfs {
            let memory = xfs_geometry(root)?;
            let size = u64::from(memory.block_size).saturating_mul(memory.data_blocks);
            // Growing reaches the disk's superblock later than memory.
            memory.uuid == self.uuid && self.size.0 <= size
        } else {
            let half = |at: usize| {
                let bytes = self.uuid.get(at..at + 8)?;
                Some(u64::from_le_bytes(bytes.try_into().ok()?))
            };
            let both = half(0).unwrap_or(0) ^ half(8).unwrap_or(0);
            counts(root)?.fsid == [both as u32, (both >> 32) as u32]
        };
        Ok((!same).then(|| "the superblock on the disk is of another filesystem".into()))
    }
}

fn parse(head: &[u8]) -> Option<Superblock> {
    ext(head).or_else(|| xfs(head))
}

/// `struct ext4_super_block` (`fs/ext4/ext4.h`), 1024 bytes from the start, little-endian.
fn ext(head: &[u8]) -> Option<Superblock> {
    let at = |at: usize| head.get(1024 + at..1024 + at + 4);
    let le32 = |offset: usize| Some(u32::from_le_bytes(at(offset)?.try_into().ok()?));
    let le16 = |offset: usize| Some(le32(offset)? & 0xffff);
    if le16(0x38)? != 0xef53 {
        return None;
    }
    let wide = le32(0x60)? & 0x80 != 0;
    let high = if wide { le32(0x150)? } else { 0 };
    let blocks = u64::from(le32(0x4)?) | u64::from(high) << 32;
    let unit = 1024_u64
        .checked_shl(le32(0x18)?)
        .filter(|_| le32(0x18) < Some(7))?;
    Some(Superblock {
        uuid: head.get(1024 + 0x68..1024 + 0x78)?.try_into().ok()?,
        size: Bytes(blocks.checked_mul(unit)?),
        errors: le16(0x3a)? & 0x2 != 0,
        xfs: false,
    })
}

/// `struct xfs_dsb` (`fs/xfs/libxfs/xfs_format.h`), big-endian.
fn xfs(head: &[u8]) -> Option<Superblock> {
    if head.get(..4)? != b"XFSB" {
        return None;
    }
    let unit = u32::from_be_bytes(head.get(4..8)?.try_into().ok()?);
    let blocks = u64::from_be_bytes(head.get(8..16)?.try_into().ok()?);
    Some(Superblock {
        uuid: head.get(32..48)?.try_into().ok()?,
        size: Bytes(blocks.checked_mul(u64::from(unit))?),
        errors: false,
        xfs: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ext_superblock_tells_size_uuid_and_errors() {
        let mut head = vec![0; 64 * 1024];
        assert_eq!(parse(&head), None);
        let mut put = |at: usize, bytes: &[u8]| {
            head[1024 + at..1024 + at + bytes.len()].copy_from_slice(bytes);
        };
        put(0x38, &[0x53, 0xef, 0x03, 0x00]);
        put(0x4, &100_u32.to_le_bytes());
        put(0x18, &2_u32.to_le_bytes());
        put(0x60, &0x80_u32.to_le_bytes());
        put(0x150, &1_u32.to_le_bytes());
        put(0x68, &[7; 16]);
        let found = parse(&head).unwrap();
        assert_eq!(found.size, Bytes(((1 << 32) + 100) * 4096));
        assert_eq!((found.uuid, found.errors), ([7; 16], true));
        head[1024 + 0x18] = 60;
        assert_eq!(parse(&head), None, "no block is as large");
    }

    #[test]
    fn an_xfs_superblock_tells_size_and_uuid() {
        let mut head = vec![0; 64 * 1024];
        head[..4].copy_from_slice(b"XFSB");
        head[4..8].copy_from_slice(&4096_u32.to_be_bytes());
        head[8..16].copy_from_slice(&1000_u64.to_be_bytes());
        head[32..48].copy_from_slice(&[9; 16]);
        let found = parse(&head).unwrap();
        assert_eq!((found.size, found.uuid), (Bytes(4_096_000), [9; 16]));
        assert!(found.xfs);
    }
}
