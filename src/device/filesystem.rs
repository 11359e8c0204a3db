//! A mounted filesystem, where it is mounted, and the disks it lives on.

use super::host::Host;
use crate::model::{DevNumber, Extent};
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One place where a filesystem is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Where, as seen by the processes of its namespace.
    #[serde(serialize_with = "as_text")]
    pub target: PathBuf,
    /// A process in its mount namespace; `None` when that is ours.
    pub pid: Option<u32>,
    /// Which folder of the filesystem is mounted: `/`, or that of a bind mount or subvolume.
    #[serde(serialize_with = "as_text")]
    pub root: PathBuf,
    /// Whether opening `target` ends in this mount, and not in one laid over it.
    pub visible: bool,
}

/// Where a filesystem lies on a disk that it lies on directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Direct {
    /// The whole disk.
    pub disk: DevNumber,
    /// Its partition there, or the whole disk.
    pub place: Extent,
}

/// A place over which something is mounted that is on none of the disks asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OtherMount {
    /// Where, as the processes of our own namespace see it.
    #[serde(serialize_with = "as_text")]
    pub target: PathBuf,
    /// Its type.
    pub fstype: String,
}

/// A mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// What was mounted, in the words of whoever mounted it: for people, and never what decides.
    pub source: String,
    /// `ext4`, `xfs`, `btrfs`, ...
    pub fstype: String,
    /// Its superblock's device. Equals `st_dev` of its files, except that those of btrfs have one
    /// for each subvolume.
    pub dev: DevNumber,
    /// Whether the filesystem as a whole is read-only.
    pub read_only: bool,
    /// Everywhere it is mounted; never empty.
    pub mounts: Vec<Mount>,
    /// The block devices it consists of, an external log among them.
    pub members: Vec<DevNumber>,
    /// Whether `members` is all of them. Where not, no one can say which disks it is on.
    pub members_known: bool,
    /// Every whole disk it rests on, through partitions, mapped devices, RAID, and loop devices
    /// together with what their files rest on.
    pub disks: BTreeSet<DevNumber>,
    /// Where it lies, when that is one disk or partition without anything between.
    pub direct: Option<Direct>,
    /// The filesystems on which files lie that its loop devices show.
    pub below: BTreeSet<DevNumber>,
    /// How many filesystems are stacked below it in that way, one on another.
    pub depth: usize,
}

impl Filesystem {
    /// Where to open it from here, best place first. Open with `O_DIRECTORY`: a bind mount can be
    /// of a file, even of a device's node. Empty when other mounts hide it everywhere.
    pub fn open_paths(&self, host: &Host) -> Vec<PathBuf> {
        let mut mounts: Vec<&Mount> = self.mounts.iter().filter(|mount| mount.visible).collect();
        mounts.sort_by_key(|mount| (mount.pid, mount.root != Path::new("/")));
        let path = |mount: &Mount| match mount.pid {
            None => mount.target.clone(),
            Some(pid) => {
                let inside = mount.target.strip_prefix("/").unwrap_or(&mount.target);
                host.proc.join(format!("{pid}/root")).join(inside)
            }
        };
        mounts.into_iter().map(path).collect()
    }

    /// The place to name it by, for people.
    pub fn target(&self) -> &Path {
        let ours = self.mounts.iter().find(|mount| mount.pid.is_none());
        ours.or(self.mounts.first())
            .map_or(Path::new(""), |mount| &mount.target)
    }
}

/// Text for output: a path that is not text is shown as well as it can be.
pub(super) fn as_text<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}
