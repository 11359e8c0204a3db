//! Which filesystems must stand still for a snapshot of some disks, and in which order they are
//! stopped. It only decides; the freeze is done elsewhere.

use super::disk::Disk;
use super::filesystem::{Filesystem, OtherMount};
use super::layout::HostLayout;
use super::mounts::Mounts;
use super::opaque_use::OpaqueUse;
use super::topology::Topology;
use crate::model::DevNumber;
use serde::Serialize;
use std::collections::BTreeSet;

/// Whether a filesystem can be frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "freezable", content = "reason", rename_all = "snake_case")]
pub enum Freezable {
    /// It can, or is of a type not known here and worth a try.
    Yes,
    /// It is mounted read-only and needs nothing.
    ReadOnly,
    /// Its driver cannot: it counts as still only when no write to its disk is seen.
    No(String),
}

/// Types whose drivers have neither `freeze_fs` nor `freeze_super` among their
/// `super_operations`: `ioctl_fsfreeze` in `fs/ioctl.c` answers `EOPNOTSUPP`.
const CANNOT: &[&str] = &[
    "adfs", "affs", "bfs", "exfat", "fuse", "fuseblk", "hfs", "hfsplus", "hpfs", "minix", "msdos",
    "ntfs", "ntfs3", "omfs", "qnx4", "sysv", "udf", "ufs", "umsdos", "v7", "vfat", "zfs",
];

/// Types that are never written to.
const NEVER_WRITTEN: &[&str] = &[
    "cramfs", "erofs", "iso9660", "qnx6", "romfs", "squashfs", "efs",
];

/// Whether that filesystem can be frozen, as far as its type and options tell.
pub fn freezable(filesystem: &Filesystem) -> Freezable {
    let fstype = filesystem.fstype.as_str();
    if filesystem.read_only || NEVER_WRITTEN.contains(&fstype) {
        Freezable::ReadOnly
    } else if CANNOT.contains(&fstype) || fstype.starts_with("fuse.") {
        Freezable::No(format!("{fstype} cannot be frozen"))
    } else {
        Freezable::Yes
    }
}

/// The filesystems that a snapshot of some disks has to do with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FreezeSet {
    /// All that live on those disks, in the order to freeze them: what lies in a file of another
    /// comes before that other, later mounts before earlier ones. Thaw in reverse. Read-only ones
    /// and those that cannot be frozen are among them: see [`freezable`].
    pub filesystems: Vec<Filesystem>,
    /// Those of `filesystems`, by their devices, that also live on other disks, so that a snapshot
    /// of these disks alone does not have all of them.
    pub partly_outside: BTreeSet<DevNumber>,
    /// Mounted filesystems that may or may not be on those disks: their members could not be found
    /// out (ZFS, a btrfs whose device was renamed), or it lies in a file whose place could not be
    /// (in a container's overlay).
    pub undetermined: Vec<Filesystem>,
    /// What is in use on those disks by something that no mount table shows, as far as it was
    /// looked for: see [`HostLayout::opaque_uses`].
    pub opaque_uses: Vec<OpaqueUse>,
    /// What is mounted over places in those, or beside them, and is none of those.
    pub others: Vec<OtherMount>,
}

impl HostLayout {
    /// What must stand still for a snapshot of these disks.
    pub fn freeze_set(&self, disks: &[Disk]) -> FreezeSet {
        let devs: Vec<DevNumber> = disks.iter().map(Disk::dev).collect();
        filesystems_on(&self.topology, &self.mounts, &devs)
    }
}

/// The filesystems that live on the given whole disks.
pub fn filesystems_on(topology: &Topology, mounts: &Mounts, disks: &[DevNumber]) -> FreezeSet {
    let chosen: BTreeSet<DevNumber> = disks.iter().copied().collect();
    let mut set = FreezeSet::default();
    let mut here: Vec<(usize, &Filesystem)> = Vec::new();
    for (order, filesystem) in mounts.filesystems().iter().enumerate() {
        if !filesystem.disks.is_disjoint(&chosen) {
            here.push((order, filesystem));
        } else if !filesystem.members_known
            || !mounts.stacking.is_known(topology, &filesystem.members)
        {
            set.undetermined.push(filesystem.clone());
        }
    }
    here.sort_by_key(|(order, filesystem)| std::cmp::Reverse((filesystem.depth, *order)));
    for (_, filesystem) in here {
        let whole = filesystem.members_known
            && mounts
                .stacking
                .covered(topology, &filesystem.members, &chosen);
        if !whole {
            set.partly_outside.insert(filesystem.dev);
        }
        set.filesystems.push(filesystem.clone());
    }
    let these = set.filesystems.iter().map(|filesystem| filesystem.dev);
    set.others = mounts.own.others(&these.collect());
    set
}
