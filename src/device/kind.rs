//! The kinds of block devices, and of which of them a snapshot can be made.

use serde::Serialize;

/// What sort of block device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// A disk of its own: virtio, SCSI, NVMe, MMC, nbd, ...
    Disk,
    /// The one device in front of several NVMe paths; its requests complete on the paths.
    NvmeHead,
    /// A loop device, bound or not.
    Loop,
    /// A partition of any of these.
    Partition,
    /// A logical volume.
    Lvm,
    /// An opened LUKS or plain dm-crypt device.
    Crypt,
    /// A multipath device of the device mapper.
    Multipath,
    /// Another target of the device mapper.
    Mapper,
    /// A software RAID.
    Raid,
    /// Compressed memory.
    Zram,
    /// Plain memory (`brd`) or persistent memory: no requests, only bios.
    Memory,
    /// A CD or DVD drive.
    Optical,
    /// Another device that passes its I/O on to others (bcache, DRBD).
    Stacked,
}

impl DeviceKind {
    /// Whether a snapshot can be made of such a device.
    pub fn is_disk(self) -> bool {
        matches!(self, Self::Disk | Self::NvmeHead | Self::Loop)
    }

    /// What it is, for people.
    pub fn description(self) -> &'static str {
        match self {
            Self::Disk | Self::NvmeHead | Self::Loop => "an empty drive",
            Self::Partition => "a partition",
            Self::Lvm => "a logical volume",
            Self::Crypt => "an opened encrypted device",
            Self::Multipath => "a multipath device",
            Self::Raid => "a software RAID",
            Self::Zram => "compressed memory",
            Self::Memory => "memory, whose writes cannot be watched",
            Self::Optical => "a drive for discs",
            Self::Mapper | Self::Stacked => "a device on top of others",
        }
    }
}
