//! What is stacked on what, also through loop devices: a loop device's file lies on a filesystem,
//! which lies on devices. The loop device names its file's filesystem by number. Where no table of
//! mounts has that number, names of mounts decide, so that nothing is opened; and where these lead
//! nowhere, it is not known what lies below.

use super::filesystem::Filesystem;
use super::kind::DeviceKind;
use super::mountinfo::{MountEntry, OwnMounts};
use super::topology::{Device, Topology};
use crate::model::DevNumber;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Deepest stack of loop devices on files on loop devices that is followed.
const DEPTH_LIMIT: usize = 64;

/// Which filesystem each loop device's file lies on, and which devices that one consists of.
#[derive(Clone, Debug, Default)]
pub(super) struct Stacking {
    files: BTreeMap<DevNumber, DevNumber>,
    members: BTreeMap<DevNumber, Vec<DevNumber>>,
    /// Loop devices whose files may lie on any disk.
    unplaced: BTreeSet<DevNumber>,
}

/// Mounts by their numbers, of filesystems without one block device.
pub(super) type Anonymous = BTreeMap<DevNumber, MountEntry>;

/// The numbers of such filesystems in which loop devices have their files.
pub(super) fn anonymous(topology: &Topology) -> BTreeSet<DevNumber> {
    let loops = topology.devices().filter_map(|device| device.loop_file);
    let devices = loops.map(|file| file.device);
    devices.filter(|dev| dev.major == 0).collect()
}

impl Stacking {
    /// `own` is our namespace's mounts, in which the kernel names the files; `apart` has those of
    /// all namespaces whose numbers are [`anonymous`].
    pub(super) fn new(
        topology: &Topology,
        found: &[Filesystem],
        own: &OwnMounts,
        apart: &Anonymous,
    ) -> Self {
        let mut members: BTreeMap<_, _> = found
            .iter()
            .map(|filesystem| (filesystem.dev, filesystem.members.clone()))
            .collect();
        let mut files = BTreeMap::new();
        let mut unplaced = BTreeSet::new();
        let loops = topology
            .devices()
            .filter(|device| device.kind == DeviceKind::Loop && device.parents.is_empty());
        for device in loops {
            let reported = device.loop_file.map(|file| file.device);
            if let Some(reported) =
                reported.filter(|dev| dev.major != 0 && !members.contains_key(dev))
            {
                // A filesystem that no mount table shows (any more): of its device all is known.
                members.insert(reported, vec![reported]);
            }
            if reported.is_none() && device.backing_file.is_none() {
                continue;
            }
            match place_of(device, own, apart, &|dev| members.contains_key(&dev)) {
                FilePlace::On(filesystem) => {
                    files.insert(device.dev, filesystem);
                }
                FilePlace::OnNoDisk => {}
                FilePlace::Unknown => {
                    unplaced.insert(device.dev);
                }
            }
        }
        Self {
            files,
            members,
            unplaced,
        }
    }

    /// Whether it is known what `members` rest on, down to the disks.
    pub(super) fn is_known(&self, topology: &Topology, members: &[DevNumber]) -> bool {
        let below = self.ancestors(topology, members, true).devices;
        below.is_disjoint(&self.unplaced)
    }

    /// Everything that `members` rest on, themselves included.
    fn ancestors(&self, topology: &Topology, members: &[DevNumber], loops: bool) -> Ancestors {
        let mut ancestors = Ancestors::default();
        let mut open = members.to_vec();
        while let Some(dev) = open.pop() {
            let Some(device) = topology.device(dev) else {
                continue;
            };
            if !ancestors.devices.insert(dev) {
                continue;
            }
            open.extend(&device.parents);
            if let Some(filesystem) = self.files.get(&dev) {
                ancestors.filesystems.insert(*filesystem);
                if loops {
                    open.extend(self.members.get(filesystem).into_iter().flatten());
                }
            }
        }
        ancestors
    }

