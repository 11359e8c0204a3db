//! Every block device of this host and what lies on what, read from sysfs. It opens no device
//! except for a look at a disk's partition table, and to ask a loop device for its file.

use super::attributes::Attributes;
use super::disk::{Disk, Partition};
use super::host::Host;
use super::identity::{self, Basics};
use super::kind::DeviceKind;
use super::name::{head_of_path, node_name};
use super::table::OpenDisk;
use crate::error::Result;
use crate::model::{Bytes, DevNumber, DiskIdentity, Extent, Sectors};
use crate::sys::loop_file::{LoopFile, loop_file};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its name in sysfs (`vda1`, `dm-0`).
    pub name: String,
    /// Its number.
    pub dev: DevNumber,
    /// What it is.
    pub kind: DeviceKind,
    /// Its size; 0 for an unbound loop device or an empty drive.
    pub size: Bytes,
    /// What it lies on: a partition's disk, the members of a mapped device or RAID.
    pub parents: Vec<DevNumber>,
    /// Where on its disk a partition lies.
    pub place: Option<Extent>,
    /// The device mapper's name (`vg-root`).
    pub mapper_name: Option<String>,
    /// What a loop device shows, as the kernel names it.
    pub backing_file: Option<PathBuf>,
    /// The same file, as the device itself reports it; `None` where it may not be asked.
    pub loop_file: Option<LoopFile>,
}

/// All block devices of a host at one moment.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    devices: BTreeMap<DevNumber, Device>,
    by_name: BTreeMap<String, DevNumber>,
    disks: Vec<Disk>,
}

impl Topology {
    /// Looks at the host. `tables` opens disks for a look at their partition tables.
    ///
    /// # Errors
    /// When `/sys/block` cannot be listed. A device that vanishes meanwhile is left out.
    pub fn scan(host: &Host, tables: &dyn OpenDisk) -> Result<Self> {
        let block = host.sys.join("block");
        let mut found = Self::default();
        let mut slaves = Vec::new();
        let names: Vec<String> = Host::names(&block)?
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .collect();
        for name in &names {
            let folder = block.join(name);
            // A path below an NVMe multipath head is hidden and has no number.
            let Some(dev) = number_of(&folder) else {
                continue;
            };
            let device = whole_device(host, name, dev);
            if device.kind == DeviceKind::Loop
                && device.backing_file.is_none()
                && device.size.0 == 0
            {
                // Hosts have dozens of them, and nothing of them matters until they are bound.
                found.disks.push(unbound(&device));
                found.insert(device);
                continue;
            }
            slaves.push((dev, Host::names_if_any(&folder.join("slaves"))));
            let partitions = partitions(&folder, name);
            if device.kind.is_disk() {
                found
                    .disks
                    .push(disk(host, &folder, &device, &partitions, &names, tables));
            }
            for partition in partitions {
                found.insert(partition_device(&partition, dev));
            }
            found.insert(device);
        }
        for (dev, names) in slaves {
            found.set_parents(dev, &names);
        }
        found.loops_on_devices();
        Ok(found)
    }

    fn insert(&mut self, device: Device) {
        self.by_name.insert(device.name.clone(), device.dev);
        self.devices.insert(device.dev, device);
    }

    fn set_parents(&mut self, dev: DevNumber, names: &[String]) {
        let parents: Vec<DevNumber> = names
            .iter()
            .filter_map(|name| self.by_name.get(name).copied())
            .filter(|parent| *parent != dev)
            .collect();
        if let Some(device) = self.devices.get_mut(&dev) {
            device.parents = parents;
        }
    }

    /// A loop device may show a block device instead of a file.
    fn loops_on_devices(&mut self) {
        let found: Vec<(DevNumber, DevNumber)> = self
            .devices
            .values()
            .filter_map(|device| {
                // What the device says itself holds also where the node has a name of its own.
                let reported = device.loop_file.and_then(|file| file.block_device);
                let named = || self.node(device.backing_file.as_deref()?);
                let below = reported
                    .and_then(|dev| self.device(dev))
                    .or_else(named)?
                    .dev;
                (below != device.dev).then_some((device.dev, below))
            })
            .collect();
        for (dev, below) in found {
            if let Some(device) = self.devices.get_mut(&dev) {
                device.parents = vec![below];
            }
        }
    }

