//! Which filesystems the disks of a snapshot hold, where each lies and where the host had it
//! mounted: by the snapshot's record, and by what stands on the disks. It opens nothing.

use super::disk_bytes::DiskBytes;
use crate::device::{Signature, signature};
use crate::error::{ErrorKind, Result};
use crate::export::{AttachOptions, AttachPart, Image, is_attachable};
use crate::format::{DiskRecord, FilesystemRecord, MountRecord};
use crate::model::{Bytes, Extent};
use crate::restore::{TablePartition, partitions};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// How much of a disk's beginning is looked at for its table: 4096 bytes a sector, 128 entries.
const HEAD: u64 = 64 << 10;
/// Most mounts of one filesystem: hosts of containers have thousands.
const MOST_MOUNTS: usize = 256;
/// Most partitions of a disk that are looked at.
const MOST_PARTITIONS: usize = 256;

/// A disk that is to be looked into.
#[derive(Clone)]
pub struct PlannedDisk<'m> {
    /// What the snapshot says of it.
    pub record: &'m DiskRecord,
    /// Its bytes.
    pub image: Arc<Image>,
}

/// A filesystem that can be attached.
#[derive(Clone, Debug)]
pub struct PlannedFilesystem {
    /// How.
    pub attach: AttachOptions,
    /// Its partition, by number; none where it is the whole disk, or on several.
    pub partition: Option<u32>,
    /// Its UUID, of those that have one that is known here.
    pub uuid: Option<String>,
    /// Where the host had its folders at the cut; none: it was not mounted.
    pub mounts: Vec<MountPlace>,
    /// Whether the record says which folders those were.
    pub knows_roots: bool,
}

/// Where the host saw a folder of a filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPlace {
    /// Where.
    pub target: PathBuf,
    /// Which folder of it.
    pub root: PathBuf,
}

/// Something that is not shown, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotShown {
    /// What: `vda3`, or where it was mounted.
    pub what: String,
    /// Why, in a sentence's end.
    pub why: String,
}

/// What the disks of a snapshot hold.
#[derive(Clone, Debug, Default)]
pub struct MountPlan {
    /// What can be attached.
    pub filesystems: Vec<PlannedFilesystem>,
    /// What cannot.
    pub not_shown: Vec<NotShown>,
}

/// Something that stands on a disk.
struct DiskContent {
    disk: usize,
    partition: Option<u32>,
    place: Extent,
    name: String,
    signature: Signature,
}

