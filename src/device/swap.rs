//! What is swapped to now: devices, and files. Neither holds anything that anyone wants back, and
//! no freeze stops the kernel from writing there. It only looks.

use super::disk::Disk;
use super::filesystem::Filesystem;
use super::host::Host;
use super::kind::DeviceKind;
use super::layout::HostLayout;
use super::mounts::Mounts;
use super::table::NoTables;
use super::topology::Topology;
use crate::error::Result;
use crate::model::{Bytes, DevNumber, Extent};
use crate::sys::fiemap::{FileExtent, file_extents};
use crate::sys::mountinfo;
use serde::Serialize;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A device that is swapped to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Swap {
    /// The device.
    pub dev: DevNumber,
    /// Bytes on it that swap may fill, its header page included.
    pub length: Bytes,
}

/// Bytes at the start of a swap area that are kept: its header is one page, and pages have at most
/// 64 KiB.
const SWAP_HEADER: u64 = 64 * 1024;

/// Smallest page, to be added to the size in `/proc/swaps`, which leaves the header out.
const SMALLEST_PAGE: u64 = 4096;

/// Types of which a file's place on the device is what `FS_IOC_FIEMAP` says; that of btrfs is not.
const TELL_PLACES: &[&str] = &["ext2", "ext3", "ext4", "xfs"];

/// A line of `/proc/swaps`.
struct Row {
    path: PathBuf,
    is_file: bool,
    length: Bytes,
}

fn rows(host: &Host) -> Vec<Row> {
    let table = Host::table(&host.proc.join("swaps")).unwrap_or_default();
    let row = |line: &[u8]| {
        let mut fields = line
            .split(|byte| byte.is_ascii_whitespace())
            .filter(|field| !field.is_empty());
        let (name, kind, size) = (fields.next()?, fields.next()?, fields.next()?);
        let kib: u64 = std::str::from_utf8(size).ok()?.parse().ok()?;
        Some(Row {
            path: mountinfo::path(name),
            is_file: kind == b"file",
            length: Bytes(kib.saturating_mul(1024).saturating_add(SMALLEST_PAGE)),
        })
    };
    let lines = table.split(|byte| *byte == b'\n').skip(1);
    lines.filter_map(row).collect()
}

/// The files that are swapped to, by the names they had.
pub(super) fn swap_files(host: &Host) -> Vec<PathBuf> {
    let files = rows(host).into_iter().filter(|row| row.is_file);
    files.map(|row| row.path).collect()
}

/// The devices that are swapped to; of swap files see [`swapped_now`].
pub fn swaps(host: &Host, topology: &Topology) -> Vec<Swap> {
    let devices = rows(host).into_iter().filter(|row| !row.is_file);
    let swap = |row: Row| {
        let device = topology.node_through_links(host, &row.path)?;
        Some(Swap {
            dev: device.dev,
            length: row.length.min(device.size),
        })
    };
    devices.filter_map(swap).collect()
}

/// The parts of `disk` that hold nothing but swapped-out memory, whose bytes no one needs later.
/// The header is not among them. Only swap directly on the disk or on a partition of it counts.
pub fn swapped_extents(topology: &Topology, swaps: &[Swap], disk: DevNumber) -> Vec<Extent> {
    let contents = |swap: &Swap| {
        let start = start_on(topology, swap.dev, disk)?;
        let length = swap.length.0.checked_sub(SWAP_HEADER).filter(|l| *l > 0)?;
        Some(Extent::new(Bytes(start.0 + SWAP_HEADER), Bytes(length)))
    };
    swaps.iter().filter_map(contents).collect()
}

/// Where on `disk` a device begins that is it, or a partition of it.
fn start_on(topology: &Topology, dev: DevNumber, disk: DevNumber) -> Option<Bytes> {
    let device = topology.device(dev)?;
    match device.kind {
        DeviceKind::Partition if device.parents == [disk] => Some(device.place?.offset),
        _ if device.dev == disk => Some(Bytes(0)),
        _ => None,
    }
}

/// The same of this moment, with the contents of swap files.
///
/// # Errors
/// When the devices or mounts cannot be listed.
pub fn swapped_now(host: &Host, disk: DevNumber) -> Result<Vec<Extent>> {
    let all = rows(host);
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let topology = Topology::scan(host, &NoTables)?;
    let mut extents = swapped_extents(&topology, &swaps(host, &topology), disk);
    let files: Vec<Row> = all.into_iter().filter(|row| row.is_file).collect();
    if !files.is_empty() {
        let mounts = Mounts::read(host, &topology)?;
        let located = files
            .iter()
            .filter_map(|file| contents(&mounts, file, disk));
        extents.extend(located.flatten());
    }
    Ok(extents)
}

