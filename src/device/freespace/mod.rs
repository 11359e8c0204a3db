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
//!
//! **Whose word counts** (`eligible`): only that of a filesystem that lies on this very disk, with
//! nothing between and nothing else on the same bytes. **When it counts**: after the answer, three
//! witnesses are heard. The filesystem has not given up (`health`); the superblock on the disk,
//! at the place where the filesystem is believed to begin, is that of the mounted one and no
//! larger than its place (`superblock`); and the filesystem's own count of free space
//! (`statfs`) is not smaller than what its map calls free. A filesystem that fails one is not
//! believed: all of it is copied, and it is said.

mod eligible;
mod health;
mod map;
mod superblock;

pub(super) use self::eligible::TYPES;
use self::eligible::{Eligible, eligible};
use self::map::FreeMap;
use self::superblock::Superblock;
use super::filesystem::{Filesystem, Mounts};
use super::host::Host;
use super::table::NoTables;
use super::topology::Topology;
use crate::error::{Error, IoContext, Result};
use crate::model::{BlockSet, Bytes, DevNumber, Extent};
use crate::sys::fsinfo::counts;
use crate::sys::fsmap::Reader;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How often a filesystem is asked whose counts did not agree: it is in use meanwhile.
const MAX_ASKED: u32 = 3;
/// How much more its map may call free than it counts: what is allocated and not written yet
/// (delayed) is taken off the count, and not off the map.
const DELAYED: u64 = 64 << 20;
/// The same as a share of its size.
const DELAYED_SHARE: u64 = 64;
/// xfs takes reserves for its trees off the count (`xfs_ag_resv_init`): with all features 3 to 4 %.
const XFS_RESERVES: u64 = 16;

/// What the mounted filesystems of a disk say of its free space.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FreeSpace {
    /// The blocks of the disk that lie wholly in free space.
    pub blocks: BlockSet,
    /// The parts of the disk of which filesystems have told all: what is not free there is in use.
    pub told: Vec<Extent>,
    /// The filesystems that could tell and are not believed: all of them is copied.
    pub doubts: Vec<FreeDoubt>,
}

/// Why a filesystem is not believed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FreeDoubt {
    /// The filesystem and the reason, in words.
    pub what: String,
    /// Something is wrong with the filesystem itself, that its owner must know.
    pub is_alarming: bool,
}

impl FreeSpace {
    /// These blocks, beyond doubt.
    pub fn of(blocks: BlockSet) -> Self {
        Self {
            blocks,
            ..Self::default()
        }
    }
}

/// Asks all mounted filesystems, as they are mounted now, which blocks of that disk are free.
///
/// # Errors
/// When the host cannot be looked at, or a filesystem that is whole cannot be asked.
pub fn free_space(host: &Host, disk: DevNumber) -> Result<FreeSpace> {
    let topology = Topology::scan(host, &NoTables)?;
    let mounts = Mounts::read(host, &topology)?;
    let mut all = FreeSpace::default();
    for filesystem in mounts.filesystems() {
        match free_blocks(host, &topology, filesystem, disk)? {
            Answer::Silent => {}
            Answer::Free(blocks) => {
                all.blocks.add(&blocks);
                all.told
                    .extend(filesystem.direct.map(|direct| direct.place));
            }
            Answer::Doubtful(doubt) => all.doubts.push(doubt),
        }
    }
    Ok(all)
}

/// What became of asking one filesystem.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It has nothing to say of that disk.
    Silent,
    /// These blocks of the disk are free.
    Free(BlockSet),
    /// It is not believed.
    Doubtful(FreeDoubt),
}

/// Asks one filesystem which blocks of `disk` are free.
///
/// # Errors
/// When it cannot be opened or synced, or its map is broken off, and it is whole.
pub fn free_blocks(
    host: &Host,
    topology: &Topology,
    filesystem: &Filesystem,
    disk: DevNumber,
) -> Result<Answer> {
    let name = topology.device(filesystem.dev);
    let name = name.map_or("", |device| device.name.as_str());
    let place = match eligible(topology, filesystem, disk) {
        Eligible::Yes(place) => place,
        Eligible::No => return Ok(Answer::Silent),
        Eligible::ReadOnly => {
            let errors = health::has_errors(host, name);
            return Ok(errors.map_or(Answer::Silent, |why| {
                Answer::Doubtful(doubt(filesystem, &why, true))
            }));
        }
        Eligible::Shared(other) => {
            let why = format!("{other} lies on the same bytes");
            return Ok(Answer::Doubtful(doubt(filesystem, &why, false)));
        }
    };
    let Some(device) = topology.disk(disk) else {
        return Ok(Answer::Silent);
    };
    let asked = Asked {
        host,
        filesystem,
        device: &device.path,
        place,
        disk_size: device.identity.size,
    };
    let answer = asked.ask();
    // Last: a filesystem that gave up while it was asked has answered nothing.
    if let Some(why) = health::given_up(host, filesystem, name) {
        return Ok(Answer::Doubtful(doubt(filesystem, &why, true)));
    }
    answer
}

