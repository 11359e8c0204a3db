//! A whole disk of which a snapshot can be made, and its partitions.

use super::kind::DeviceKind;
use super::obstacle::DiskObstacle;
use crate::model::{BlockSet, Bytes, DevNumber, DiskIdentity, Extent, block_count};
use serde::Serialize;
use std::path::PathBuf;

/// Why no snapshot is taken of a disk of 2^32 blocks or more, which no manifest can describe.
pub const TOO_LARGE: &str = "disks from 256 TiB on are too large";

/// A whole disk of which a snapshot can be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// What distinguishes it from other disks.
    pub identity: DiskIdentity,
    /// [`DeviceKind::Disk`], [`DeviceKind::NvmeHead`] or [`DeviceKind::Loop`].
    pub kind: DeviceKind,
    /// Its node (`/dev/vda`).
    pub path: PathBuf,
    /// The model's name, for people.
    pub model: Option<String>,
    /// Whether it refuses writes.
    pub read_only: bool,
    /// Whether its medium can be taken out.
    pub removable: bool,
    /// Whether its I/O goes by requests whose completion can be watched (`mq` in sysfs).
    pub request_based: bool,
    /// Whether it is zoned (SMR, ZNS).
    pub zoned: bool,
    /// What keeps its changes from being tracked.
    pub obstacle: Option<DiskObstacle>,
    /// Its partitions that the kernel knows, by number.
    pub partitions: Vec<Partition>,
    /// What a loop device shows.
    pub backing_file: Option<PathBuf>,
    /// The hidden disks on which an NVMe multipath head's requests complete.
    pub nvme_paths: Vec<String>,
}

impl Disk {
    /// The whole disk's number.
    pub fn dev(&self) -> DevNumber {
        self.identity.dev
    }

    /// The kernel's name now.
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Whether it has more blocks than a manifest can describe: see [`TOO_LARGE`].
    pub fn is_too_large(&self) -> bool {
        block_count(self.identity.size) >= BlockSet::MAX_BLOCKS
    }

    /// Whether `other` is this very disk, and not one that has taken its number since.
    pub fn is_same(&self, other: &Self) -> bool {
        let (one, two) = (&self.identity, &other.identity);
        let numbers = |of: &DiskIdentity| (of.dev, of.size, of.diskseq);
        numbers(one) == numbers(two) && one.serial == two.serial && one.wwn == two.wwn
    }
}

/// A partition that the kernel knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Its name in sysfs.
    pub name: String,
    /// Its device number.
    pub dev: DevNumber,
    /// Its number in the table, from 1.
    pub number: u32,
    /// Where it starts on the disk.
    pub start: Bytes,
    /// Its size.
    pub size: Bytes,
}

impl Partition {
    /// Where it lies on its disk.
    pub fn place(&self) -> Extent {
        Extent::new(self.start, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        Disk {
            identity: DiskIdentity {
                name: "vda".into(),
                dev: DevNumber {
                    major: 8,
                    minor: 16,
                },
                size: Bytes(1 << 30),
                logical_block: 512,
                serial: Some("one".into()),
                wwn: None,
                diskseq: Some(7),
                table_id: Some("before".into()),
            },
            kind: DeviceKind::Disk,
            path: "/dev/vda".into(),
            model: None,
            read_only: false,
            removable: false,
            request_based: true,
            zoned: false,
            obstacle: None,
            partitions: Vec::new(),
            backing_file: None,
            nvme_paths: Vec::new(),
        }
    }

    #[test]
    fn a_disk_that_took_anothers_number_is_not_that_one() {
        // A new table makes no other disk of it.
        let mut now = disk();
        now.identity.table_id = None;
        assert!(now.is_same(&disk()));
        let changes: [fn(&mut DiskIdentity); 5] = [
            |of| {
                of.dev = DevNumber {
                    major: 8,
                    minor: 32,
                }
            },
            |of| of.size.0 += 512,
            |of| of.diskseq = Some(8),
            |of| of.serial = Some("two".into()),
            |of| of.wwn = Some("0x5".into()),
        ];
        for change in changes {
            let mut now = disk();
            change(&mut now.identity);
            assert!(!now.is_same(&disk()), "{:?}", now.identity);
        }
    }

    #[test]
    fn disks_from_256_tib_on_are_too_large() {
        for (size, too_large) in [
            ((1 << 48) - (2 << 16), false),
            ((1 << 48) - (1 << 16), false),
            ((1 << 48) - 512, true),
            (1 << 48, true),
            (1 << 49, true),
        ] {
            let mut disk = disk();
            disk.identity.size = Bytes(size);
            assert_eq!(disk.is_too_large(), too_large, "{size}");
        }
    }
}
