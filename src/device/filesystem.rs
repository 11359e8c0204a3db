//! Every mounted filesystem once, and the disks it lives on. It opens nothing that is mounted.

use super::host::Host;
use super::lineage::Lineage;
use super::mountinfo::{self, Entry, Namespace};
use super::topology::{Kind, Topology};
use crate::error::Result;
use crate::model::{Bytes, DevNumber, Extent};
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

/// A mounted filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Filesystem {
    /// What was mounted, in the words of whoever mounted it.
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

/// The mounted filesystems that are on block devices, in mount order.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    filesystems: Vec<Filesystem>,
    pub(super) lineage: Lineage,
    /// Everything mounted in our own namespace.
    pub(super) own: Vec<Entry>,
}

impl Mounts {
    /// Looks at every mount namespace.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or there are too many namespaces.
    pub fn read(host: &Host, topology: &Topology) -> Result<Self> {
        let namespaces = mountinfo::read(host)?;
        let nodev = without_device(host);
        let mut found: Vec<Filesystem> = Vec::new();
        for namespace in &namespaces {
            for entry in &namespace.entries {
                let mount = mount(namespace, entry);
                let known = found.iter_mut().find(|other| other.dev == entry.dev);
                if let Some(filesystem) = known {
                    filesystem.mounts.push(mount);
                } else if let Some(members) = members(host, topology, &nodev, entry) {
                    found.push(filesystem(topology, entry, mount, members));
                }
            }
        }
        let own = namespaces.into_iter().next();
        let own = own.map_or(Vec::new(), |own| own.entries);
        let lineage = Lineage::new(topology, &found, &own);
        for filesystem in &mut found {
            filesystem.disks = lineage.disks(topology, &filesystem.members);
            filesystem.below = lineage.below(topology, &filesystem.members);
            filesystem.depth = lineage.depth(topology, &filesystem.members);
        }
        Ok(Self {
            filesystems: found,
            lineage,
            own,
        })
    }

    /// The filesystems, in mount order, those of other namespaces last.
    pub fn filesystems(&self) -> &[Filesystem] {
        &self.filesystems
    }

    /// The filesystem whose superblock has that device.
    pub fn filesystem(&self, dev: DevNumber) -> Option<&Filesystem> {
        self.filesystems
            .iter()
            .find(|filesystem| filesystem.dev == dev)
    }
}

fn mount(namespace: &Namespace, entry: &Entry) -> Mount {
    Mount {
        target: entry.target.clone(),
        pid: namespace.pid,
        root: entry.root.clone(),
        visible: entry.visible,
    }
}

/// The types that need no block device, as the kernel lists them.
fn without_device(host: &Host) -> BTreeSet<String> {
    let table = Host::text(&host.proc.join("filesystems")).unwrap_or_default();
    table
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("nodev")?.trim().to_owned()))
        .collect()
}

struct Members {
    devices: Vec<DevNumber>,
    known: bool,
}

/// The devices that a filesystem consists of; `None` when it is not on block devices.
fn members(
    host: &Host,
    topology: &Topology,
    nodev: &BTreeSet<String>,
    entry: &Entry,
) -> Option<Members> {
    if entry.dev.major != 0 {
        let mut devices = vec![entry.dev];
        let logs = ["logdev", "rtdev", "journal_path"];
        let logs = logs.iter().filter_map(|name| entry.option(name));
        let mut known = true;
        for log in logs {
            match topology.node_through_links(host, Path::new(log)) {
                Some(device) => devices.push(device.dev),
                None => known = false,
            }
        }
        return Some(Members { devices, known });
    }
    match entry.fstype.as_str() {
        "btrfs" => Some(btrfs_members(host, topology, &entry.source)),
        // A pool's devices are known to ZFS alone.
        "zfs" => Some(Members {
            devices: Vec::new(),
            known: false,
        }),
        fuse if fuse == "fuse" || fuse.starts_with("fuse.") => {
            named_members(host, topology, &entry.source).filter(|members| members.known)
        }
        other if nodev.contains(other) => None,
        // bcachefs, and what may come: `/dev/sda:/dev/sdb`.
        _ => named_members(host, topology, &entry.source),
    }
}

fn named_members(host: &Host, topology: &Topology, source: &str) -> Option<Members> {
    if !source.starts_with("/dev/") {
        return None;
    }
    let named = source
        .split(':')
        .map(|path| topology.node_through_links(host, Path::new(path)));
    let devices: Option<Vec<DevNumber>> = named.map(|device| Some(device?.dev)).collect();
    Some(Members {
        known: devices.is_some(),
        devices: devices.unwrap_or_default(),
    })
}

/// The members of the btrfs one of whose devices was mounted: `/sys/fs/btrfs/UUID/devices`.
fn btrfs_members(host: &Host, topology: &Topology, source: &str) -> Members {
    let all = host.sys.join("fs/btrfs");
    let mounted = topology.node_through_links(host, Path::new(source));
    let mounted = mounted.map(|device| device.dev);
    for uuid in Host::names_if_any(&all) {
        let names = Host::names_if_any(&all.join(uuid).join("devices"));
        let devices: Vec<Option<DevNumber>> = names
            .iter()
            .map(|name| Some(topology.named(name)?.dev))
            .collect();
        if mounted.is_some() && devices.contains(&mounted) {
            return Members {
                known: devices.iter().all(Option::is_some),
                devices: devices.into_iter().flatten().collect(),
            };
        }
    }
    Members {
        devices: mounted.into_iter().collect(),
        known: false,
    }
}

fn filesystem(topology: &Topology, entry: &Entry, mount: Mount, members: Members) -> Filesystem {
    Filesystem {
        source: entry.source.clone(),
        fstype: entry.fstype.clone(),
        dev: entry.dev,
        read_only: entry.read_only(),
        mounts: vec![mount],
        direct: direct(topology, &members),
        members: members.devices,
        members_known: members.known,
        disks: BTreeSet::new(),
        below: BTreeSet::new(),
        depth: 0,
    }
}

fn direct(topology: &Topology, members: &Members) -> Option<Direct> {
    let [only] = members.devices.as_slice() else {
        return None;
    };
    let device = topology.device(*only).filter(|_| members.known)?;
    match device.kind {
        Kind::Partition => {
            let disk = *device.parents.first()?;
            let place = device.place?;
            topology.disk(disk).map(|_| Direct { disk, place })
        }
        kind if kind.is_disk() => Some(Direct {
            disk: device.dev,
            place: Extent::new(Bytes(0), device.size),
        }),
        _ => None,
    }
}
