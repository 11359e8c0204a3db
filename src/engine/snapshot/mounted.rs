//! What the manifest says of the filesystems at the cut, and of where they were mounted. It must
//! never make a manifest too large to be put: what is too much is left out, and counted.

use crate::device::{Filesystem, Freezable, FreezeSet, OtherMount, freezable};
use crate::format::{EscapedPath, FilesystemRecord, Manifest, MountRecord, OtherMountRecord};
use crate::model::DevNumber;

/// Most bytes that a manifest has for all places of mounts.
const MOST_TEXT: usize = 1 << 20;
/// Bytes that a mount takes beside its paths.
const EACH: usize = 48;

/// The filesystems of a set that live on a disk, as the manifest names them.
pub fn records_of(set: &FreezeSet, disk: DevNumber, freeze: bool) -> Vec<FilesystemRecord> {
    let here = set
        .filesystems
        .iter()
        .filter(|filesystem| filesystem.disks.contains(&disk));
    here.map(|filesystem| FilesystemRecord {
        source: filesystem.source.clone(),
        target: filesystem.target().display().to_string(),
        fstype: filesystem.fstype.clone(),
        frozen: freeze && freezable(filesystem) == Freezable::Yes,
        read_only: freezable(filesystem) == Freezable::ReadOnly,
        mounts: Some(mounts_of(filesystem)),
        place: filesystem
            .direct
            .filter(|direct| direct.disk == disk)
            .map(|direct| direct.place),
    })
    .collect()
}

/// Where the host's processes saw it.
fn mounts_of(filesystem: &Filesystem) -> Vec<MountRecord> {
    let seen = filesystem
        .mounts
        .iter()
        .filter(|mount| mount.pid.is_none() && mount.visible);
    seen.map(|mount| MountRecord {
        target: EscapedPath::new(&mount.target),
        root: EscapedPath::new(&mount.root),
    })
    .collect()
}

/// Names what else was mounted, and leaves out what is too much.
pub fn name_mounts(manifest: &mut Manifest, others: &[OtherMount]) {
    let mut budget = MountRoom {
        left: MOST_TEXT,
        left_out: 0,
    };
    let disks = manifest.disks.iter_mut();
    for filesystem in disks.flat_map(|disk| &mut disk.filesystems) {
        if let Some(mounts) = &mut filesystem.mounts {
            mounts.retain(|mount| budget.takes(mount.target.length() + mount.root.length()));
        }
    }
    for other in others {
        let target = EscapedPath::new(&other.target);
        if budget.takes(target.length() + other.fstype.len()) {
            manifest.other_mounts.push(OtherMountRecord {
                target,
                fstype: other.fstype.clone(),
            });
        }
    }
    manifest.mounts_left_out = budget.left_out;
}

/// What there is room for.
struct MountRoom {
    left: usize,
    left_out: u64,
}

impl MountRoom {
    fn takes(&mut self, length: usize) -> bool {
        match self.left.checked_sub(length + EACH) {
            Some(left) if self.left_out == 0 => self.left = left,
            _ => self.left_out += 1,
        }
        self.left_out == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_left_out_from_there_on_and_counted() {
        let mut budget = MountRoom {
            left: 2 * (EACH + 100) + 50,
            left_out: 0,
        };
        assert!(budget.takes(100) && budget.takes(100));
        assert!(!budget.takes(100));
        assert!(!budget.takes(0), "none after one that was left out");
        assert_eq!(budget.left_out, 2);
    }
}
