//! The journal of an ext3 or ext4 that lies on another device, which no mount table shows.
//! `/proc/fs/jbd2` names each open journal by its device. The filesystem that a journal belongs to
//! is found by the thread that writes it, whose name is the journal's, or by the superblocks. A
//! device is opened, for reading, only where nothing else shows it.

use super::host::Host;
use super::mountinfo::MountEntry;
use super::name::node_name;
use super::topology::{Device, Topology};
use crate::model::DevNumber;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};

/// Where the superblock lies: `Documentation/filesystems/ext4/super.rst`, and the same for the
/// positions in it.
const SUPERBLOCK: u64 = 1024;
const MAGIC: u32 = 0xef53;
/// `COMPAT_HAS_JOURNAL`.
const HAS_JOURNAL: u32 = 0x4;
/// `INCOMPAT_JOURNAL_DEV`.
const IS_JOURNAL: u32 = 0x8;

/// Where a filesystem's journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JournalPlace {
    /// In itself, or nowhere.
    Within,
    /// On another device.
    On(DevNumber),
    /// On another device; which one is unknown.
    Unknown,
}

/// The journals that are open on this host.
#[derive(Debug, Default)]
pub(super) struct Journals {
    /// Devices whose filesystems have theirs within.
    within: BTreeSet<DevNumber>,
    /// Devices that are journals.
    apart: BTreeSet<DevNumber>,
    /// Whether these are all.
    complete: bool,
}

impl Journals {
    /// Looks into `/proc/fs/jbd2`: `sda1-8` is the journal in inode 8 of the filesystem on `sda1`,
    /// `sdb` is one that has `sdb` to itself (`jbd2_journal_init_inode`, `jbd2_journal_init_dev`).
    pub(super) fn find(host: &Host, topology: &Topology) -> Self {
        let Ok(names) = Host::names(&host.proc.join("fs/jbd2")) else {
            return Self::default();
        };
        let mut found = Self {
            complete: true,
            ..Self::default()
        };
        let number = |name: &str| topology.named(name).map(|device| device.dev);
        for name in names {
            let Some(name) = name.to_str() else { continue };
            if let Some(dev) = number(name) {
                found.apart.insert(dev);
            } else if let Some(dev) = name.rsplit_once('-').and_then(|(name, _)| number(name)) {
                found.within.insert(dev);
            }
        }
        found
    }

    /// Where the journal of a mounted filesystem is.
    pub(super) fn of(&self, host: &Host, topology: &Topology, entry: &MountEntry) -> JournalPlace {
        let may_have_one = ["ext3", "ext4"].contains(&entry.fstype.as_str());
        let none_apart = self.complete && self.apart.is_empty();
        if !may_have_one || none_apart || self.within.contains(&entry.dev) {
            return JournalPlace::Within;
        }
        if let Some(place) = self.by_thread(host, topology, entry.dev) {
            return place;
        }
        let read = |dev: DevNumber| ExtSuperblock::read(host, topology.device(dev)?);
        let Some(own) = read(entry.dev) else {
            // Where nothing says that there is one, one that cannot be asked is as most are.
            return match self.apart.is_empty() {
                true => JournalPlace::Within,
                false => JournalPlace::Unknown,
            };
        };
        if !own.has_journal_apart() {
            return JournalPlace::Within;
        }
        // The number is that of when it was mounted, unless it may not be written to; so it is the
        // journal's own name that decides.
        let mut candidates = vec![own.journal_device()];
        candidates.extend(&self.apart);
        let is_it = |dev: &DevNumber| read(*dev).is_some_and(|other| own.names(&other));
        let found: BTreeSet<DevNumber> = candidates.into_iter().filter(is_it).collect();
        match (found.first(), found.len()) {
            (Some(dev), 1) => JournalPlace::On(*dev),
            _ => JournalPlace::Unknown,
        }
    }
}

impl Journals {
    /// By the thread that writes it, `jbd2/sdb`, on kernels that say which one that is.
    fn by_thread(&self, host: &Host, topology: &Topology, dev: DevNumber) -> Option<JournalPlace> {
        let name = &topology.device(dev)?.name;
        let thread = Host::text(&host.sys.join("fs/ext4").join(name).join("journal_task"))?;
        if thread == "<none>" {
            return Some(JournalPlace::Within);
        }
        let comm = Host::text(&host.proc.join(thread).join("comm"))?;
        // One that was cut short (`TASK_COMM_LEN`) may be the start of another's name.
        let name = comm.strip_prefix("jbd2/").filter(|_| comm.len() < 15)?;
        let journal = topology.named(name)?.dev;
        self.apart
            .contains(&journal)
            .then_some(JournalPlace::On(journal))
    }
}

/// The superblock of a filesystem, or of a journal on a device of its own.
struct ExtSuperblock([u8; 1024]);

impl ExtSuperblock {
    fn read(host: &Host, device: &Device) -> Option<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(libc::O_NONBLOCK);
        let file = options.open(host.dev.join(node_name(&device.name))).ok()?;
        let found = file.metadata().ok()?;
        let number = DevNumber::from_dev_t(found.rdev());
        // On a recorded host it is a plain file.
        if found.file_type().is_block_device() && number != device.dev {
            return None;
        }
        let mut bytes = [0; 1024];
        file.read_exact_at(&mut bytes, SUPERBLOCK).ok()?;
        let superblock = Self(bytes);
        (superblock.word(0x38) & 0xffff == MAGIC).then_some(superblock)
    }

    fn word(&self, at: usize) -> u32 {
        let bytes = self.0.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    fn has_journal_apart(&self) -> bool {
        let (compatible, inode) = (self.word(0x5c), self.word(0xe0));
        compatible & HAS_JOURNAL != 0 && inode == 0
    }

    /// `new_decode_dev` in `include/linux/kdev_t.h`.
    fn journal_device(&self) -> DevNumber {
        let number = self.word(0xe4);
        DevNumber {
            major: (number & 0xf_ff00) >> 8,
            minor: (number & 0xff) | ((number >> 12) & 0xf_ff00),
        }
    }

    /// Whether another one is the journal that this one names.
    fn names(&self, other: &Self) -> bool {
        let journal = self.0.get(0xd0..0xe0);
        let is_journal = other.word(0x60) & IS_JOURNAL != 0;
        is_journal && journal == other.0.get(0x68..0x78) && journal != Some(&[0; 16])
    }
}
