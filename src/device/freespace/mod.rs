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
//!   Where devices are not given by number (a zoned xfs with its realtime part inside), nothing is
//!   taken.
//!
//! As a second line of defence, a block that any other record touches is never free, and
//! filesystems mounted read-only are not asked: with `norecovery` their log may know better.
//!
//! **Whose word counts** (`eligible`): only that of a filesystem that lies on this very disk, with
//! nothing between and nothing else on the same bytes. **When it counts**: after the answer, three
//! witnesses are asked. The filesystem has not given up (`health`); the superblock on the disk,
//! at the place where the filesystem is believed to begin, is that of the mounted one and no
//! larger than its place (`superblock`); and an ext4's own count of free space (`statfs`, and what
//! is delayed) is not smaller than what its map calls free. A filesystem that fails one is not
//! believed: all of it is copied, with a warning.

mod eligible;
mod health;
mod records;
mod superblock;

pub(super) use self::eligible::TYPES;
use self::eligible::{Eligible, eligible};
use self::records::FreeMap;
use self::superblock::Superblock;
use super::filesystem::Filesystem;
use super::host::Host;
use super::mounts::Mounts;
use super::table::NoTables;
use super::topology::Topology;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::{BlockSet, Bytes, DevNumber, Extent};
use crate::sys::fsinfo::counts;
use crate::sys::fsmap::FsmapReader;
use crate::sys::machine::kernel_version;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How often a filesystem is asked whose counts did not agree: it is in use meanwhile.
const MAX_ASKED: u32 = 3;
/// How much more its map may call free than it counts: it is in use while it is asked.
const IN_USE: u64 = 64 << 20;
/// The same as a share of its size, but 4 MiB at least.
const IN_USE_SHARE: u64 = 64;

/// What the mounted filesystems of a disk say of its free space.
#[derive(Debug, Default)]
pub struct FreeSpace {
    /// The blocks of the disk that lie wholly in free space.
    pub blocks: BlockSet,
    /// The parts of the disk that these maps describe: what is not free there is in use.
    pub mapped: Vec<Extent>,
    /// The filesystems whose maps are not believed: all of them is copied.
    pub doubts: Vec<FreeDoubt>,
    /// The filesystems whose maps are believed, to be asked again while they are frozen.
    pub believed: Vec<Believed>,
}

/// Why a filesystem is not believed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FreeDoubt {
    /// The filesystem and the reason, for people.
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
        let (answer, believed) = ask(host, &topology, filesystem, disk)?;
        match answer {
            FreeAnswer::Silent => {}
            FreeAnswer::Free(blocks) => {
                all.blocks.add(&blocks);
                all.mapped
                    .extend(filesystem.direct.map(|direct| direct.place));
                all.believed.extend(believed);
            }
            FreeAnswer::Doubtful(doubt) => all.doubts.push(doubt),
        }
    }
    Ok(all)
}

/// What these filesystems call free while they are frozen. Nothing is opened, written out or waited
/// for: what holds a lock of a frozen filesystem may hold up its thaw.
///
/// # Errors
/// `Inconsistent`: the deadline passed. Else when a map is broken off.
pub fn free_while_frozen(believed: &[Believed], deadline: Instant) -> Result<BlockSet> {
    let mut free = BlockSet::new();
    for one in believed.iter().filter(|one| one.answers_frozen()) {
        let map = one
            .map(Some(deadline))
            .map_err(|error| match error.kind() {
                io::ErrorKind::TimedOut => Error::new(
                    ErrorKind::Inconsistent,
                    "what is free was not told before the deadline; no snapshot was made",
                ),
                _ => Error::io("read the free space of", &one.path, error),
            })?;
        free.add(&map.map_or_else(BlockSet::new, FreeMap::finish));
    }
    Ok(free)
}

