//! What stands on a disk of a snapshot: in its partitions, where the record has a filesystem, or on
//! the whole of it. A record may lie, so what it says counts only where the bytes agree; what could
//! not be read is told, and never taken for nothing.

use super::disk_bytes::DiskBytes;
use crate::device::{Signature, signature};
use crate::error::{Error, ErrorKind, Result};
use crate::export::InPlace;
use crate::format::{DiskRecord, FilesystemRecord};
use crate::model::{Bytes, Cancel, Extent};
use crate::restore::{TablePartition, partitions};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

/// How much of a disk's beginning is looked at for its table: 4096 bytes a sector, 128 entries.
const HEAD: u64 = 64 << 10;
/// Most places of a disk that are looked at.
const MOST_PLACES: usize = 256;

/// Something that stands on a disk.
pub(super) struct DiskContent {
    pub(super) disk: usize,
    pub(super) partition: Option<u32>,
    pub(super) place: Extent,
    pub(super) name: String,
    pub(super) signature: Signature,
}

/// A place that was not looked at, or the disk itself, and why.
pub(super) struct UnseenPlace {
    pub(super) disk: usize,
    pub(super) name: String,
    pub(super) place: Option<Extent>,
    pub(super) why: String,
    /// Whether what the vault has of it is damaged.
    pub(super) is_damaged: bool,
}

/// What stands on disks.
#[derive(Default)]
pub(super) struct DiskContents {
    pub(super) found: Vec<DiskContent>,
    pub(super) unseen: Vec<UnseenPlace>,
    /// Partitions and disks in which nothing was found that is known, though something may be.
    pub(super) unknown: Vec<String>,
}

/// A place that is looked at.
struct PlaceOnDisk<'r> {
    partition: Option<u32>,
    place: Extent,
    name: String,
    /// Whether no filesystem is expected there.
    is_loaders: bool,
    /// What the record says that stands there, where only the record has the place.
    kind: Option<&'r str>,
}

impl DiskContents {
    fn last_is_damaged(&mut self) {
        if let Some(told) = self.unseen.last_mut() {
            told.is_damaged = true;
        }
    }

    /// Adds what stands on something as a whole that lies on disks.
    ///
    /// # Errors
    /// The vault cannot be read. Damage is told instead.
    pub(super) fn add_whole(
        &mut self,
        number: usize,
        name: &str,
        volume: &Arc<dyn InPlace>,
    ) -> Result<()> {
        let whole = PlaceOnDisk {
            partition: None,
            place: Extent::new(Bytes(0), volume.size()),
            name: name.to_owned(),
            is_loaders: false,
            kind: None,
        };
        let unseen = self.unseen.len();
        let mut bytes = DiskBytes::new(Arc::clone(volume));
        match whole.content(number, &mut bytes, self)? {
            Some(found) => self.found.push(found),
            None if self.unseen.len() == unseen => self.unknown.push(whole.name),
            None => {}
        }
        Ok(())
    }
}

impl PlaceOnDisk<'_> {
    /// What stands there, on the disk with that number.
    fn content(
        &self,
        disk: usize,
        bytes: &mut DiskBytes,
        all: &mut DiskContents,
    ) -> Result<Option<DiskContent>> {
        let found = signature(bytes, self.place);
        let failure = bytes.take_failure();
        let is_damaged = |error: &Error| error.kind() == ErrorKind::Damaged;
        let mut tell = |why: String| {
            all.unseen.push(UnseenPlace {
                disk,
                name: self.name.clone(),
                place: Some(self.place),
                why,
                is_damaged: true,
            });
        };
        if let (Some(_), Some(error)) = (&found, failure.as_ref().filter(|one| is_damaged(one))) {
            tell(format!("a part of its beginning cannot be read: {error}"));
        }
        match (found, failure) {
            (Some(signature), _) => Ok(Some(DiskContent {
                disk,
                partition: self.partition,
                place: self.place,
                name: self.name.clone(),
                signature,
            })),
            (None, Some(error)) if is_damaged(&error) => {
                tell(format!("what it is cannot be read: {error}"));
                Ok(None)
            }
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }
}

