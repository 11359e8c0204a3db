//! Devices that are claimed exclusively without a trace in any table: a filesystem unmounted lazily
//! with files open, or mounted in a namespace without processes. Opening with `O_EXCL`, for reading
//! and for an instant, is the only way to find out.

use super::disk::Disk;
use super::host::Host;
use super::kind::DeviceKind;
use super::layout::HostLayout;
use super::name::node_name;
use super::swap_witness::witnessed_swaps;
use super::topology::Topology;
use crate::model::DevNumber;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

/// How often a device is tried: other programs probe it in the same way, for an instant.
const TRIES: u32 = 3;
/// The pause between.
const PAUSE: Duration = Duration::from_millis(15);

/// A device in use by something that no table shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct OpaqueUse {
    /// The whole disk below it.
    pub disk: DevNumber,
    /// Its name.
    pub name: String,
}

impl HostLayout {
    /// What is in use on these disks by something that no mount table, swap or holder shows.
    pub fn opaque_uses(&self, disks: &[Disk]) -> Vec<OpaqueUse> {
        let swaps = witnessed_swaps(&self.host, &self.topology, &self.mounts);
        let members = self
            .mounts
            .filesystems()
            .iter()
            .flat_map(|one| &one.members);
        let swapped = swaps.iter().map(|swap| &swap.dev);
        let known: BTreeSet<DevNumber> = members.chain(swapped).copied().collect();
        let on_disk = |disk: &Disk| {
            let mut search = OpaqueUseSearch {
                host: &self.host,
                topology: &self.topology,
                known: &known,
                seen: BTreeSet::new(),
                found: Vec::new(),
            };
            search.is_used(disk.dev());
            let disk = disk.dev();
            let found = search.found.into_iter();
            found.map(move |name| OpaqueUse { disk, name })
        };
        disks.iter().flat_map(on_disk).collect()
    }
}

struct OpaqueUseSearch<'a> {
    host: &'a Host,
    topology: &'a Topology,
    /// Devices of which it is known what uses them.
    known: &'a BTreeSet<DevNumber>,
    seen: BTreeSet<DevNumber>,
    found: Vec<String>,
}

impl OpaqueUseSearch<'_> {
    /// Whether a device is in use, as far as is known now; what lies on it is looked at first.
    fn is_used(&mut self, dev: DevNumber) -> bool {
        if !self.seen.insert(dev) {
            return true;
        }
        let mut used = self.known.contains(&dev);
        for holder in self.topology.holders(dev) {
            if holder.kind != DeviceKind::Partition {
                used = true;
                self.is_used(holder.dev);
            }
        }
        if used {
            // Whoever has the whole has its partitions: nobody else can.
            return true;
        }
        for part in self.topology.holders(dev) {
            used |= self.is_used(part.dev);
        }
        let Some(device) = self.topology.device(dev).filter(|_| !used) else {
            return true;
        };
        let taken = self.is_taken(&device.name);
        if taken {
            self.found.push(device.name.clone());
        }
        taken
    }

    fn is_taken(&self, name: &str) -> bool {
        let path = self.host.dev.join(node_name(name));
        let mut options = OpenOptions::new();
        let options = options
            .read(true)
            .custom_flags(libc::O_EXCL | libc::O_NONBLOCK);
        for attempt in 1..=TRIES {
            match options.open(&path) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                _ => return false,
            }
            if attempt < TRIES {
                std::thread::sleep(PAUSE);
            }
        }
        true
    }
}
