//! What is swapped to now, by the kernel's table: devices, and files. Neither holds anything that
//! anyone wants back, and no freeze stops the kernel from writing there. It only looks.

use super::host::Host;
use super::kind::DeviceKind;
use super::topology::Topology;
use crate::model::{Bytes, DevNumber, Extent};
use crate::sys::mountinfo;
use serde::Serialize;
use std::path::PathBuf;

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
pub(super) const SWAP_HEADER: u64 = 64 * 1024;

/// Smallest page, to be added to the size in `/proc/swaps`, which leaves the header out.
const SMALLEST_PAGE: u64 = 4096;

/// A line of `/proc/swaps`.
pub(super) struct Row {
    pub path: PathBuf,
    pub is_file: bool,
    pub length: Bytes,
}

pub(super) fn rows(host: &Host) -> Vec<Row> {
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

/// The devices that are swapped to, by the names that the kernel's table has of them; of swap files
/// see [`swapped_now`](super::swapped_now). Nothing may be left out on this word alone.
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
pub(super) fn start_on(topology: &Topology, dev: DevNumber, disk: DevNumber) -> Option<Bytes> {
    let device = topology.device(dev)?;
    match device.kind {
        DeviceKind::Partition if device.parents == [disk] => Some(device.place?.offset),
        _ if device.dev == disk => Some(Bytes(0)),
        _ => None,
    }
}