/// A disk that is looked at.
pub(super) struct DiskLook<'d> {
    pub(super) number: usize,
    pub(super) record: &'d DiskRecord,
    pub(super) image: &'d Arc<dyn InPlace>,
}

impl DiskLook<'_> {
    /// Adds what stands there.
    ///
    /// # Errors
    /// The vault cannot be read, or `cancel` says so. Damage is told instead.
    pub(super) fn add_to(&self, all: &mut DiskContents, cancel: &dyn Cancel) -> Result<()> {
        let mut bytes = DiskBytes::new(Arc::clone(self.image));
        let whole = self.whole();
        let records = self.record.filesystems.iter();
        let mut on_whole = records.filter(|record| record.place == Some(whole.place));
        if let Some(record) = on_whole.next()
            && let Some(found) = self.content(&mut bytes, &whole, all)?
            && is_same_kind(found.signature.kind, &record.fstype)
        {
            all.found.push(found);
            return Ok(());
        }
        let head = self.head(&mut bytes, all)?;
        let candidates = self.candidates(&head, all);
        let (before, unseen) = (all.found.len(), all.unseen.len());
        for candidate in &candidates {
            cancel.check()?;
            let so_far = all.unseen.len();
            let found = self.content(&mut bytes, candidate, all)?;
            let is_known = found.is_some() || all.unseen.len() > so_far;
            if !is_known && candidate.kind.is_none() && !candidate.is_loaders {
                all.unknown.push(candidate.name.clone());
            }
            all.found.extend(found.filter(|found| match candidate.kind {
                Some(kind) => is_same_kind(found.signature.kind, kind),
                None => true,
            }));
        }
        // A boot sector may look like a table. A disk that had a filesystem before it had a table
        // may look like that filesystem: so this comes last, and never beside a GPT.
        if all.found.len() == before && !self.has_gpt(&head) {
            let found = self.content(&mut bytes, &whole, all)?;
            all.found.extend(found);
        }
        let nothing = all.found.len() == before && all.unseen.len() == unseen;
        if nothing && candidates.is_empty() {
            all.unknown.push(whole.name);
        }
        Ok(())
    }

    fn whole(&self) -> PlaceOnDisk<'_> {
        PlaceOnDisk {
            partition: None,
            place: Extent::new(Bytes(0), self.image.size()),
            name: self.record.identity.name.clone(),
            is_loaders: false,
            kind: None,
        }
    }

    /// The beginning of the disk; nothing where it is damaged.
    fn head(&self, bytes: &mut DiskBytes, all: &mut DiskContents) -> Result<Vec<u8>> {
        let length = HEAD.min(self.image.size().0);
        let mut head = vec![0; usize::try_from(length).unwrap_or_default()];
        let read = bytes.seek(SeekFrom::Start(0));
        if read.and_then(|_| bytes.read_exact(&mut head)).is_err() {
            head.clear();
        }
        if let Some(error) = bytes.take_failure() {
            if error.kind() != ErrorKind::Damaged {
                return Err(error);
            }
            let why = format!("its beginning cannot be read: {error}");
            self.tell(all, why);
            all.last_is_damaged();
        }
        Ok(head)
    }

    /// The places by the table, and those of the record that are not among them.
    fn candidates(&self, head: &[u8], all: &mut DiskContents) -> Vec<PlaceOnDisk<'_>> {
        let size = self.image.size();
        let disk = &self.record.identity.name;
        let mut table = partitions(head, self.record.identity.logical_block);
        if table.is_empty() && self.has_gpt(head) {
            let why = "its partition table is not understood: only what was mounted is looked for";
            self.tell(all, why.into());
        }
        let beyond: Vec<TablePartition> =
            table.extract_if(.., |one| one.place.end() > size).collect();
        if let Some(first) = beyond.first() {
            let name = partition_name(disk, first.number);
            let why = format!(
                "{name} ends past its end, and so do {} more",
                beyond.len() - 1
            );
            self.tell(all, why);
        }
        let mut candidates: Vec<PlaceOnDisk<'_>> = table
            .iter()
            .map(|one| PlaceOnDisk {
                partition: Some(one.number),
                place: one.place,
                name: partition_name(disk, one.number),
                is_loaders: one.is_loaders,
                kind: None,
            })
            .collect();
        let mut known: BTreeSet<Extent> = candidates.iter().map(|one| one.place).collect();
        known.insert(self.whole().place);
        let mut numbers: BTreeSet<u32> =
            candidates.iter().filter_map(|one| one.partition).collect();
        for record in &self.record.filesystems {
            let Some(place) = record.place.filter(|place| is_within(*place, size)) else {
                continue;
            };
            if !known.insert(place) {
                continue;
            }
            let partition = number_of(disk, record).filter(|number| numbers.insert(*number));
            candidates.push(PlaceOnDisk {
                partition,
                place,
                name: match partition {
                    Some(number) => partition_name(disk, number),
                    None => format!("{disk} from {} on", place.offset),
                },
                is_loaders: false,
                kind: Some(&record.fstype),
            });
        }
        if candidates.len() > MOST_PLACES {
            let more = candidates.len() - MOST_PLACES;
            self.tell(all, format!("{more} more partitions of it are left out"));
            candidates.truncate(MOST_PLACES);
        }
        candidates
    }

    /// What stands in one place.
    fn content(
        &self,
        bytes: &mut DiskBytes,
        one: &PlaceOnDisk<'_>,
        all: &mut DiskContents,
    ) -> Result<Option<DiskContent>> {
        one.content(self.number, bytes, all)
    }

    fn tell(&self, all: &mut DiskContents, why: String) {
        all.unseen.push(UnseenPlace {
            disk: self.number,
            name: self.record.identity.name.clone(),
            place: None,
            why,
            is_damaged: false,
        });
    }

    fn has_gpt(&self, head: &[u8]) -> bool {
        let at = self.record.identity.logical_block as usize;
        head.get(at..at + 8) == Some(b"EFI PART")
    }
}