    /// The whole disks among what `members` rest on.
    pub(super) fn disks(&self, topology: &Topology, members: &[DevNumber]) -> BTreeSet<DevNumber> {
        let mut devices = self.ancestors(topology, members, true).devices;
        devices.retain(|dev| {
            let device = topology.device(*dev);
            device.is_some_and(|device| device.parents.is_empty() || device.kind.is_disk())
        });
        devices
    }

    /// The filesystems whose files the loop devices below `members` show.
    pub(super) fn below(&self, topology: &Topology, members: &[DevNumber]) -> BTreeSet<DevNumber> {
        self.ancestors(topology, members, false).filesystems
    }

    /// How many filesystems lie one on another below `members`.
    pub(super) fn depth(&self, topology: &Topology, members: &[DevNumber]) -> usize {
        let mut depth = 0;
        let mut level = self.below(topology, members);
        while !level.is_empty() && depth < DEPTH_LIMIT {
            depth += 1;
            level = level
                .iter()
                .filter_map(|filesystem| self.members.get(filesystem))
                .flat_map(|members| self.below(topology, members))
                .collect();
        }
        depth
    }

    /// Whether everything that `members` rest on is on the disks `chosen`: each way down ends in,
    /// or passes through, one of them.
    pub(super) fn covered(
        &self,
        topology: &Topology,
        members: &[DevNumber],
        chosen: &BTreeSet<DevNumber>,
    ) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = members.to_vec();
        while let Some(dev) = open.pop() {
            if chosen.contains(&dev) || !seen.insert(dev) {
                continue;
            }
            let file = self.files.get(&dev).and_then(|on| self.members.get(on));
            let parents = topology.device(dev).map(|device| &device.parents);
            let before = open.len();
            open.extend(parents.into_iter().chain(file).flatten());
            if open.len() == before {
                return false;
            }
        }
        true
    }
}

/// Where a loop device's file lies.
#[derive(Debug, PartialEq, Eq)]
enum FilePlace {
    /// On that filesystem.
    On(DevNumber),
    /// In memory, on a network, or where a program says.
    OnNoDisk,
    /// Nobody can say.
    Unknown,
}

fn place_of(
    device: &Device,
    own: &OwnMounts,
    apart: &Anonymous,
    is_on_devices: &dyn Fn(DevNumber) -> bool,
) -> FilePlace {
    let on = |dev: DevNumber| match is_on_devices(dev) {
        true => Some(FilePlace::On(dev)),
        false => None,
    };
    let reported = device.loop_file.map(|file| file.device);
    if let Some(place) = reported.and_then(on) {
        return place;
    }
    // The number is that of a mount, wherever that is.
    if let Some(mount) = reported.and_then(|dev| apart.get(&dev)) {
        if mount.fstype != "overlay" {
            return FilePlace::OnNoDisk;
        }
        // By the words of whoever mounted it, which mostly was somebody in our namespace.
        let upper = mount.option("upperdir").map(PathBuf::from);
        let below = upper.and_then(|upper| own.filesystem_of(&upper));
        return below.and_then(on).unwrap_or(FilePlace::Unknown);
    }
    // A file of btrfs, or of an overlay over several filesystems, has the number of a part that no
    // table shows: what holds its name here must be such a one. Where the device itself cannot be
    // asked, there is its name alone.
    let name = device.backing_file.as_deref();
    let holder = name.and_then(|name| own.holding(name));
    let fits = |mount: &&MountEntry| {
        reported.is_none() || ["btrfs", "bcachefs", "overlay"].contains(&mount.fstype.as_str())
    };
    let Some(holder) = holder.filter(fits) else {
        return match reported {
            Some(_) => FilePlace::Unknown,
            None => FilePlace::OnNoDisk,
        };
    };
    let by_name = name.and_then(|name| own.filesystem_of(name)).and_then(on);
    match by_name {
        Some(place) => place,
        None if holder.fstype == "overlay" => FilePlace::Unknown,
        None => FilePlace::OnNoDisk,
    }
}

#[derive(Default)]
struct Ancestors {
    devices: BTreeSet<DevNumber>,
    filesystems: BTreeSet<DevNumber>,
}
