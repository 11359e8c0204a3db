//! What a superblock of ext2 to ext4 would have the kernel open, and how it is kept from it. It may
//! name another device for the log, or mount options that do: a device of this host, which the
//! kernel would write to, whoever's it is by now. Only the copy in memory is changed.

use super::checksum::crc32c;
use crate::error::{Error, ErrorKind, Result};

/// Where the superblock is.
pub(super) const SUPERBLOCK: u64 = 1024;
/// How long it is.
pub(super) const LENGTH: usize = 1024;

/// Offsets in `struct ext4_super_block`, `fs/ext4/ext4.h`.
const MAGIC: usize = 0x38;
const COMPAT: usize = 0x5c;
const INCOMPAT: usize = 0x60;
const RO_COMPAT: usize = 0x64;
const JOURNAL_INODE: usize = 0xe0;
const JOURNAL_DEVICE: usize = 0xe4;
const MOUNT_OPTIONS: usize = 0x200;
const MOUNT_OPTIONS_LENGTH: usize = 64;
const SUM: usize = 0x3fc;
/// `EXT4_FEATURE_COMPAT_HAS_JOURNAL`.
const HAS_JOURNAL: u32 = 0x4;
/// `EXT4_FEATURE_INCOMPAT_RECOVER`: the log has what is not in its place.
const RECOVER: u32 = 0x4;
/// `EXT4_FEATURE_INCOMPAT_JOURNAL_DEV`: it is the log of another filesystem.
const IS_JOURNAL: u32 = 0x8;
/// `EXT4_FEATURE_RO_COMPAT_METADATA_CSUM`.
const HAS_SUM: u32 = 0x400;

/// A superblock's bytes.
pub(super) struct ExtNames(Vec<u8>);

/// Where a filesystem's log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogPlace {
    /// Within it, or nowhere.
    Within,
    /// On another device, with what is not in its place yet, or without.
    Elsewhere { needed: bool },
}

impl ExtNames {
    /// Takes what stands at [`SUPERBLOCK`].
    ///
    /// # Errors
    /// `Unsupported`: it is the superblock of a log. `Failed`: it is none, or damaged.
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self> {
        let block = Self(bytes);
        let refused = |kind, what: &str| Err(Error::new(kind, what));
        if block.0.len() != LENGTH || block.bytes(MAGIC, 2) != [0x53, 0xef] {
            return refused(
                ErrorKind::Failed,
                "it has no superblock of ext2, ext3 or ext4",
            );
        }
        if block.number(INCOMPAT) & IS_JOURNAL != 0 {
            let what = "it is the log of a filesystem on another device";
            return refused(ErrorKind::Unsupported, what);
        }
        if block.has_sum() && block.number(SUM) != block.sum() {
            return refused(ErrorKind::Failed, "its superblock is damaged");
        }
        Ok(block)
    }

    /// Where its log is.
    pub(super) fn log(&self) -> LogPlace {
        let has_log = self.number(COMPAT) & HAS_JOURNAL != 0;
        match has_log && self.number(JOURNAL_INODE) == 0 {
            true => LogPlace::Elsewhere {
                needed: self.number(INCOMPAT) & RECOVER != 0,
            },
            false => LogPlace::Within,
        }
    }

    /// The same superblock, naming no device and no options; none where it has none.
    pub(super) fn without_names(mut self) -> Option<Vec<u8>> {
        let named = [(JOURNAL_DEVICE, 4), (MOUNT_OPTIONS, MOUNT_OPTIONS_LENGTH)];
        let before = self.0.clone();
        for (at, length) in named {
            self.0.get_mut(at..at + length)?.fill(0);
        }
        if self.0 == before {
            return None;
        }
        if self.has_sum() {
            let sum = self.sum().to_le_bytes();
            self.0.get_mut(SUM..)?.copy_from_slice(&sum);
        }
        Some(self.0)
    }

    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        self.0.get(at..at + length).unwrap_or_default()
    }

    fn number(&self, at: usize) -> u32 {
        self.bytes(at, 4).try_into().map_or(0, u32::from_le_bytes)
    }

    fn has_sum(&self) -> bool {
        self.number(RO_COMPAT) & HAS_SUM != 0
    }

    fn sum(&self) -> u32 {
        // The kernel does not turn the bits over at the end.
        !crc32c(self.bytes(0, SUM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(ro_compat: u32) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        bytes[MAGIC..MAGIC + 2].copy_from_slice(&[0x53, 0xef]);
        bytes[COMPAT] = HAS_JOURNAL as u8;
        bytes[JOURNAL_INODE] = 8;
        bytes[RO_COMPAT..RO_COMPAT + 4].copy_from_slice(&ro_compat.to_le_bytes());
        let sum = ExtNames(bytes.clone()).sum();
        bytes[SUM..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn with(at: usize, byte: u8) -> Vec<u8> {
        let mut bytes = block(0);
        bytes[at] = byte;
        bytes
    }

    #[test]
    fn a_log_elsewhere_is_known() {
        let log = |bytes| ExtNames::new(bytes).unwrap().log();
        assert_eq!(log(block(0)), LogPlace::Within);
        let mut elsewhere = with(JOURNAL_INODE, 0);
        assert_eq!(
            log(elsewhere.clone()),
            LogPlace::Elsewhere { needed: false }
        );
        elsewhere[INCOMPAT] = RECOVER as u8;
        assert_eq!(log(elsewhere), LogPlace::Elsewhere { needed: true });
        let mut none = with(JOURNAL_INODE, 0);
        none[COMPAT] = 0;
        assert_eq!(log(none), LogPlace::Within);
    }

    #[test]
    fn no_device_and_no_option_stays() {
        let without = |bytes| ExtNames::new(bytes).unwrap().without_names();
        assert_eq!(without(block(HAS_SUM)), None);
        for at in [
            JOURNAL_DEVICE,
            JOURNAL_DEVICE + 3,
            MOUNT_OPTIONS,
            MOUNT_OPTIONS + 63,
        ] {
            assert_eq!(without(with(at, 7)), Some(block(0)), "{at}");
        }
        let mut named = block(HAS_SUM);
        named[MOUNT_OPTIONS] = b'x';
        let sum = ExtNames(named.clone()).sum();
        named[SUM..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(without(named), Some(block(HAS_SUM)));
    }

    #[test]
    fn what_is_damaged_or_a_log_is_refused() {
        let mut damaged = block(HAS_SUM);
        damaged[MOUNT_OPTIONS] = 1;
        for bytes in [damaged, with(MAGIC, 0), with(INCOMPAT, 8), vec![0; 9]] {
            assert!(ExtNames::new(bytes).is_err());
        }
    }
}
