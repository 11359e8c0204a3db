//! Whether the kernel swaps to a device that its table of swaps seems to name. The table has the
//! name in the namespace of whoever switched it on: a container's `/dev/vdb` may be another disk
//! here. It only reads.

use super::head::head_on_disk;
use super::host::Host;
use super::mounts::Mounts;
use super::name::node_name;
use super::swap::{Swap, swaps};
use super::topology::{Device, Topology};
use crate::model::{Bytes, DevNumber, Extent};
use crate::sys::machine::page_size;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// The last bytes of a swap area's first page (`union swap_header`, `include/linux/swap.h`).
const MARK: &[u8] = b"SWAPSPACE2";

/// The devices that are swapped to, each of which says so itself: a swap area begins there, nothing
/// is mounted from it, and somebody holds it for himself, as the kernel does what it swaps to.
pub(super) fn witnessed_swaps(host: &Host, topology: &Topology, mounts: &Mounts) -> Vec<Swap> {
    let mut found = swaps(host, topology);
    found.retain(|swap| {
        let mut filesystems = mounts.filesystems().iter();
        let is_mounted = filesystems.any(|one| one.members.contains(&swap.dev));
        let device = topology.device(swap.dev);
        !is_mounted && device.is_some_and(|device| is_swap(host, topology, device))
    });
    found
}

fn is_swap(host: &Host, topology: &Topology, device: &Device) -> bool {
    let whole = Extent::new(Bytes(0), device.size);
    let head = match node_of(host, device) {
        Some(node) if is_unclaimed(&node) => return false,
        Some(node) => head_on_disk(&node, whole),
        // A partition may have no node here, and its disk one. Who holds it cannot be asked then.
        None => {
            let mut parents = device.parents.iter();
            let disk = parents.find_map(|parent| topology.disk(*parent));
            match disk.zip(device.place) {
                Some((disk, place)) => head_on_disk(&disk.path, place),
                None => return false,
            }
        }
    };
    has_mark(head)
}

fn has_mark(head: io::Result<Vec<u8>>) -> bool {
    let page = usize::try_from(page_size().0).unwrap_or(usize::MAX);
    head.is_ok_and(|head| head.get(..page).is_some_and(|page| page.ends_with(MARK)))
}

/// Its node, if that leads to this very device.
fn node_of(host: &Host, device: &Device) -> Option<PathBuf> {
    let node = host.dev.join(node_name(&device.name));
    let found = fs::metadata(&node).ok()?;
    (DevNumber::from_dev_t(found.rdev()) == device.dev).then_some(node)
}

/// Whether nobody holds the device for himself: only then can it be opened so.
fn is_unclaimed(node: &PathBuf) -> bool {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_EXCL);
    options.open(node).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_ends_the_first_page() {
        let page = page_size().0 as usize;
        let mut head = vec![0; 65536];
        head[page - MARK.len()..page].copy_from_slice(MARK);
        assert!(has_mark(Ok(head.clone())));
        assert!(!has_mark(Ok(head.split_off(1))));
        assert!(!has_mark(Ok(vec![0; page - 1])));
        assert!(!has_mark(Err(io::ErrorKind::NotFound.into())));
    }
}
