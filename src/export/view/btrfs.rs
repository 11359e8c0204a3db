//! Another name for a btrfs. The kernel takes two devices with the same filesystem's UUID for one
//! filesystem, so the original could not be mounted beside its snapshot, or the other way round.
//! The format has room for that: the UUID that is shown, and the one that its blocks bear. Only the
//! copy in memory is changed.

use super::checksum::crc32c;
use crate::error::{Error, ErrorKind, Result};

/// Where the superblock is.
pub(super) const SUPERBLOCK: u64 = 0x1_0000;
/// How long it is.
pub(super) const LENGTH: usize = 4096;

/// Offsets in `struct btrfs_super_block`, `include/uapi/linux/btrfs_tree.h`.
const FSID: usize = 0x20;
const BYTENR: usize = 0x30;
const MAGIC: usize = 0x40;
const NUM_DEVICES: usize = 0x88;
const INCOMPAT: usize = 0xbc;
const CSUM_TYPE: usize = 0xc4;
const METADATA_UUID: usize = 0x23b;
/// `BTRFS_FEATURE_INCOMPAT_METADATA_UUID`.
const HAS_METADATA_UUID: u64 = 1 << 10;
/// `BTRFS_CSUM_TYPE_CRC32`.
const CRC32C: u16 = 0;

/// A superblock's bytes.
pub(super) struct BtrfsSuperblock(Vec<u8>);

impl BtrfsSuperblock {
    /// Takes what stands at [`SUPERBLOCK`].
    ///
    /// # Errors
    /// `Unsupported`: it is none that can be given another name, and why.
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self> {
        let block = Self(bytes);
        let refused = |why: &str| {
            let what = format!("this btrfs cannot be shown beside its original: {why}");
            Err(Error::new(ErrorKind::Unsupported, what))
        };
        if block.0.len() != LENGTH || block.bytes(MAGIC, 8) != b"_BHRfS_M" {
            return refused("its superblock has no magic number");
        }
        if block.number(BYTENR) != SUPERBLOCK {
            return refused("its superblock says that it stands elsewhere");
        }
        if u16::from_le_bytes([block.byte(CSUM_TYPE), block.byte(CSUM_TYPE + 1)]) != CRC32C {
            return refused("its checksums are not CRC-32C");
        }
        if block.bytes(0, 4) != block.sum() {
            return refused("its superblock is damaged");
        }
        Ok(block)
    }

    /// How many devices the filesystem has.
    pub(super) fn devices(&self) -> u64 {
        self.number(NUM_DEVICES)
    }

    /// The superblock of the same filesystem under another UUID.
    pub(super) fn renamed(mut self, name: [u8; 16]) -> Vec<u8> {
        let flags = self.number(INCOMPAT);
        if flags & HAS_METADATA_UUID == 0 {
            let own = self.bytes(FSID, 16).to_vec();
            self.put(METADATA_UUID, &own);
            self.put(INCOMPAT, &(flags | HAS_METADATA_UUID).to_le_bytes());
        }
        self.put(FSID, &name);
        let sum = self.sum();
        self.put(0, &sum);
        self.0
    }

    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        self.0.get(at..at + length).unwrap_or_default()
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or_default()
    }

    fn number(&self, at: usize) -> u64 {
        self.bytes(at, 8).try_into().map_or(0, u64::from_le_bytes)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn sum(&self) -> [u8; 4] {
        crc32c(self.0.get(FSID..).unwrap_or_default()).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Vec<u8> {
        let mut bytes = vec![7; LENGTH];
        bytes[MAGIC..MAGIC + 8].copy_from_slice(b"_BHRfS_M");
        bytes[BYTENR..BYTENR + 8].copy_from_slice(&SUPERBLOCK.to_le_bytes());
        bytes[INCOMPAT..INCOMPAT + 8].copy_from_slice(&0x341_u64.to_le_bytes());
        bytes[CSUM_TYPE..CSUM_TYPE + 2].fill(0);
        let sum = crc32c(&bytes[FSID..]).to_le_bytes();
        bytes[..4].copy_from_slice(&sum);
        bytes
    }

    #[test]
    fn its_blocks_keep_their_name_however_often_it_gets_another() {
        let once = BtrfsSuperblock::new(block()).unwrap().renamed([1; 16]);
        let twice = BtrfsSuperblock::new(once).unwrap().renamed([2; 16]);
        assert_eq!(twice[FSID..FSID + 16], [2; 16]);
        assert_eq!(twice[METADATA_UUID..METADATA_UUID + 16], [7; 16]);
        assert_eq!(twice[INCOMPAT..INCOMPAT + 2], [0x41, 0x07]);
        let again = BtrfsSuperblock::new(twice).unwrap();
        assert_eq!(again.devices(), 0x0707_0707_0707_0707);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for at in [0, FSID, MAGIC, BYTENR, CSUM_TYPE] {
            let mut bytes = block();
            bytes[at] ^= 1;
            assert!(BtrfsSuperblock::new(bytes).is_err(), "{at}");
        }
        assert!(BtrfsSuperblock::new(vec![0; 100]).is_err());
    }
}