fn is_within(place: Extent, size: Bytes) -> bool {
    let end = place.offset.0.checked_add(place.length.0);
    place.length.0 > 0 && end.is_some_and(|end| end <= size.0)
}

/// The number of the partition that a record names.
fn number_of(disk: &str, record: &FilesystemRecord) -> Option<u32> {
    let name = record.source.strip_prefix("/dev/")?;
    let number: u32 = name
        .strip_prefix(disk)?
        .trim_start_matches('p')
        .parse()
        .ok()?;
    (partition_name(disk, number) == name).then_some(number)
}

/// As the kernel calls it: `vda1`, `nvme0n1p1`.
fn partition_name(disk: &str, number: u32) -> String {
    match disk.ends_with(|last: char| last.is_ascii_digit()) {
        true => format!("{disk}p{number}"),
        false => format!("{disk}{number}"),
    }
}

/// Whether the name of a signature and that of a mount table may mean the same.
pub(super) fn is_same_kind(found: &str, recorded: &str) -> bool {
    let family = |kind: &str| match kind {
        "ext2" | "ext3" | "ext4" => "ext".to_owned(),
        "vfat" | "msdos" => "fat".to_owned(),
        other => other.to_owned(),
    };
    family(found) == family(recorded)
}

/// Devices of one btrfs together; all others by themselves.
pub(super) fn grouped(found: Vec<DiskContent>) -> Vec<Vec<DiskContent>> {
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
    fn a_record_names_a_partition_of_its_own_disk_alone() {
        let record = |source: &str| FilesystemRecord {
            source: source.into(),
            target: "/".into(),
            fstype: "ext4".into(),
            frozen: true,
            read_only: false,
            mounts: None,
            place: None,
        };
        assert_eq!(number_of("vda", &record("/dev/vda5")), Some(5));
        assert_eq!(number_of("nvme0n1", &record("/dev/nvme0n1p5")), Some(5));
        for other in [
            "/dev/vdb5",
            "/dev/vda",
            "/dev/vdap5",
            "/dev/vda05",
            "/dev/mapper/vda5",
        ] {
            assert_eq!(number_of("vda", &record(other)), None, "{other}");
        }
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
