//! Which blocks of a disk a mounted filesystem does not use, so that they need not be copied. It
//! must never call a block free whose bytes the filesystem could ever want back.
//!
//! The kernel is asked with `FS_IOC_GETFSMAP`; what it calls free was checked against its sources
//! (`fs/ext4/fsmap.c`, `fs/ext4/mballoc.c`, `fs/xfs/xfs_fsmap.c`).
//!
//! **The rule for callers**: start the tracker's epoch, *then* ask, then cut. A block that is free
//! when asked and written afterwards is seen by the tracker.
//!
//! ext4:
//! - The answer comes from the allocator's in-memory bitmap (`ext4_mballoc_query_range` reads
//!   `bd_bitmap`). In it, preallocated blocks and blocks freed by a transaction that has not
//!   committed are in use (`ext4_mb_generate_from_pa`, `ext4_mb_generate_from_freelist`; newer
//!   kernels pin the bitmap instead of making it again). They become free in the commit's
//!   callback, so a crash cannot bring a free block's owner back.
//! - Journalled blocks (metadata, `data=journal`) that are still to be written to their place were
//!   allocated before and are in use; freed ones are revoked and never replayed.
//! - Groups whose bitmap was never initialised (`BLOCK_UNINIT`) get one when loaded, in which the
//!   superblock's copies, descriptors, bitmaps and inode tables are in use; `flex_bg` puts those
//!   into groups whose bitmaps are initialised. Reserved descriptor blocks are in use too.
//! - `bigalloc` counts clusters: one is free only when none of its blocks is used.
//! - Blocks reserved for root, or for delayed allocation, are a number, not places: free until
//!   allocated, and then written, which the tracker sees.
//!
//! xfs:
//! - With a reverse-mapping tree, free is what has no owner; without, what is in the tree of free
//!   space by block, and the rest is of unknown owner. Blocks in the allocator's own free list are
//!   in use either way. A new owner enters the reverse-mapping tree in the same chain of
//!   transactions that allocates, before the data is submitted, so its write comes after the
//!   answer and is tracked.
//! - **These trees show a free as soon as its transaction is in memory.** Until the log is on the
//!   disk, a crash brings the owner back. A freeze forces the log; for a cut without one, so does
//!   the `syncfs` that follows the question here (`xfs_fs_sync_fs`).
//! - Files on a realtime device have records of their own device and say nothing about this one.
//!   Where devices are not told by number (a zoned xfs with its realtime part inside), nothing is
//!   taken.
//!
//! As a second line of defence, a block that any other record touches is never free, and
//! filesystems mounted read-only are not asked: with `norecovery` their log may know better.

use super::filesystem::Filesystem;
use super::host::Host;
use crate::error::{Error, IoContext, Result};
use crate::model::{BlockSet, Bytes, DevNumber, Extent};
use crate::sys::fsmap::{Reader, Record, encode_device};
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// The types whose map is understood here; ext4's driver mounts ext2 and ext3 too.
const TYPES: &[&str] = &["ext2", "ext3", "ext4", "xfs"];

/// The blocks of its disk, of `disk_size`, that lie wholly in free space of that filesystem.
/// `None` when it cannot be told: not directly on a disk, read-only, or without such a map.
///
/// # Errors
/// When the filesystem cannot be opened or synced, or its map is broken off.
pub fn free_blocks(
    host: &Host,
    filesystem: &Filesystem,
    disk_size: Bytes,
) -> Result<Option<BlockSet>> {
    let Some(direct) = filesystem.direct else {
        return Ok(None);
    };
    if filesystem.read_only || !TYPES.contains(&filesystem.fstype.as_str()) {
        return Ok(None);
    }
    let Some((path, root)) = open(host, filesystem) else {
        return Ok(None);
    };
    let mut space = FreeSpace::new(direct.place, disk_size, filesystem.dev);
    let mut reader = Reader::new(root.as_fd());
    loop {
        match reader.next_batch() {
            Ok([]) => break,
            Ok(records) => records.iter().for_each(|record| space.add(record)),
            Err(error) => {
                return match error.raw_os_error() {
                    Some(libc::EOPNOTSUPP | libc::ENOTTY) => Ok(None),
                    _ => Err(Error::io("read the free space of", &path, error)),
                };
            }
        }
        if !reader.devices_are_numbers() {
            return Ok(None);
        }
    }
    nix::unistd::syncfs(&root).io_context("sync", &path)?;
    Ok(Some(space.finish()))
}

