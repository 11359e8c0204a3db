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
        let of = |disk: &Self| {
            let DiskIdentity {
                dev,
                size,
                diskseq,
                serial,
                wwn,
                ..
            } = disk.identity.clone();
            (dev, size, diskseq, serial, wwn)
        };
        of(self) == of(other)
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
