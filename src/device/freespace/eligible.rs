//! Whose word counts: a filesystem may say what is free on a disk only when each byte of it is
//! known to lie where it is believed to lie, and nothing else lies there. It only decides.

use super::super::filesystem::Filesystem;
use super::super::kind::DeviceKind;
use super::super::topology::{Device, Topology};
use crate::model::{DevNumber, Extent};

/// The types whose map is understood here; ext4's driver mounts ext2 and ext3 too.
pub(in super::super) const TYPES: &[&str] = &["ext2", "ext3", "ext4", "xfs"];

/// Whether a filesystem may say what is free on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Eligible {
    /// It lies here, and alone.
    Yes(Extent),
    /// It has nothing to say of this disk: it lies elsewhere, or only through something else (a
    /// file, a mapped device), or its type has no map.
    No,
    /// It lies here, but read-only: with `norecovery` its log may know better.
    ReadOnly,
    /// It would have, but something else lies on the same bytes.
    Shared(String),
}

/// Judges by the numbers of devices alone, never by the words of a mount table.
pub(super) fn eligible(topology: &Topology, filesystem: &Filesystem, disk: DevNumber) -> Eligible {
    let known = TYPES.contains(&filesystem.fstype.as_str());
    let place = filesystem.direct.filter(|direct| direct.disk == disk);
    // With a log or realtime device beside it, or on a number that is not a device's, it is not
    // told here what is where.
    let alone = filesystem.members == [filesystem.dev];
    let Some(direct) = place.filter(|_| known && alone) else {
        return Eligible::No;
    };
    if filesystem.read_only {
        return Eligible::ReadOnly;
    }
    let mut devices = topology.devices();
    match devices.find(|device| lies_there(topology, device, filesystem.dev, direct.place, disk)) {
        Some(other) => Eligible::Shared(other.name.clone()),
        None => Eligible::Yes(direct.place),
    }
}

/// Whether another device than `dev` shows bytes of that part of the disk: a partition that
/// overlaps, a loop or mapped device on the disk or on an overlapping partition.
fn lies_there(
    topology: &Topology,
    device: &Device,
    dev: DevNumber,
    place: Extent,
    disk: DevNumber,
) -> bool {
    if device.dev == dev || device.dev == disk {
        return false;
    }
    let overlaps = |part: &Device| {
        let part = part.place.unwrap_or(place);
        part.offset < place.end() && place.offset < part.end()
    };
    if device.kind == DeviceKind::Partition {
        return device.parents.contains(&disk) && overlaps(device);
    }
    device.parents.iter().any(|parent| {
        let part = topology.device(*parent);
        let part = part.filter(|part| part.kind == DeviceKind::Partition);
        *parent == disk || part.is_some_and(|part| part.parents.contains(&disk) && overlaps(part))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::filesystem::Direct;
    use super::*;
    use crate::model::Bytes;
    use std::collections::BTreeSet;

    const DISK: DevNumber = DevNumber { major: 8, minor: 0 };
    const PART: DevNumber = DevNumber { major: 8, minor: 1 };
    const MIB: u64 = 1 << 20;

    fn place(start: u64, length: u64) -> Extent {
        Extent::new(Bytes(start * MIB), Bytes(length * MIB))
    }

    fn device(name: &str, kind: DeviceKind, dev: DevNumber, parents: &[DevNumber]) -> Device {
        Device {
            name: name.into(),
            dev,
            kind,
            size: Bytes(100 * MIB),
            parents: parents.to_vec(),
            place: None,
            mapper_name: None,
            backing_file: None,
            loop_file: None,
        }
    }

    fn partition(minor: u32, at: Extent) -> Device {
        let dev = DevNumber { major: 8, minor };
        let mut device = device(&format!("sda{minor}"), DeviceKind::Partition, dev, &[DISK]);
        device.place = Some(at);
        device
    }

    fn filesystem(dev: DevNumber, disk: DevNumber, place: Extent) -> Filesystem {
        Filesystem {
            source: "/dev/sda1".into(),
            fstype: "ext4".into(),
            dev,
            read_only: false,
            mounts: Vec::new(),
            members: vec![dev],
            members_known: true,
            disks: BTreeSet::from([disk, DISK]),
            direct: Some(Direct { disk, place }),
            below: BTreeSet::new(),
            depth: 0,
        }
    }

    fn judged(filesystem: &Filesystem, others: &[Device]) -> Eligible {
        let mut all = vec![
            device("sda", DeviceKind::Disk, DISK, &[]),
            partition(1, place(10, 50)),
        ];
        all.extend_from_slice(others);
        eligible(&Topology::of(all), filesystem, DISK)
    }

    #[test]
    fn one_that_lies_here_alone_is_asked() {
        let ours = filesystem(PART, DISK, place(10, 50));
        let beside = partition(2, place(60, 10));
        assert_eq!(judged(&ours, &[beside]), Eligible::Yes(place(10, 50)));
    }

    #[test]
    fn one_in_a_file_on_the_disk_is_not() {
        let dev = DevNumber { major: 7, minor: 0 };
        let inner = filesystem(dev, dev, place(0, 100));
        let shown = device("loop0", DeviceKind::Loop, dev, &[]);
        assert_eq!(judged(&inner, &[shown]), Eligible::No);
    }

    #[test]
    fn what_something_else_lies_on_is_nobodys_to_give() {
        let ours = filesystem(PART, DISK, place(10, 50));
        let loop0 = DevNumber { major: 7, minor: 0 };
        for other in [
            device("loop0", DeviceKind::Loop, loop0, &[PART]),
            device("loop0", DeviceKind::Loop, loop0, &[DISK]),
            device("dm-0", DeviceKind::Mapper, loop0, &[PART]),
            partition(2, place(59, 10)),
        ] {
            let name = other.name.clone();
            assert_eq!(judged(&ours, &[other]), Eligible::Shared(name));
        }
        let whole = filesystem(DISK, DISK, place(0, 100));
        assert_eq!(judged(&whole, &[]), Eligible::Shared("sda1".into()));
    }

    #[test]
    fn one_with_a_log_elsewhere_or_of_another_type_is_not() {
        let mut ours = filesystem(PART, DISK, place(10, 50));
        ours.members.push(DevNumber { major: 8, minor: 9 });
        assert_eq!(judged(&ours, &[]), Eligible::No);
        let mut ours = filesystem(PART, DISK, place(10, 50));
        ours.fstype = "btrfs".into();
        assert_eq!(judged(&ours, &[]), Eligible::No);
        let mut ours = filesystem(PART, DISK, place(10, 50));
        ours.read_only = true;
        assert_eq!(judged(&ours, &[]), Eligible::ReadOnly);
    }
}