/// What became of asking one filesystem.
#[derive(Clone, Debug, PartialEq)]
pub enum FreeAnswer {
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
/// When it cannot be synced, or its map is broken off, and it is whole.
pub fn free_blocks(
    host: &Host,
    topology: &Topology,
    filesystem: &Filesystem,
    disk: DevNumber,
) -> Result<FreeAnswer> {
    ask(host, topology, filesystem, disk).map(|(answer, _)| answer)
}

fn ask(
    host: &Host,
    topology: &Topology,
    filesystem: &Filesystem,
    disk: DevNumber,
) -> Result<(FreeAnswer, Option<Believed>)> {
    let name = topology.device(filesystem.dev);
    let name = name.map_or("", |device| device.name.as_str());
    let silent = |doubt: Option<FreeDoubt>| {
        let answer = doubt.map_or(FreeAnswer::Silent, FreeAnswer::Doubtful);
        Ok((answer, None))
    };
    let alarm = |why: Option<String>| why.map(|why| doubt(filesystem, &why, true));
    let place = match eligible(topology, filesystem, disk) {
        Eligible::Yes(place) => place,
        Eligible::No => return silent(None),
        Eligible::ReadOnly => return silent(alarm(health::has_errors(host, name))),
        Eligible::Shared(other) => {
            let why = format!("{other} lies on the same bytes");
            return silent(Some(doubt(filesystem, &why, false)));
        }
    };
    let Some(device) = topology.disk(disk) else {
        return silent(None);
    };
    let Some((path, root)) = open(host, filesystem) else {
        return silent(alarm(health::given_up(host, filesystem, name)));
    };
    let asked = FreeSpaceQuery {
        host,
        name,
        filesystem,
        device: &device.path,
        believed: Believed {
            root,
            path,
            place,
            disk_size: device.identity.size,
            dev: filesystem.dev,
            fstype: filesystem.fstype.clone(),
        },
    };
    let answer = asked.ask();
    // Last: a filesystem that gave up while it was asked has answered nothing.
    let errors = health::has_errors(host, name);
    if let Some(doubt) = alarm(errors.or_else(|| health::cannot_sync(&asked.believed.root))) {
        return silent(Some(doubt));
    }
    Ok((answer?, Some(asked.believed)))
}

fn doubt(filesystem: &Filesystem, why: &str, is_alarming: bool) -> FreeDoubt {
    let (fstype, target) = (&filesystem.fstype, filesystem.target().display());
    FreeDoubt {
        what: format!("{target} ({fstype}): {why}: its free space is copied too"),
        is_alarming,
    }
}

/// A filesystem that has said what is free on a disk, and may be asked again.
#[derive(Debug)]
pub struct Believed {
    root: File,
    path: PathBuf,
    place: Extent,
    disk_size: Bytes,
    dev: DevNumber,
    fstype: String,
}

impl Believed {
    /// All records of its map; `None` where it has no such map. `TimedOut`: the deadline passed.
    fn map(&self, deadline: Option<Instant>) -> io::Result<Option<FreeMap>> {
        let mut map = FreeMap::new(self.place, self.disk_size, self.dev);
        let mut reader = FsmapReader::new(self.root.as_fd());
        loop {
            match reader.next_batch() {
                Ok([]) => return Ok(Some(map)),
                Ok(records) => records.iter().for_each(|record| map.add(record)),
                Err(error) => {
                    return match error.raw_os_error() {
                        Some(libc::EOPNOTSUPP | libc::ENOTTY) => Ok(None),
                        _ => Err(error),
                    };
                }
            }
            if !reader.devices_are_numbers() {
                return Ok(None);
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// An xfs before 5.13 keeps the caller waiting until it is thawed (`xfs_getfsmap`, before
    /// "xfs: drop freeze protection when running GETFSMAP").
    fn answers_frozen(&self) -> bool {
        self.fstype != "xfs" || kernel_version().is_some_and(|version| version >= (5, 13))
    }
}

/// A filesystem that is asked.
struct FreeSpaceQuery<'a> {
    host: &'a Host,
    name: &'a str,
    filesystem: &'a Filesystem,
    device: &'a Path,
    believed: Believed,
}

impl FreeSpaceQuery<'_> {
    fn ask(&self) -> Result<FreeAnswer> {
        let Believed {
            root, path, place, ..
        } = &self.believed;
        let mut answer = FreeAnswer::Silent;
        for _ in 0..MAX_ASKED {
            let before = self.counted()?;
            let map = match self.believed.map(None) {
                Ok(Some(map)) => map,
                Ok(None) => return Ok(FreeAnswer::Silent),
                // A damaged tree: what else is wrong with it, nobody knows.
                Err(error) if health::is_broken(&error) => {
                    let why = format!("its map of free space cannot be read ({error}; check it)");
                    return Ok(FreeAnswer::Doubtful(doubt(self.filesystem, &why, true)));
                }
                Err(error) => return Err(Error::io("read the free space of", path, error)),
            };
            nix::unistd::syncfs(root).io_context("sync", path)?;
            let after = self.counted()?;
            let superblock = Superblock::read(self.device, *place);
            let superblock = superblock.io_context("read", self.device)?;
            match self.contradiction(&map, superblock, before.max(after))? {
                None => return Ok(FreeAnswer::Free(map.finish())),
                Some(why) => answer = FreeAnswer::Doubtful(doubt(self.filesystem, &why, true)),
            }
        }
        Ok(answer)
    }

    /// What an ext4 counts as free, and as free in its map: what is to be allocated when it is
    /// written (delayed) is off the count of `statfs`. `None` where that says something else: xfs
    /// takes reserves and what it allocates ahead off it, too, and a quota of the folder stands in
    /// for the whole.
    fn counted(&self) -> Result<Option<Bytes>> {
        let Believed {
            root, path, place, ..
        } = &self.believed;
        if self.believed.fstype == "xfs" {
            return Ok(None);
        }
        let space = counts(root).io_context("look at", path)?;
        let folder = self.host.sys.join("fs/ext4").join(self.name);
        let delayed = Host::number(&folder.join("delayed_allocation_blocks"));
        let delayed = delayed.map(|blocks| blocks.saturating_mul(space.unit));
        let is_whole = space.all.0 > place.length.0 / 2;
        Ok(delayed
            .filter(|_| is_whole)
            .map(|delayed| Bytes(space.free.0.saturating_add(delayed))))
    }

    /// What another witness says against the map.
    fn contradiction(
        &self,
        map: &FreeMap,
        superblock: Option<Superblock>,
        counted: Option<Bytes>,
    ) -> Result<Option<String>> {
        let Believed { root, place, .. } = &self.believed;
        let Some(superblock) = superblock else {
            let place = place.offset;
            return Ok(Some(format!(
                "no superblock of it stands at {place} of the disk"
            )));
        };
        if superblock.errors {
            return Ok(Some(
                "it has noted errors, and was not checked since".into(),
            ));
        }
        let differs = superblock.differs(root);
        let differs = differs.io_context("look at", self.device)?;
        if differs.is_some() {
            return Ok(differs);
        }
        if superblock.size > place.length || map.end() > place.length {
            return Ok(Some("it is larger than the place that it lies in".into()));
        }
        let in_use = (place.length.0 / IN_USE_SHARE).clamp(IN_USE / 16, IN_USE);
        let free = map.bytes();
        let more = counted.filter(|counted| free.0 > counted.0.saturating_add(in_use));
        Ok(more.map(|counted| format!("its map calls {free} free, but it counts {counted}")))
    }
}

/// The filesystem's root directory, by a path that may lead to another filesystem by now, which is
/// checked. Reading it leaves no trace: it must not make dirty what is written out soon after.
pub(super) fn open(host: &Host, filesystem: &Filesystem) -> Option<(PathBuf, File)> {
    filesystem.open_paths(host).into_iter().find_map(|path| {
        let root = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOATIME)
            .open(&path)
            .ok()?;
        let dev = root.metadata().ok()?.dev();
        let dev = DevNumber::from_dev_t(dev);
        (dev == filesystem.dev).then_some((path, root))
    })
}
