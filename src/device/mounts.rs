//! Every mounted filesystem once, and the devices it consists of. It opens nothing that is mounted.

use super::filesystem::{Direct, Filesystem, Mount};
use super::host::Host;
use super::journal::{JournalPlace, Journals};
use super::kind::DeviceKind;
use super::mountinfo::{self, MountEntry, OwnMounts};
use super::stacking::{Anonymous, Stacking, anonymous};
use super::topology::Topology;
use crate::error::Result;
use crate::model::{Bytes, DevNumber, Extent};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// The mounted filesystems that are on block devices, in mount order.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    filesystems: Vec<Filesystem>,
    pub(super) stacking: Stacking,
    /// Everything mounted in our own namespace.
    pub(super) own: OwnMounts,
}

impl Mounts {
    /// Looks at every mount namespace.
    ///
    /// # Errors
    /// When `/proc` cannot be read, or there is more than can be looked at.
    pub fn read(host: &Host, topology: &Topology) -> Result<Self> {
        let scan = MountScan {
            host,
            topology,
            journals: Journals::find(host, topology),
        };
        let mut found: Vec<Filesystem> = Vec::new();
        let mut places: HashMap<DevNumber, Option<usize>> = HashMap::new();
        let mut own = None;
        let wanted = anonymous(topology);
        let mut apart = Anonymous::new();
        mountinfo::each(host, |namespace| {
            for entry in &namespace.entries {
                if wanted.contains(&entry.dev) && !apart.contains_key(&entry.dev) {
                    apart.insert(entry.dev, entry.clone());
                }
                let place = *places.entry(entry.dev).or_insert_with(|| {
                    found.push(scan.filesystem(entry)?);
                    Some(found.len() - 1)
                });
                if let Some(filesystem) = place.and_then(|place| found.get_mut(place)) {
                    filesystem.mounts.push(mount(namespace.pid, entry));
                }
            }
            own.get_or_insert(namespace.entries);
        })?;
        let own = OwnMounts::new(own.unwrap_or_default());
        let stacking = Stacking::new(topology, &found, &own, &apart);
        for filesystem in &mut found {
            filesystem.disks = stacking.disks(topology, &filesystem.members);
            filesystem.below = stacking.below(topology, &filesystem.members);
            filesystem.depth = stacking.depth(topology, &filesystem.members);
        }
        Ok(Self {
            filesystems: found,
            stacking,
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

fn mount(pid: Option<u32>, entry: &MountEntry) -> Mount {
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

/// What is needed to find the devices that a filesystem consists of.
struct MountScan<'a> {
    host: &'a Host,
    topology: &'a Topology,
    journals: Journals,
}

impl MountScan<'_> {
    /// The filesystem of that mount, without its mounts; `None` when it is not on block devices.
    fn filesystem(&self, entry: &MountEntry) -> Option<Filesystem> {
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
    fn members(&self, entry: &MountEntry) -> Option<Members> {
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
    fn members_of_one(&self, entry: &MountEntry) -> Members {
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
            JournalPlace::Within => {}
            JournalPlace::On(device) if members.devices.contains(&device) => {}
            JournalPlace::On(device) => members.devices.push(device),
            JournalPlace::Unknown => members.known = false,
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
        DeviceKind::Partition => {
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
