//! Two ways to the same bytes: paths of one disk, loop devices of one file. What is written through
//! one leaves no mark on the other, so a snapshot of either could be wrong and not know it.

use super::disk::Disk;
use super::kind::DeviceKind;
use super::topology::{Device, Topology};
use crate::error::{Error, ErrorKind};
use crate::model::{Bytes, DevNumber, DiskIdentity, Extent};
use std::collections::BTreeSet;

/// Why a disk cannot be taken: it is not the only way to what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// What it is, in words that go on after the disk's name.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Alias {
    /// The refusal of that disk.
    pub fn refusal(&self, disk: &str) -> Error {
        let message = format!("{disk} {}; nothing was done", self.what);
        Error::new(ErrorKind::Unsupported, message)
            .with_hint(self.remedy.clone())
            .on_disk(disk)
    }
}

/// What to do about a disk with several paths.
pub(super) const ONE_PATH: &str = "leave it out, or leave it one path: multipath -f its name, \
                                   echo 1 > /sys/block/DISK/device/delete for the others, and \
                                   name the last";

impl Topology {
    /// Another device through which the same bytes can be written, looked for among all there are.
    pub fn alias_of(&self, disk: &Disk) -> Option<Alias> {
        let unseen = "what is written the other way could not be seen";
        let head = |device: &&Device| device.kind == DeviceKind::Multipath;
        if let Some(head) = self.holders(disk.dev()).find(head) {
            let name = head.mapper_name.as_deref().unwrap_or(&head.name);
            return Some(Alias {
                what: format!("is one of the paths of the multipath disk {name}: {unseen}"),
                remedy: ONE_PATH.into(),
            });
        }
        let mut others = self.disks().filter(|other| other.dev() != disk.dev());
        if disk.kind == DeviceKind::Loop {
            let other = others.find(|other| self.same_file(disk, other))?;
            return Some(Alias {
                what: format!("and {} show the same file: {unseen}", other.name()),
                remedy: format!("detach one: losetup --detach /dev/{}", other.name()),
            });
        }
        let other = others.find(|other| same_disk(&disk.identity, &other.identity))?;
        Some(Alias {
            what: format!(
                "and {} say that they are the same disk, {:?}: {unseen}",
                other.name(),
                disk.identity.key()
            ),
            remedy: format!(
                "if they are two disks, give them serial numbers of their own; if they are two \
                 paths: {ONE_PATH}"
            ),
        })
    }

    /// Other disks that say they are the same disk as this one, as its other paths do.
    pub(super) fn other_paths<'a>(&'a self, disk: &'a Disk) -> impl Iterator<Item = &'a Disk> {
        let others = self.disks().filter(|other| other.dev() != disk.dev());
        others.filter(|other| {
            disk.kind != DeviceKind::Loop && same_disk(&disk.identity, &other.identity)
        })
    }

    /// Whether the way down from a device leads over several paths to one disk.
    pub(super) fn has_paths(&self, dev: DevNumber) -> bool {
        let (mut open, mut seen) = (vec![dev], BTreeSet::new());
        while let Some(device) = open.pop().and_then(|dev| self.device(dev)) {
            if device.kind == DeviceKind::Multipath {
                return true;
            }
            let below = device.parents.iter().copied();
            open.extend(below.filter(|dev| seen.insert(*dev)));
        }
        false
    }

    /// Whether two loop devices show a byte of the same file or device.
    fn same_file(&self, one: &Disk, other: &Disk) -> bool {
        let (Some(one), Some(other)) = (self.device(one.dev()), self.device(other.dev())) else {
            return false;
        };
        let place = |device: &Device| {
            let offset = device.loop_file.map_or(Bytes(0), |file| file.offset);
            Extent::new(offset, device.size)
        };
        let (here, there) = (place(one), place(other));
        let overlap = here.offset < there.end() && there.offset < here.end();
        let same = match (one.loop_file, other.loop_file) {
            (Some(one), Some(other)) => (one.device, one.inode) == (other.device, other.inode),
            _ => one.backing_file.is_some() && one.backing_file == other.backing_file,
        };
        let on_device = !one.parents.is_empty() && one.parents == other.parents;
        overlap && (same || on_device)
    }
}

/// World-wide names are what they are called. A serial number alone may be that of an array, with
/// many disks in it, so that names which differ outweigh it, and so do sizes.
fn same_disk(one: &DiskIdentity, other: &DiskIdentity) -> bool {
    match (&one.wwn, &other.wwn) {
        (Some(one), Some(other)) => one == other,
        _ => one.serial.is_some() && one.serial == other.serial && one.size == other.size,
    }
}
