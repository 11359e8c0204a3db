//! Every mounted filesystem once, and the disks it lives on. It opens nothing that is mounted.

use super::host::Host;
use super::journal::{Journal, Journals};
use super::lineage::Lineage;
use super::mountinfo::{self, Entry, OwnMounts};
use super::topology::{Kind, Topology};
use crate::error::Result;
use crate::model::{Bytes, DevNumber, Extent};
use serde::{Serialize, Serializer};
use std::collections::{BTreeSet, HashMap};
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

/// The mounted filesystems that are on block devices, in mount order.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    filesystems: Vec<Filesystem>,
    pub(super) lineage: Lineage,
    /// Everything mounted in our own namespace.
    pub(super) own: OwnMounts,
}

impl Mounts {
    /// Looks at every mount namespace.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or there is more than can be looked at.
    pub fn read(host: &Host, topology: &Topology) -> Result<Self> {
        let look = Look {
            host,
            topology,
            journals: Journals::find(host, topology),
        };
        let mut found: Vec<Filesystem> = Vec::new();
        let mut places: HashMap<DevNumber, Option<usize>> = HashMap::new();
        let mut own = None;
        mountinfo::each(host, |namespace| {
            for entry in &namespace.entries {
                let place = *places.entry(entry.dev).or_insert_with(|| {
                    found.push(look.filesystem(entry)?);
                    Some(found.len() - 1)
                });
                if let Some(filesystem) = place.and_then(|place| found.get_mut(place)) {
                    filesystem.mounts.push(mount(namespace.pid, entry));
                }
            }
            own.get_or_insert(namespace.entries);
        })?;
        let own = OwnMounts::new(own.unwrap_or_default());
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

fn mount(pid: Option<u32>, entry: &Entry) -> Mount {
    Mount {
        target: entry.target.clone(),
        pid,
        root: entry.root.clone(),
        visible: entry.visible,
    }
}

struct Members {
    devices: Vec<DevNumber>,
    known: bool,
}

/// What is needed to tell what a filesystem consists of.
struct Look<'a> {
    host: &'a Host,
    topology: &'a Topology,
    journals: Journals,
}

impl Look<'_> {
    /// The filesystem of that mount, without its mounts; `None` when it is not on block devices.
    fn filesystem(&self, entry: &Entry) -> Option<Filesystem> {
        let members = self.members(entry)?;
        Some(Filesystem {
            source: entry.source.clone(),
            fstype: entry.fstype.clone(),
            dev: entry.dev,
            read_only: entry.read_only(),
            mounts: Vec::new(),
            direct: direct(self.topology, &members),
            members: members.devices,
            members_known: members.known,
            disks: BTreeSet::new(),
            below: BTreeSet::new(),
            depth: 0,
        })
    }

    /// The devices that a filesystem consists of; `None` when it is not on block devices.
    ///
    /// The source that a mount table shows is whatever the one who mounted wrote, and any user can
    /// mount something (FUSE, overlay, tmpfs, binds) that he calls `/dev/vda`. It counts for the
    /// types alone whose driver writes it (`show_devname` in their `super_operations`), and which
    /// only root can mount.
    fn members(&self, entry: &Entry) -> Option<Members> {
        if entry.dev.major != 0 {
            return Some(self.members_of_one(entry));
        }
        match entry.fstype.as_str() {
            // `btrfs_show_devname`: one of its devices.
            "btrfs" => Some(self.btrfs_members(&entry.source)),
            // A pool's devices are known to ZFS alone.
            "zfs" => Some(Members {
                devices: Vec::new(),
                known: false,
            }),
            // `bch2_show_devname`: all of them, `/dev/sda:/dev/sdb`.
            "bcachefs" => self.named_members(&entry.source),
            _ => None,
        }
    }

    /// Those of a filesystem on one device, and what it has put apart.
    fn members_of_one(&self, entry: &Entry) -> Members {
        let mut members = Members {
            devices: vec![entry.dev],
            known: true,
        };
        let logs = ["logdev", "rtdev", "journal_path"];
        for log in logs.iter().filter_map(|name| entry.option(name)) {
            match self.node(Path::new(&log)) {
                Some(device) => members.devices.push(device),
                None => members.known = false,
            }
        }
        match self.journals.of(self.host, self.topology, entry) {
            Journal::Within => {}
            Journal::On(device) if members.devices.contains(&device) => {}
            Journal::On(device) => members.devices.push(device),
            Journal::Unknown => members.known = false,
        }
        members
    }

    fn node(&self, path: &Path) -> Option<DevNumber> {
        let device = self.topology.node_through_links(self.host, path)?;
        Some(device.dev)
    }

    fn named_members(&self, source: &str) -> Option<Members> {
        if !source.starts_with("/dev/") {
            return None;
        }
        let named = source.split(':').map(|path| self.node(Path::new(path)));
        let devices: Option<Vec<DevNumber>> = named.collect();
        Some(Members {
            known: devices.is_some(),
            devices: devices.unwrap_or_default(),
        })
    }

    /// The members of the btrfs one of whose devices was mounted: `/sys/fs/btrfs/UUID/devices`.
    fn btrfs_members(&self, source: &str) -> Members {
        let all = self.host.sys.join("fs/btrfs");
        let mounted = self.node(Path::new(source));
        for uuid in Host::names_if_any(&all) {
            let names = Host::names_if_any(&all.join(uuid).join("devices"));
            let devices: Vec<Option<DevNumber>> = names
                .iter()
                .map(|name| Some(self.topology.named(name)?.dev))
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