impl HostLayout {
    /// What is swapped to on these disks in unknown places. Each write to such a disk counts: it
    /// may be one to a file.
    pub fn unlocated_swaps(&self, disks: &[Disk]) -> Vec<String> {
        let rows = rows(&self.host);
        let on_disk = |disk: &Disk| {
            let here = rows.iter().filter(|row| self.is_unlocated(row, disk.dev()));
            let here = here.map(|row| row.path.display().to_string());
            here.collect::<Vec<_>>()
        };
        disks.iter().flat_map(on_disk).collect()
    }

    fn is_unlocated(&self, row: &Row, disk: DevNumber) -> bool {
        if row.is_file {
            let filesystem = filesystem_with(&self.mounts, &row.path);
            return filesystem.is_some_and(|one| one.disks.contains(&disk))
                && contents(&self.mounts, row, disk).is_none();
        }
        let device = self.topology.node_through_links(&self.host, &row.path);
        device.is_some_and(|device| {
            self.topology.bottom(device.dev).contains(&disk)
                && start_on(&self.topology, device.dev, disk).is_none()
        })
    }
}

/// By the names of mounts: what is on a network is not touched.
fn filesystem_with<'a>(mounts: &'a Mounts, file: &Path) -> Option<&'a Filesystem> {
    mounts.filesystem(mounts.own.filesystem_of(file)?)
}

/// What an active swap file holds on a disk but its header; `None` when it is not there, or its
/// place is unknown.
fn contents(mounts: &Mounts, swap: &Row, disk: DevNumber) -> Option<Vec<Extent>> {
    let filesystem = filesystem_with(mounts, &swap.path)?;
    let direct = filesystem.direct.filter(|direct| direct.disk == disk)?;
    if !TELL_PLACES.contains(&filesystem.fstype.as_str()) {
        return None;
    }
    let mut options = OpenOptions::new();
    let options = options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(&swap.path).ok()?;
    let attributes = file.metadata().ok()?;
    let dev = DevNumber::from_dev_t(attributes.dev());
    if dev != filesystem.dev || !attributes.is_file() {
        return None;
    }
    let extents = file_extents(&file).ok()?;
    let pieces = pieces(&extents, swap.length)?;
    let on_disk = |piece: Extent| {
        let inside = piece.end() <= direct.place.length;
        inside.then(|| Extent::new(direct.place.offset + piece.offset, piece.length))
    };
    pieces.into_iter().map(on_disk).collect()
}

/// The places of a swap area of that length in a file, but for its header; neighbours are one, so
/// that no block between them is lost. `None` when a place is not certain.
fn pieces(extents: &[FileExtent], length: Bytes) -> Option<Vec<Extent>> {
    let mut pieces: Vec<Extent> = Vec::new();
    for extent in extents {
        if !extent.certain {
            return None;
        }
        let start = extent.logical.0.max(SWAP_HEADER);
        let end = extent.logical.0.checked_add(extent.place.length.0)?;
        let end = end.min(length.0);
        if start >= end {
            continue;
        }
        let place = extent
            .place
            .offset
            .0
            .checked_add(start - extent.logical.0)?;
        place.checked_add(end - start)?;
        match pieces.last_mut() {
            Some(last) if last.end().0 == place => last.length.0 += end - start,
            _ => pieces.push(Extent::new(Bytes(place), Bytes(end - start))),
        }
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: u64 = 1024;

    fn extent(logical: u64, physical: u64, length: u64) -> FileExtent {
        FileExtent {
            logical: Bytes(logical * K),
            place: Extent::new(Bytes(physical * K), Bytes(length * K)),
            certain: true,
            written: true,
        }
    }

    fn found(extents: &[FileExtent], length: u64) -> Option<Vec<(u64, u64)>> {
        let pieces = pieces(extents, Bytes(length * K))?.into_iter();
        let each = pieces.map(|piece| (piece.offset.0 / K, piece.length.0 / K));
        Some(each.collect())
    }

    #[test]
    fn a_swap_file_is_its_extents_without_the_header() {
        let file = [
            extent(0, 1000, 100),
            extent(100, 1100, 28),
            extent(128, 64, 64),
        ];
        assert_eq!(found(&file, 192), Some(vec![(1064, 64), (64, 64)]));
        assert_eq!(found(&file, 160), Some(vec![(1064, 64), (64, 32)]));
        assert_eq!(found(&file[..1], 48), Some(vec![]));
        let mut doubtful = file;
        doubtful[2].certain = false;
        assert_eq!(found(&doubtful, 192), None);
    }
}
