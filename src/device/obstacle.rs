//! Why the changes of a disk cannot be tracked, and what to do about it: one table for the tracker,
//! for the choice of disks, and for `doctor`.

use serde::Serialize;

/// What keeps a disk's changes from being tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskObstacle {
    /// It is no whole disk.
    Partition,
    /// The one device in front of several NVMe paths.
    NvmeHead,
    /// Its driver completes no requests, only bios.
    NoRequests,
    /// The kernel keeps no statistics of it (`queue/iostats`).
    Uncounted,
    /// SMR or ZNS.
    Zoned,
}

impl DiskObstacle {
    /// What it is, in words that go on after the disk's name.
    pub fn why(self) -> &'static str {
        match self {
            Self::Partition => "it is a partition",
            Self::NvmeHead => {
                "it is the head of an NVMe multipath, whose requests complete on paths that are \
                 hidden"
            }
            Self::NoRequests => {
                "its driver completes no requests that could be seen (device-mapper, md, zram, \
                 pmem)"
            }
            Self::Uncounted => {
                "the kernel does not count what is written to it, and could not tell lost marks"
            }
            Self::Zoned => "it is a zoned disk, whose requests do not say what they change",
        }
    }

    /// What to do about it on the disk with that name in sysfs.
    pub fn remedy(self, name: &str) -> String {
        match self {
            Self::Partition => "track the whole disk it lies on".into(),
            Self::NvmeHead => {
                "boot with nvme_core.multipath=N on the kernel's command line, unless several \
                 paths lead to it"
                    .into()
            }
            Self::NoRequests => {
                "of LVM, RAID and encryption, name the disks they lie on; of the others no \
                 snapshot can be taken"
                    .into()
            }
            Self::Uncounted => format!("echo 1 > /sys/block/{name}/queue/iostats"),
            Self::Zoned => "leave it out: this version cannot take a snapshot of it".into(),
        }
    }

    /// Why `--all` leaves such a disk out. `None` where a command mends it, so that the run is
    /// refused with [`Self::remedy`] and no disk goes without a snapshot unnoticed.
    pub fn left_out(self) -> Option<&'static str> {
        match self {
            Self::NvmeHead => {
                Some("the head of an NVMe multipath; it can be with nvme_core.multipath=N at boot")
            }
            Self::Partition | Self::NoRequests | Self::Zoned => {
                Some("its changes cannot be tracked")
            }
            Self::Uncounted => None,
        }
    }
}
