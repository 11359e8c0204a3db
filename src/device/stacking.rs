//! What is stacked on what, also through loop devices: a loop device's file lies on a filesystem,
//! which lies on devices. The loop device names its file by number. Where it does not, the names of
//! mounts decide, so that nothing is opened.

use super::filesystem::Filesystem;
use super::kind::DeviceKind;
use super::mountinfo::OwnMounts;
use super::topology::Topology;
use crate::model::DevNumber;
use std::collections::{BTreeMap, BTreeSet};

/// Deepest stack of loop devices on files on loop devices that is followed.
const DEPTH_LIMIT: usize = 64;

/// Which filesystem each loop device's file lies on, and which devices that one consists of.
#[derive(Clone, Debug, Default)]
pub(super) struct Stacking {
    files: BTreeMap<DevNumber, DevNumber>,
    members: BTreeMap<DevNumber, Vec<DevNumber>>,
}

impl Stacking {
    /// `own` is our namespace's mounts, in which the kernel names the files.
    pub(super) fn new(topology: &Topology, found: &[Filesystem], own: &OwnMounts) -> Self {
        let mut members: BTreeMap<_, _> = found
            .iter()
            .map(|filesystem| (filesystem.dev, filesystem.members.clone()))
            .collect();
        let mut files = BTreeMap::new();
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
            let on = reported
                .filter(|dev| members.contains_key(dev))
                .or_else(|| {
                    // A file of btrfs or overlay has the number of a part that no table shows.
                    let name = device.backing_file.as_deref()?;
                    let apart = own.holding(name)?.dev.major == 0;
                    (reported.is_none() || apart).then(|| own.filesystem_of(name))?
                });
            if let Some(on) = on.filter(|on| members.contains_key(on)) {
                files.insert(device.dev, on);
            }
        }
        Self { files, members }
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

#[derive(Default)]
struct Ancestors {
    devices: BTreeSet<DevNumber>,
    filesystems: BTreeSet<DevNumber>,
}