fn doubt(filesystem: &Filesystem, why: &str, is_alarming: bool) -> FreeDoubt {
    let (fstype, target) = (&filesystem.fstype, filesystem.target().display());
    FreeDoubt {
        what: format!("{target} ({fstype}): {why}: its free space is copied too"),
        is_alarming,
    }
}

/// A filesystem that is asked.
struct Asked<'a> {
    host: &'a Host,
    filesystem: &'a Filesystem,
    device: &'a Path,
    place: Extent,
    disk_size: Bytes,
}

impl Asked<'_> {
    fn ask(&self) -> Result<Answer> {
        let Some((path, root)) = open(self.host, self.filesystem) else {
            return Ok(Answer::Silent);
        };
        let mut answer = Answer::Silent;
        for _ in 0..MAX_ASKED {
            let before = counts(&root).io_context("look at", &path)?.free;
            let Some(map) = self.map(&root, &path)? else {
                return Ok(Answer::Silent);
            };
            nix::unistd::syncfs(&root).io_context("sync", &path)?;
            let after = counts(&root).io_context("look at", &path)?.free;
            let superblock = Superblock::read(self.device, self.place);
            let superblock = superblock.io_context("read", self.device)?;
            match self.contradiction(&map, superblock, (before.max(after), &root))? {
                None => return Ok(Answer::Free(map.finish())),
                Some(why) => answer = Answer::Doubtful(doubt(self.filesystem, &why, true)),
            }
        }
        Ok(answer)
    }

    /// All records of its map; `None` where it has no such map.
    fn map(&self, root: &File, path: &Path) -> Result<Option<FreeMap>> {
        let mut map = FreeMap::new(self.place, self.disk_size, self.filesystem.dev);
        let mut reader = Reader::new(root.as_fd());
        loop {
            match reader.next_batch() {
                Ok([]) => return Ok(Some(map)),
                Ok(records) => records.iter().for_each(|record| map.add(record)),
                Err(error) => {
                    return match error.raw_os_error() {
                        Some(libc::EOPNOTSUPP | libc::ENOTTY) => Ok(None),
                        _ => Err(Error::io("read the free space of", path, error)),
                    };
                }
            }
            if !reader.devices_are_numbers() {
                return Ok(None);
            }
        }
    }

    /// What another witness says against the map.
    fn contradiction(
        &self,
        map: &FreeMap,
        superblock: Option<Superblock>,
        (counted, root): (Bytes, &File),
    ) -> Result<Option<String>> {
        let Some(superblock) = superblock else {
            let place = self.place.offset;
            return Ok(Some(format!(
                "no superblock of it stands at {place} of the disk"
            )));
        };
        if superblock.errors {
            return Ok(Some(
                "it has noted errors, and was not checked since".into(),
            ));
        }
        let differs = superblock
            .differs(root)
            .io_context("look at", self.device)?;
        if differs.is_some() {
            return Ok(differs);
        }
        if superblock.size > self.place.length || map.end() > self.place.length {
            return Ok(Some("it is larger than the place that it lies in".into()));
        }
        let size = self.place.length.0;
        let reserves = if superblock.xfs {
            size / XFS_RESERVES
        } else {
            0
        };
        let most = counted.0 + DELAYED.min(size / DELAYED_SHARE).max(DELAYED / 16) + reserves;
        Ok((map.bytes().0 > most).then(|| {
            let free = map.bytes();
            format!("its map calls {free} free, but it counts {counted}")
        }))
    }
}

/// The filesystem's folder, told from whatever else may be mounted there by now. Reading it leaves
/// no trace: what is written out soon after must not have been made dirty by a look.
pub(super) fn open(host: &Host, filesystem: &Filesystem) -> Option<(PathBuf, File)> {
    filesystem.open_paths(host).into_iter().find_map(|path| {
        let root = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOATIME)
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
