//! In which partitions of a disk, and so in which filesystems, something is lost: by the partition
//! table that the snapshot holds, and by what its record says was mounted.

use crate::format::DiskRecord;
use crate::model::{BlockIndex, Bytes, Content, Extent, RunMap};
use crate::restore::partitions;
use crate::store::{SlotRange, Vault};

/// Most filesystems that are named for one part.
const MOST_MOUNTS: usize = 8;
/// Most partitions that are told apart.
const MOST_PARTS: usize = 128;

/// A part of a disk in which something is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostPart {
    /// The partition's number, from 1; `None`: outside of all partitions that are known of.
    pub partition: Option<u32>,
    /// No partition is known of: this part is the disk.
    pub is_disk: bool,
    /// Where it lies.
    pub place: Extent,
    /// What was mounted from it, at most 8.
    pub mounted: Vec<LostMount>,
    /// How much of it is lost.
    pub lost: Bytes,
}

/// A filesystem that lay in a part in which something is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostMount {
    /// Where it was mounted.
    pub target: String,
    /// Its type.
    pub fstype: String,
}

/// The parts of one disk, and what is lost in each.
pub(super) struct LostParts {
    parts: Vec<LostPart>,
    /// What is in none of them.
    rest: LostPart,
}

impl LostParts {
    /// Of a disk with this map. A table that cannot be read, or is lost, leaves one part: the disk.
    pub(super) fn of(vault: &Vault, disk: &DiskRecord, map: &RunMap) -> Self {
        let name = &disk.identity.name;
        let part = |partition: Option<u32>, place: Extent| LostPart {
            partition,
            is_disk: false,
            place,
            mounted: mounted(disk, &device_of(name, partition)),
            lost: Bytes(0),
        };
        let head = head_of(vault, map).unwrap_or_default();
        let found = partitions(&head, disk.identity.logical_block);
        let found = found.into_iter().take(MOST_PARTS);
        let parts: Vec<_> = found.map(|one| part(Some(one.number), one.place)).collect();
        let mut rest = part(None, Extent::new(Bytes(0), disk.identity.size));
        rest.is_disk = parts.is_empty();
        Self { parts, rest }
    }

    /// Adds a place to what is lost.
    pub(super) fn lose(&mut self, place: Extent) {
        let mut left = place.length;
        for part in &mut self.parts {
            let from = place.offset.max(part.place.offset);
            let to = place.end().min(part.place.end());
            let inside = Bytes(to.0.saturating_sub(from.0)).min(left);
            part.lost += inside;
            left = Bytes(left.0 - inside.0);
        }
        self.rest.lost += left;
    }

    /// Those in which something is lost.
    pub(super) fn into_lost(self) -> Vec<LostPart> {
        let all = self.parts.into_iter().chain([self.rest]);
        all.filter(|part| part.lost > Bytes(0)).collect()
    }
}

/// The first block of a disk, as far as the vault has it.
fn head_of(vault: &Vault, map: &RunMap) -> Option<Vec<u8>> {
    let Some(Content::Data { segment, slot }) = map.get(BlockIndex(0)) else {
        return None;
    };
    let range = SlotRange {
        segment,
        first: slot,
        count: 1,
    };
    let mut head = None;
    let read = vault.read_chunks(range, &mut |chunks| {
        head = chunks.first().map(|chunk| chunk.to_vec());
        Ok(())
    });
    read.ok()?;
    head
}

/// What the kernel calls a partition, or the disk itself.
fn device_of(disk: &str, partition: Option<u32>) -> String {
    match partition {
        None => format!("/dev/{disk}"),
        Some(number) if disk.ends_with(|last: char| last.is_ascii_digit()) => {
            format!("/dev/{disk}p{number}")
        }
        Some(number) => format!("/dev/{disk}{number}"),
    }
}

fn mounted(disk: &DiskRecord, device: &str) -> Vec<LostMount> {
    let from_it = disk.filesystems.iter().filter(|one| one.source == device);
    let mount = from_it.map(|one| LostMount {
        target: one.target.clone(),
        fstype: one.fstype.clone(),
    });
    mount.take(MOST_MOUNTS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(partition: Option<u32>, start: u64, length: u64) -> LostPart {
        LostPart {
            partition,
            is_disk: false,
            place: Extent::new(Bytes(start), Bytes(length)),
            mounted: Vec::new(),
            lost: Bytes(0),
        }
    }

    #[test]
    fn each_byte_is_counted_once_where_it_is_lost() {
        let mut parts = LostParts {
            parts: vec![part(Some(1), 100, 100), part(Some(2), 200, 50)],
            rest: part(None, 0, 1000),
        };
        for (offset, length) in [(0, 50), (90, 20), (190, 20), (240, 30)] {
            parts.lose(Extent::new(Bytes(offset), Bytes(length)));
        }
        let lost: Vec<_> = parts.into_lost().into_iter().collect();
        let sums: Vec<_> = lost.iter().map(|one| (one.partition, one.lost.0)).collect();
        assert_eq!(sums, [(Some(1), 20), (Some(2), 20), (None, 80)]);
    }

    #[test]
    fn partitions_are_called_as_the_kernel_calls_them() {
        assert_eq!(device_of("vda", Some(2)), "/dev/vda2");
        assert_eq!(device_of("nvme0n1", Some(1)), "/dev/nvme0n1p1");
        assert_eq!(device_of("loop7", None), "/dev/loop7");
    }
}
