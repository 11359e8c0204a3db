//! Which bytes of a disk the kernel swaps to at this moment: on devices, and in files. It only
//! looks.

use super::disk::Disk;
use super::filesystem::Filesystem;
use super::host::Host;
use super::layout::HostLayout;
use super::mounts::Mounts;
use super::swap::{Row, SWAP_HEADER, rows, start_on, swapped_extents};
use super::swap_witness::witnessed_swaps;
use super::table::NoTables;
use super::topology::Topology;
use crate::error::Result;
use crate::model::{Bytes, DevNumber, Extent};
use crate::sys::fiemap::{FileExtent, file_extents};
use crate::sys::swap_file::is_swapped_to;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Types of which a file's place on the device is what `FS_IOC_FIEMAP` says; that of btrfs is not.
const TELL_PLACES: &[&str] = &["ext2", "ext3", "ext4", "xfs"];

/// The parts of `disk` that hold nothing but swapped-out memory, in files too. The table's names
/// are those of the namespace in which each was switched on, and of mounts that another may hide
/// by now: a device or file with such a name counts only if it says itself that it is swapped to.
///
/// # Errors
/// When the devices or mounts cannot be listed.
pub fn swapped_now(host: &Host, disk: DevNumber) -> Result<Vec<Extent>> {
    let all = rows(host);
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let topology = Topology::scan(host, &NoTables)?;
    let mounts = Mounts::read(host, &topology)?;
    let devices = witnessed_swaps(host, &topology, &mounts);
    let mut extents = swapped_extents(&topology, &devices, disk);
    let files: Vec<Row> = all.into_iter().filter(|row| row.is_file).collect();
    let alone = |file: &&Row| files.iter().filter(|one| one.path == file.path).count() == 1;
    let located = files
        .iter()
        .filter(alone)
        .filter_map(|file| contents(&mounts, file, disk));
    extents.extend(located.flatten());
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
    // For writing only so that the kernel answers whether it swaps there.
    let options = options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(&swap.path).ok()?;
    let attributes = file.metadata().ok()?;
    let dev = DevNumber::from_dev_t(attributes.dev());
    if dev != filesystem.dev || !attributes.is_file() || !is_swapped_to(&file) {
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