/// The filesystem's folder, told from whatever else may be mounted there by now.
fn open(host: &Host, filesystem: &Filesystem) -> Option<(PathBuf, File)> {
    filesystem.open_paths(host).into_iter().find_map(|path| {
        let root = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(&path)
            .ok()?;
        let dev = root.metadata().ok()?.dev();
        let dev = DevNumber {
            major: libc::major(dev),
            minor: libc::minor(dev),
        };
        (dev == filesystem.dev).then_some((path, root))
    })
}

/// Collects records into blocks.
struct FreeSpace {
    place: Extent,
    disk_size: Bytes,
    device: u32,
    free: BlockSet,
    used: BlockSet,
    /// Free bytes of the device, from and to, that the next record may continue.
    run: (u64, u64),
}

impl FreeSpace {
    fn new(place: Extent, disk_size: Bytes, dev: DevNumber) -> Self {
        Self {
            place,
            disk_size,
            device: encode_device(dev.major, dev.minor),
            free: BlockSet::new(),
            used: BlockSet::new(),
            run: (0, 0),
        }
    }

    fn add(&mut self, record: &Record) {
        if record.device != self.device {
            return;
        }
        let end = record.physical.saturating_add(record.length);
        if !record.is_free() {
            if let Some(extent) = self.on_disk(record.physical, end.min(self.place.length.0)) {
                self.used.insert_touched(extent);
            }
        } else if record.physical == self.run.1 {
            self.run.1 = end;
        } else {
            self.end_run();
            self.run = (record.physical, end);
        }
    }

    /// Where bytes of the device are on the disk; `None` for what is not inside it.
    fn on_disk(&self, start: u64, end: u64) -> Option<Extent> {
        let inside = start < end && end <= self.place.length.0;
        let extent = inside
            .then(|| Extent::new(self.place.offset + Bytes(start), Bytes(end) - Bytes(start)))?;
        (extent.end() <= self.disk_size).then_some(extent)
    }

    fn end_run(&mut self) {
        let (start, end) = std::mem::take(&mut self.run);
        if let Some(extent) = self.on_disk(start, end) {
            self.free.insert_inside(extent, self.disk_size);
        }
    }

    fn finish(mut self) -> BlockSet {
        self.end_run();
        self.free.remove(&self.used);
        self.free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BLOCK_SIZE;

    const DEV: DevNumber = DevNumber { major: 8, minor: 1 };
    const B: u64 = BLOCK_SIZE;

    /// On a partition 4 KiB past a block's edge, of 100 blocks, on a disk of 200.
    fn free(records: &[(bool, u64, u64)]) -> BlockSet {
        let place = Extent::new(Bytes(4096), Bytes(100 * B));
        let mut space = FreeSpace::new(place, Bytes(200 * B), DEV);
        for (free, physical, length) in records {
            space.add(&Record {
                device: encode_device(8, 1),
                flags: Record::SPECIAL_OWNER,
                physical: *physical,
                owner: if *free { Record::OWNER_FREE } else { 3 },
                length: *length,
                ..Record::default()
            });
        }
        space.finish()
    }

    #[test]
    fn neighbours_make_whole_blocks_together() {
        assert_eq!(
            free(&[(true, 0, B), (true, B, B)]),
            BlockSet::from_range(1..2)
        );
        assert_eq!(free(&[(true, 0, B)]), BlockSet::new());
        assert_eq!(free(&[(true, B - 4096, B)]), BlockSet::from_range(1..2));
        let apart = [(true, 0, B), (false, B, 4096), (true, B + 4096, B)];
        assert_eq!(free(&apart), BlockSet::new());
    }

    #[test]
    fn what_another_record_touches_is_not_free() {
        let overlap = [(true, 0, 10 * B), (false, 5 * B, 1)];
        let mut expected = BlockSet::from_range(1..10);
        expected.remove(&BlockSet::from_range(5..6));
        assert_eq!(free(&overlap), expected);
    }

    #[test]
    fn nothing_outside_the_partition_is_free() {
        assert_eq!(free(&[(true, 99 * B, 50 * B)]), BlockSet::new());
        assert_eq!(free(&[(true, u64::MAX - 5, u64::MAX)]), BlockSet::new());
        let other = Record {
            device: encode_device(8, 2),
            flags: Record::SPECIAL_OWNER,
            owner: Record::OWNER_FREE,
            length: 50 * B,
            ..Record::default()
        };
        let place = Extent::new(Bytes(0), Bytes(100 * B));
        let mut space = FreeSpace::new(place, Bytes(200 * B), DEV);
        space.add(&other);
        assert_eq!(space.finish(), BlockSet::new());
    }
}
