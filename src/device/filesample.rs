//! A second look at free space: where some files of a disk lie, by their own maps of extents
//! (`FS_IOC_FIEMAP`) and not by the allocator's (`FS_IOC_GETFSMAP`). No such block can be free.
//! It opens a few regular files and directories, picked at random, and never another mount's.

use super::filesystem::{Direct, Filesystem};
use super::freespace::{TYPES, open};
use super::host::Host;
use super::mounts::Mounts;
use super::table::NoTables;
use super::topology::Topology;
use crate::error::Result;
use crate::model::{BlockSet, Bytes, DevNumber, Extent};
use crate::sys::fiemap::first_extents;
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// Reading moves no time of access: a look must not make a filesystem dirty.
const NO_TRACE: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NOATIME);
/// How many files of each filesystem are looked for, besides those that loop devices show.
const WALKS: u32 = 24;
/// Deepest folder that is looked into.
const DEPTH: u32 = 24;
/// Most names of a folder among which one is picked.
const MOST_NAMES: usize = 1024;
/// Most files behind loop devices that are looked at.
const MOST_LOOPS: usize = 64;

/// The blocks of `disk` in which some files lie that are on it directly. `random` picks a number
/// below its argument.
///
/// # Errors
/// When the host cannot be looked at. A file that cannot be is passed over.
pub fn blocks_of_files(
    host: &Host,
    disk: DevNumber,
    random: &dyn Fn(u64) -> u64,
) -> Result<BlockSet> {
    let topology = Topology::scan(host, &NoTables)?;
    let mounts = Mounts::read(host, &topology)?;
    let mut blocks = BlockSet::new();
    for filesystem in mounts.filesystems() {
        let direct = filesystem.direct.filter(|direct| direct.disk == disk);
        let known = TYPES.contains(&filesystem.fstype.as_str());
        let Some(direct) = direct.filter(|_| known) else {
            continue;
        };
        let Some((_, root)) = open(host, filesystem) else {
            continue;
        };
        let files = (0..WALKS).filter_map(|_| walk(&root, random));
        for file in files.chain(shown_by_loops(&topology, filesystem)) {
            add(&mut blocks, &file, direct);
        }
    }
    Ok(blocks)
}

/// The blocks of the disk in which a file's bytes lie.
fn add(blocks: &mut BlockSet, file: &File, direct: Direct) {
    let Ok(extents) = first_extents(file) else {
        return;
    };
    for extent in extents
        .iter()
        .filter(|extent| extent.certain && extent.written)
    {
        let end = extent.place.offset.0.saturating_add(extent.place.length.0);
        if extent.place.length > Bytes(0) && end <= direct.place.length.0 {
            let offset = direct.place.offset + extent.place.offset;
            blocks.insert_touched(Extent::new(offset, extent.place.length));
        }
    }
}

/// Goes down from a filesystem's root, at random, to a regular file.
fn walk(root: &File, random: &dyn Fn(u64) -> u64) -> Option<File> {
    let mut folder: OwnedFd = root.try_clone().ok()?.into();
    let device = root.metadata().ok()?.dev();
    for _ in 0..DEPTH {
        let name = pick(&folder, random)?;
        // Nothing is mounted by looking, and no link is followed.
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_NO_AUTOMOUNT;
        let found: FileStat = fstatat(&folder, name.as_c_str(), flags).ok()?;
        if found.st_dev != device {
            return None;
        }
        let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
        let common = NO_TRACE | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        if kind == SFlag::S_IFDIR {
            let flags = common | OFlag::O_DIRECTORY;
            folder = openat(&folder, name.as_c_str(), flags, Mode::empty()).ok()?;
        } else if kind == SFlag::S_IFREG {
            let file = openat(&folder, name.as_c_str(), common, Mode::empty()).ok()?;
            return Some(File::from(file));
        } else {
            return None;
        }
    }
    None
}

/// One of the names in a folder, each of the first ones as likely as any other.
fn pick(folder: &OwnedFd, random: &dyn Fn(u64) -> u64) -> Option<CString> {
    // A descriptor of its own: reading a folder moves its place.
    let flags = NO_TRACE | OFlag::O_DIRECTORY;
    let own = openat(folder.as_fd(), c".", flags, Mode::empty()).ok()?;
    let mut names: Vec<CString> = Vec::new();
    for entry in Dir::from_fd(own).ok()?.iter().take(MOST_NAMES) {
        let name = entry.ok()?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    let at = usize::try_from(random(names.len() as u64)).ok()?;
    names.into_iter().nth(at)
}

/// The files on a filesystem that loop devices show: what lies in them may have free space of its
/// own, at other places.
fn shown_by_loops<'a>(
    topology: &'a Topology,
    filesystem: &'a Filesystem,
) -> impl Iterator<Item = File> + 'a {
    let shown = topology.devices().filter_map(move |device| {
        let shown = device.loop_file?;
        if shown.device != filesystem.dev {
            return None;
        }
        let path = device.backing_file.as_deref()?;
        // Looked at before it is opened: a device's node may do something when it is.
        if !fs::symlink_metadata(path).ok()?.is_file() {
            return None;
        }
        let mut options = OpenOptions::new();
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOATIME;
        let file = options.read(true).custom_flags(flags).open(path).ok()?;
        let found = file.metadata().ok()?;
        (found.is_file() && found.ino() == shown.inode).then_some(file)
    });
    shown.take(MOST_LOOPS)
}