    /// A host with these devices and no disks, for tests.
    #[cfg(test)]
    pub(super) fn of(devices: Vec<Device>) -> Self {
        let mut made = Self::default();
        devices.into_iter().for_each(|device| made.insert(device));
        made
    }

    /// Every device, by number.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    /// The device with that number.
    pub fn device(&self, dev: DevNumber) -> Option<&Device> {
        self.devices.get(&dev)
    }

    /// The device with that name in sysfs.
    pub fn named(&self, name: &str) -> Option<&Device> {
        self.device(*self.by_name.get(name)?)
    }

    /// The device that a path below `/dev` names, by the name alone: nothing is looked up on disk.
    /// Knows `/dev/vda`, `/dev/mapper/vg-root` and `/dev/vg/root`.
    pub fn node(&self, path: &Path) -> Option<&Device> {
        let name = path.strip_prefix("/dev").ok()?.to_str()?;
        let mapped = |wanted: &str| {
            self.devices()
                .find(|device| device.mapper_name.as_deref() == Some(wanted))
        };
        if let Some(name) = name.strip_prefix("mapper/") {
            return mapped(name);
        }
        self.named(&name.replace('/', "!")).or_else(|| {
            // LVM doubles the dashes within a name: group `a-b`, volume `c` is `a--b-c`.
            let (group, volume) = name.split_once('/')?;
            mapped(&format!(
                "{}-{}",
                group.replace('-', "--"),
                volume.replace('-', "--")
            ))
        })
    }

    /// As [`Self::node`], and where the name is not known, where its links in `/dev` lead to.
    pub fn node_through_links(&self, host: &Host, path: &Path) -> Option<&Device> {
        self.node(path).or_else(|| {
            let target = fs::canonicalize(host.device_node(path)?).ok()?;
            let name = target
                .strip_prefix(fs::canonicalize(&host.dev).ok()?)
                .ok()?;
            self.node(&Path::new("/dev").join(name))
        })
    }

    /// The disks of which a snapshot can be made, in order of their names; unbound loop devices
    /// and empty drives are not among them.
    pub fn disks(&self) -> impl Iterator<Item = &Disk> {
        self.disks.iter().filter(|disk| disk.identity.size.0 > 0)
    }

    /// The disk with that number, also an empty one.
    pub fn disk(&self, dev: DevNumber) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.identity.dev == dev)
    }

    /// The whole devices at the bottom of `dev`, which may be `dev` itself. A loop device ends the
    /// way, unless it shows another block device.
    pub fn bottom(&self, dev: DevNumber) -> BTreeSet<DevNumber> {
        let mut bottom = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![dev];
        while let Some(dev) = open.pop() {
            if !seen.insert(dev) {
                continue;
            }
            match self.device(dev) {
                Some(device) if !device.parents.is_empty() => open.extend(&device.parents),
                Some(_) => {
                    bottom.insert(dev);
                }
                None => {}
            }
        }
        bottom
    }

    /// The devices that lie directly on `dev`.
    pub fn holders(&self, dev: DevNumber) -> impl Iterator<Item = &Device> {
        self.devices()
            .filter(move |device| device.parents.contains(&dev))
    }
}

fn number_of(folder: &Path) -> Option<DevNumber> {
    Host::text(&folder.join("dev"))?.parse().ok()
}

/// A size or position in an attribute, which is in 512-byte sectors whatever the disk's own are.
fn sectors(path: &Path) -> Bytes {
    Sectors(Host::number(path).unwrap_or(0)).bytes()
}

fn whole_device(host: &Host, name: &str, dev: DevNumber) -> Device {
    let folder = host.sys.join("block").join(name);
    let backing = Host::bytes(&folder.join("loop/backing_file"));
    let backing = backing.as_deref().and_then(backing_file);
    Device {
        name: name.to_owned(),
        dev,
        kind: kind(&folder, name),
        size: sectors(&folder.join("size")),
        parents: Vec::new(),
        place: None,
        mapper_name: Host::text(&folder.join("dm/name")),
        loop_file: backing.as_ref().and_then(|_| ask_loop(host, name)),
        backing_file: backing,
    }
}

/// The path in an attribute, which need not be text. A file that was deleted while in use still
/// lies where it lay.
fn backing_file(attribute: &[u8]) -> Option<PathBuf> {
    let path = attribute.strip_suffix(b"\n").unwrap_or(attribute);
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)))
}

/// What a loop device says of its file. Its name in sysfs may lead to another one by now.
fn ask_loop(host: &Host, name: &str) -> Option<LoopFile> {
    loop_file(File::open(host.dev.join(name)).ok()?).ok()
}