impl MountPlan {
    /// Looks at all of these disks.
    ///
    /// # Errors
    /// The vault cannot be read. Of a damaged disk the plan says so.
    pub fn of(disks: &[PlannedDisk<'_>]) -> Result<Self> {
        let mut found = Vec::new();
        let mut plan = Self::default();
        for (at, disk) in disks.iter().enumerate() {
            match look_at(at, disk) {
                Ok(here) => found.extend(here),
                // The others can be shown.
                Err(error) if error.kind() == ErrorKind::Damaged => plan.not_shown.push(NotShown {
                    what: disk.record.identity.name.clone(),
                    why: error.to_string(),
                }),
                Err(error) => return Err(error),
            }
        }
        for group in grouped(found) {
            plan.add(group);
        }
        plan.place(disks);
        Ok(plan)
    }

    /// Takes what stands on one device, or on several together.
    fn add(&mut self, group: Vec<DiskContent>) {
        let Some(first) = group.first() else { return };
        let names: Vec<&str> = group.iter().map(|one| one.name.as_str()).collect();
        let name = names.join(", ");
        let kind = first.signature.kind;
        if !is_attachable(kind) {
            self.not_shown.push(NotShown {
                what: name,
                why: why_not(kind),
            });
            return;
        }
        let part = |one: &DiskContent| AttachPart {
            disk: one.disk,
            place: one.place,
        };
        self.filesystems.push(PlannedFilesystem {
            attach: AttachOptions {
                kind: kind.to_owned(),
                parts: group.iter().map(part).collect(),
                name,
                top_level: false,
            },
            partition: first.partition.filter(|_| group.len() == 1),
            uuid: first.signature.uuid.clone(),
            mounts: Vec::new(),
            knows_roots: false,
        });
    }

    /// Says of each filesystem of the record where it is, or why it is not shown.
    fn place(&mut self, disks: &[PlannedDisk<'_>]) {
        for (at, disk) in disks.iter().enumerate() {
            for record in &disk.record.filesystems {
                let home = self.filesystems.iter_mut().find(|one| {
                    is_same_kind(&one.attach.kind, &record.fstype)
                        && is_there(one, at, disk.record, record)
                });
                match home {
                    Some(home) if home.mounts.is_empty() => {
                        home.knows_roots = record.mounts.is_some();
                        home.attach.top_level = home.knows_roots;
                        home.mounts = mounts_of(record);
                    }
                    // Another disk of the same filesystem.
                    Some(_) => {}
                    None => self.not_shown.push(NotShown {
                        what: record.target.clone(),
                        why: format!(
                            "{} on {}, which is not opened by itself",
                            record.fstype, record.source
                        ),
                    }),
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        self.not_shown.retain(|one| seen.insert(one.what.clone()));
    }
}

/// Where a filesystem was mounted. Early records have one place, and not which folder that was.
fn mounts_of(record: &FilesystemRecord) -> Vec<MountPlace> {
    let Some(mounts) = &record.mounts else {
        return vec![MountPlace {
            target: record.target.clone().into(),
            root: "/".into(),
        }];
    };
    let place = |mount: &MountRecord| MountPlace {
        target: mount.target.path(),
        root: mount.root.path(),
    };
    mounts.iter().take(MOST_MOUNTS).map(place).collect()
}

fn is_same_kind(found: &str, recorded: &str) -> bool {
    let family = |kind: &str| match kind {
        "ext2" | "ext3" | "ext4" => "ext".to_owned(),
        "vfat" | "msdos" => "fat".to_owned(),
        other => other.to_owned(),
    };
    family(found) == family(recorded)
}

/// Whether the record of a disk means this filesystem.
fn is_there(
    one: &PlannedFilesystem,
    disk: usize,
    of: &DiskRecord,
    record: &FilesystemRecord,
) -> bool {
    let here: Vec<&AttachPart> = one
        .attach
        .parts
        .iter()
        .filter(|part| part.disk == disk)
        .collect();
    if let Some(place) = record.place {
        return here.iter().any(|part| part.place == place);
    }
    // A name proves nothing, but the kind that stands there must agree, too.
    let name = record.source.strip_prefix("/dev/").unwrap_or_default();
    let number = name.strip_prefix(of.identity.name.as_str());
    let number = number.map(|rest| rest.strip_prefix('p').unwrap_or(rest));
    match number {
        Some("") => here.iter().any(|part| part.place.offset == Bytes(0)),
        Some(number) => {
            let number: Option<u32> = number.parse().ok();
            number.is_some() && one.partition == number && !here.is_empty()
        }
        // Of a filesystem on several devices the record has the name of one.
        None => one.attach.parts.len() > 1 && !here.is_empty(),
    }
}

fn why_not(kind: &str) -> String {
    match kind {
        "LUKS" => "it is encrypted (LUKS)".to_owned(),
        "LVM member" => "it belongs to LVM, which is not opened here".to_owned(),
        "RAID member" => "it belongs to a RAID, which is not opened here".to_owned(),
        "swap" => "it is swap".to_owned(),
        other => format!("{other} is not opened here"),
    }
}

/// What stands on a disk: in each partition, or on the whole of it.
fn look_at(at: usize, disk: &PlannedDisk<'_>) -> Result<Vec<DiskContent>> {
    let size = disk.image.size();
    let mut bytes = DiskBytes::new(Arc::clone(&disk.image));
    let mut head = vec![0; usize::try_from(HEAD.min(size.0)).unwrap_or_default()];
    disk.image.read_at(Bytes(0), &mut head)?;
    let sector = disk.record.identity.logical_block;
    let mut table = partitions(&head, sector);
    table.retain(|one| one.place.end() <= size);
    table.truncate(MOST_PARTITIONS);
    let name = &disk.record.identity.name;
    let found = |partition: Option<&TablePartition>, signature: Signature| DiskContent {
        disk: at,
        partition: partition.map(|one| one.number),
        place: partition.map_or(Extent::new(Bytes(0), size), |one| one.place),
        name: partition.map_or_else(|| name.clone(), |one| partition_name(name, one.number)),
        signature,
    };
    let whole = Extent::new(Bytes(0), size);
    // A boot sector of a filesystem may look like a table.
    if let Some(signature) = signature(&mut bytes, whole) {
        return Ok(vec![found(None, signature)]);
    }
    let each = table.iter().filter_map(|one| {
        let signature = signature(&mut bytes, one.place)?;
        Some(found(Some(one), signature))
    });
    Ok(each.collect())
}

/// As the kernel calls it: `vda1`, `nvme0n1p1`.
fn partition_name(disk: &str, number: u32) -> String {
    match disk.ends_with(|last: char| last.is_ascii_digit()) {
        true => format!("{disk}p{number}"),
        false => format!("{disk}{number}"),
    }
}

/// Devices of one btrfs together; all others by themselves.
fn grouped(found: Vec<DiskContent>) -> Vec<Vec<DiskContent>> {
    let mut groups: Vec<Vec<DiskContent>> = Vec::new();
    let mut by_uuid: BTreeMap<String, usize> = BTreeMap::new();
    for one in found {
        let uuid = one.signature.uuid.clone();
        match uuid.filter(|_| one.signature.kind == "btrfs") {
            Some(uuid) => {
                let at = *by_uuid.entry(uuid).or_insert(groups.len());
                match groups.get_mut(at) {
                    Some(group) => group.push(one),
                    None => groups.push(vec![one]),
                }
            }
            None => groups.push(vec![one]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_called_as_the_kernel_does() {
        assert_eq!(partition_name("vda", 3), "vda3");
        assert_eq!(partition_name("nvme0n1", 3), "nvme0n1p3");
    }

    #[test]
    fn devices_of_one_btrfs_are_together() {
        let found = |kind, uuid: Option<&str>| DiskContent {
            disk: 0,
            partition: None,
            place: Extent::new(Bytes(0), Bytes(0)),
            name: String::new(),
            signature: Signature {
                kind,
                uuid: uuid.map(str::to_owned),
            },
        };
        let groups = grouped(vec![
            found("btrfs", Some("a")),
            found("ext4", Some("x")),
            found("btrfs", Some("a")),
            // A copy of another partition: each by itself.
            found("ext4", Some("x")),
            found("btrfs", None),
        ]);
        let lengths: Vec<usize> = groups.iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1, 1, 1]);
    }
}
