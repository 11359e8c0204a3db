//! Who uses a device: what is mounted from it, built on it, swapped to it. It only looks.

use super::filesystem::Mounts;
use super::host::Host;
use super::mountinfo::unescape;
use super::topology::{Kind, Topology};
use crate::model::{Bytes, DevNumber, Extent};
use serde::Serialize;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
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
const SWAP_HEADER: u64 = 64 * 1024;

/// Smallest page, to be added to the size in `/proc/swaps`, which leaves the header out.
const SMALLEST_PAGE: u64 = 4096;

/// The devices that are swapped to; swap files are files like any other and left out.
pub fn swaps(host: &Host, topology: &Topology) -> Vec<Swap> {
    let table = Host::table(&host.proc.join("swaps")).unwrap_or_default();
    let mut swaps = Vec::new();
    for line in table.split(|byte| *byte == b'\n').skip(1) {
        let mut fields = line
            .split(|byte| byte.is_ascii_whitespace())
            .filter(|field| !field.is_empty());
        let (Some(name), Some(b"partition"), Some(size)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let path = PathBuf::from(OsString::from_vec(unescape(name)));
        let kib: Option<u64> = std::str::from_utf8(size).ok().and_then(|s| s.parse().ok());
        let device = topology.node_through_links(host, &path);
        if let (Some(device), Some(kib)) = (device, kib) {
            let length = kib.saturating_mul(1024).saturating_add(SMALLEST_PAGE);
            swaps.push(Swap {
                dev: device.dev,
                length: Bytes(length.min(device.size.0)),
            });
        }
    }
    swaps
}

/// The parts of `disk` that hold nothing but swapped-out memory, whose bytes no one needs later.
/// The header stays out of it. Only swap directly on the disk or a partition of it is told.
pub fn swapped_extents(topology: &Topology, swaps: &[Swap], disk: DevNumber) -> Vec<Extent> {
    let contents = |swap: &Swap| {
        let device = topology.device(swap.dev)?;
        let start = match device.kind {
            Kind::Partition if device.parents == [disk] => device.place?.offset,
            _ if device.dev == disk => Bytes(0),
            _ => return None,
        };
        let length = swap.length.0.checked_sub(SWAP_HEADER).filter(|l| *l > 0)?;
        Some(Extent::new(Bytes(start.0 + SWAP_HEADER), Bytes(length)))
    };
    swaps.iter().filter_map(contents).collect()
}

/// A reason why a device must not be written to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// A filesystem on it is mounted there.
    Mounted(String),
    /// Another device lies on it.
    Holder(String),
    /// It is swapped to.
    Swap(String),
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted(target) => write!(f, "mounted at {target}"),
            Self::Holder(name) => write!(f, "{name} lies on it"),
            Self::Swap(name) => write!(f, "{name} is swapped to"),
        }
    }
}

/// Who uses `dev`, a partition of it, or anything that lies on it. Nobody, as far as can be told
/// from outside, when empty: opening it with `O_EXCL` is the proof.
pub fn in_use(topology: &Topology, mounts: &Mounts, swaps: &[Swap], dev: DevNumber) -> Vec<Use> {
    let mut uses = BTreeSet::new();
    let mut above = BTreeSet::new();
    let mut open = vec![dev];
    while let Some(next) = open.pop() {
        if !above.insert(next) {
            continue;
        }
        for holder in topology.holders(next) {
            open.push(holder.dev);
            if holder.kind != Kind::Partition {
                uses.insert(Use::Holder(holder.name.clone()));
            }
        }
    }
    for filesystem in mounts.filesystems() {
        if filesystem.members.iter().any(|dev| above.contains(dev)) {
            let target = filesystem.target().to_string_lossy().into_owned();
            uses.insert(Use::Mounted(target));
        }
    }
    for swap in swaps.iter().filter(|swap| above.contains(&swap.dev)) {
        let name = topology.device(swap.dev).map(|device| device.name.clone());
        uses.insert(Use::Swap(name.unwrap_or_default()));
    }
    uses.into_iter().collect()
}
