//! What a device holds before it is overwritten, and what the user should know of it afterwards. It
//! only reads.

use crate::device::{DeviceKind, Disk, Host, ReadSeek, Signature, Topology, contents, signature};
use crate::error::Result;
use crate::format::DiskRecord;
use crate::model::{Bytes, DevNumber, Extent};
use crate::restore::FreeDevice;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A device that holds something, which a restore would overwrite.
#[derive(Clone, Debug)]
pub struct Overwritten {
    /// The device as the user named it.
    pub target: PathBuf,
    /// What goes there: `vda of 01K…`.
    pub disk: String,
    /// Size, model and serial number.
    pub device: String,
    /// What is on it, a line for each thing.
    pub holds: Vec<String>,
}

/// The device's number.
pub fn number_of(path: &Path) -> Option<DevNumber> {
    let number = fs::metadata(path).ok()?.rdev();
    Some(DevNumber::from_dev_t(number))
}

/// What a restore to `device` would overwrite; `None` when there is nothing that anyone could
/// miss: a blank disk, or what an unfinished restore has left.
pub fn overwritten(
    device: &FreeDevice,
    path: &Path,
    topology: &Topology,
    disk: String,
) -> Result<Option<Overwritten>> {
    if device.unfinished().is_some() {
        return Ok(None);
    }
    let mut file = device.file();
    let found = contents(&mut file, path, device.capacity(), device.sector())?;
    if found.is_blank() {
        return Ok(None);
    }
    let known = number_of(path).and_then(|number| topology.disk(number));
    let mut holds = Vec::new();
    if let Some(table) = &found.table {
        let kind = if table.contains('-') { "GPT" } else { "MBR" };
        holds.push(format!("a partition table ({kind} {table})"));
    }
    if let Some(signature) = &found.signature {
        holds.push(in_words(signature));
    }
    for partition in known.iter().flat_map(|disk| &disk.partitions) {
        let inside = signature(&mut file, partition.place());
        let inside = inside.map_or_else(|| "nothing known".into(), |found| in_words(&found));
        let (name, size) = (&partition.name, partition.size);
        holds.push(format!("{name}, {size}: {inside}"));
    }
    if holds.is_empty() {
        holds.push("data of no kind known here".into());
    }
    Ok(Some(Overwritten {
        target: path.into(),
        disk,
        device: described(device.capacity(), known),
        holds,
    }))
}

fn in_words(signature: &Signature) -> String {
    match &signature.uuid {
        Some(uuid) => format!("{} ({uuid})", signature.kind),
        None => signature.kind.into(),
    }
}

fn described(size: Bytes, disk: Option<&Disk>) -> String {
    let mut parts = vec![size.to_string()];
    if let Some(disk) = disk {
        parts.extend(disk.model.clone());
        let serial = disk.identity.serial.as_ref();
        parts.extend(serial.map(|serial| format!("serial {serial}")));
        let backing = disk.backing_file.as_ref();
        parts.extend(backing.map(|file| format!("file {}", file.display())));
    }
    parts.join(", ")
}

/// Other attached disks with the same UUIDs as the restored one: an exact copy has those of its
/// original.
pub fn twins(topology: &Topology, host: &Host, record: &DiskRecord, target: &Path) -> Vec<String> {
    let own = number_of(target);
    let others = topology
        .disks()
        .filter(|disk| disk.kind != DeviceKind::Optical && Some(disk.dev()) != own);
    let same: Vec<String> = if let Some(table) = &record.identity.table_id {
        let same = others.filter(|disk| disk.identity.table_id.as_ref() == Some(table));
        same.map(|disk| {
            format!(
                "{}, attached too, has the same disk GUID {table}",
                disk.name()
            )
        })
        .collect()
    } else {
        let whole = |path: &Path, size: Bytes| {
            let mut file = File::open(path).ok()?;
            signature(&mut file as &mut dyn ReadSeek, Extent::new(Bytes(0), size))
        };
        let Some(Signature {
            kind,
            uuid: Some(uuid),
        }) = whole(target, record.identity.size)
        else {
            return Vec::new();
        };
        let same = others.filter(|disk| {
            let node = host.device_node(&disk.path);
            let found = node.and_then(|node| whole(&node, disk.identity.size));
            found.is_some_and(|found| found.uuid.as_ref() == Some(&uuid))
        });
        same.map(|disk| {
            format!(
                "{}, attached too, has the same {kind} UUID {uuid}",
                disk.name()
            )
        })
        .collect()
    };
    let advice = "detach one of the two before anything is mounted by UUID or label, and before \
                  the next boot; xfs mounts beside its twin with -o nouuid, btrfs not at all";
    same.into_iter()
        .map(|same| format!("{same}: {advice}"))
        .collect()
}

/// The command that lets what is at `place` on a device grow: on the partition of that number, or
/// on the whole device. `None` when the device cannot be read.
pub fn grow_command(device: &Path, place: Extent, partition: Option<u32>) -> Option<String> {
    let mut file = File::open(device).ok()?;
    let kind = signature(&mut file, place).map(|found| found.kind);
    let node = match partition {
        Some(number) => partition_node(device, number),
        None => device.display().to_string(),
    };
    Some(command_for(kind, &node))
}

/// `/dev/vdb1`, `/dev/loop0p1`.
fn partition_node(disk: &Path, number: u32) -> String {
    let disk = fs::canonicalize(disk).unwrap_or_else(|_| disk.into());
    let disk = disk.display().to_string();
    let between = if disk.ends_with(|c: char| c.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    format!("{disk}{between}{number}")
}

fn command_for(kind: Option<&'static str>, node: &str) -> String {
    match kind {
        Some("ext2" | "ext3" | "ext4") => {
            format!("its filesystem grows with: e2fsck -f {node} && resize2fs {node}")
        }
        Some("xfs") => format!("its filesystem grows with: mount {node} DIR && xfs_growfs DIR"),
        Some("btrfs") => format!(
            "its filesystem grows with: mount {node} DIR && btrfs filesystem resize max DIR"
        ),
        Some("LVM member") => {
            format!("LVM uses it after: pvresize {node}, then lvextend --resizefs")
        }
        Some("LUKS") => format!("once {node} is open: cryptsetup resize NAME, then what is in it"),
        Some("f2fs") => format!("its filesystem grows with: resize.f2fs {node}"),
        Some("ntfs") => format!("its filesystem grows with: ntfsresize {node}"),
        Some("swap") => {
            format!("more swap after: mkswap --uuid \"$(blkid -s UUID -o value {node})\" {node}")
        }
        Some(kind) => format!("{node} holds {kind}: there is no one command to let it grow"),
        None => format!("nothing known is on {node}, so nothing is to grow there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_as_the_kernel_does() {
        assert_eq!(partition_node(Path::new("/dev/no-vdb"), 3), "/dev/no-vdb3");
        assert_eq!(partition_node(Path::new("/dev/no-n1"), 12), "/dev/no-n1p12");
    }

    #[test]
    fn each_filesystem_has_its_command() {
        for (kind, command) in [
            ("ext4", "resize2fs /dev/x1"),
            ("xfs", "xfs_growfs DIR"),
            ("btrfs", "btrfs filesystem resize max DIR"),
            ("LVM member", "pvresize /dev/x1"),
        ] {
            assert!(command_for(Some(kind), "/dev/x1").contains(command));
        }
        assert!(command_for(None, "/dev/x1").contains("nothing known"));
    }
}