/// Told by what the driver puts into the folder, by the name only where it puts nothing there.
fn kind(folder: &Path, name: &str) -> DeviceKind {
    if folder.join("dm").is_dir() {
        let uuid = Host::text(&folder.join("dm/uuid")).unwrap_or_default();
        return match uuid.split('-').next() {
            Some("LVM") => DeviceKind::Lvm,
            Some("CRYPT") => DeviceKind::Crypt,
            Some("mpath") => DeviceKind::Multipath,
            _ => DeviceKind::Mapper,
        };
    }
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
    };
    match () {
        () if folder.join("md").is_dir() || numbered("md") => DeviceKind::Raid,
        () if numbered("loop") => DeviceKind::Loop,
        () if numbered("zram") => DeviceKind::Zram,
        () if numbered("ram") || numbered("pmem") => DeviceKind::Memory,
        () if numbered("sr") || numbered("fd") => DeviceKind::Optical,
        () if numbered("bcache") || numbered("drbd") => DeviceKind::Stacked,
        () if numbered("nvme") && !folder.join("mq").is_dir() => DeviceKind::NvmeHead,
        () => DeviceKind::Disk,
    }
}

fn partitions(folder: &Path, disk: &str) -> Vec<Partition> {
    let mut partitions: Vec<Partition> = Host::names_if_any(folder)
        .into_iter()
        .filter(|name| name.starts_with(disk))
        .filter_map(|name| {
            let folder = folder.join(&name);
            Some(Partition {
                number: u32::try_from(Host::number(&folder.join("partition"))?).ok()?,
                dev: number_of(&folder)?,
                start: sectors(&folder.join("start")),
                size: sectors(&folder.join("size")),
                name,
            })
        })
        .collect();
    partitions.sort_by_key(|partition| partition.number);
    partitions
}

fn partition_device(partition: &Partition, disk: DevNumber) -> Device {
    Device {
        name: partition.name.clone(),
        dev: partition.dev,
        kind: DeviceKind::Partition,
        size: partition.size,
        parents: vec![disk],
        place: Some(Extent::new(partition.start, partition.size)),
        mapper_name: None,
        backing_file: None,
        loop_file: None,
    }
}

fn disk(
    host: &Host,
    folder: &Path,
    device: &Device,
    partitions: &[Partition],
    names: &[String],
    tables: &dyn OpenDisk,
) -> Disk {
    let basics = Basics {
        folder,
        name: &device.name,
        dev: device.dev,
        size: device.size,
    };
    let zoned = Host::text(&folder.join("queue/zoned"));
    Disk {
        identity: identity::identify(host, &basics, tables),
        kind: device.kind,
        path: Path::new("/dev").join(node_name(&device.name)),
        model: identity::model(folder),
        read_only: Host::flag(&folder.join("ro")),
        removable: Host::flag(&folder.join("removable")),
        request_based: folder.join("mq").is_dir(),
        zoned: zoned.is_some_and(|zoned| zoned != "none"),
        obstacle: Attributes::at(folder).obstacle().ok().flatten(),
        partitions: partitions.to_vec(),
        backing_file: device.backing_file.clone(),
        nvme_paths: nvme_paths(device, names),
    }
}

/// A loop device that shows nothing: of its names none is looked up.
fn unbound(device: &Device) -> Disk {
    Disk {
        identity: DiskIdentity {
            name: device.name.clone(),
            dev: device.dev,
            size: device.size,
            logical_block: 512,
            serial: None,
            wwn: None,
            diskseq: None,
            table_id: None,
        },
        kind: device.kind,
        path: Path::new("/dev").join(node_name(&device.name)),
        model: None,
        read_only: false,
        removable: false,
        request_based: true,
        zoned: false,
        obstacle: None,
        partitions: Vec::new(),
        backing_file: None,
        nvme_paths: Vec::new(),
    }
}

/// The paths below the multipath head `nvme0n1` are `nvme0c0n1`, `nvme0c1n1`, ...
fn nvme_paths(head: &Device, names: &[String]) -> Vec<String> {
    if head.kind != DeviceKind::NvmeHead {
        return Vec::new();
    }
    let is_path =
        |name: &&String| head_of_path(name).is_some_and(|head_name| head_name == head.name);
    names.iter().filter(is_path).cloned().collect()
}
