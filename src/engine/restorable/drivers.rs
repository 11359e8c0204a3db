//! Which drivers a kernel must have before it can read its root, by where the machine may be
//! restored to.

use std::collections::BTreeSet;

/// A kind of machine, and the drivers of its disks.
pub(super) struct Platform {
    /// What people call it.
    pub name: &'static str,
    /// Each of these is needed; of those in one list any.
    pub needs: &'static [&'static [&'static str]],
    /// Whether machines of that kind are of x86 alone.
    pub x86_only: bool,
}

const fn platform(
    name: &'static str,
    needs: &'static [&'static [&'static str]],
    x86_only: bool,
) -> Platform {
    Platform {
        name,
        needs,
        x86_only,
    }
}

/// Those that matter. The first driver of a list is the one that is named.
pub(super) const PLATFORMS: [Platform; 7] = [
    platform(
        "KVM with virtio disks",
        &[&["virtio_blk"], &["virtio_pci", "virtio_mmio"]],
        false,
    ),
    platform(
        "KVM with virtio-scsi disks, Google",
        &[
            &["virtio_scsi"],
            &["virtio_pci", "virtio_mmio"],
            &["sd_mod"],
        ],
        false,
    ),
    platform(
        "NVMe disks (AWS, Azure, Google, hardware)",
        &[&["nvme"]],
        false,
    ),
    platform("Xen (older AWS)", &[&["xen_blkfront"]], true),
    platform(
        "Hyper-V, Azure",
        &[&["hv_storvsc"], &["hv_vmbus"], &["sd_mod"]],
        false,
    ),
    platform("VMware", &[&["vmw_pvscsi", "mptspi"], &["sd_mod"]], true),
    platform(
        "SATA disks (hardware, VirtualBox)",
        &[&["ahci"], &["sd_mod"]],
        true,
    ),
];

impl Platform {
    /// The drivers that it lacks among these, the first of each list.
    pub(super) fn lacks(&self, drivers: &BTreeSet<String>) -> Vec<&'static str> {
        let lacking = self.needs.iter().filter(|any| {
            let mut any = any.iter();
            !any.any(|driver| drivers.contains(*driver))
        });
        lacking.filter_map(|any| any.first().copied()).collect()
    }

    /// Its name, and the drivers that it lacks.
    pub(super) fn with(&self, lacking: &[&str]) -> String {
        format!("{} ({})", self.name, lacking.join(", "))
    }
}

/// Whether some platform rests on a driver of that name.
pub(super) fn matters(driver: &str) -> bool {
    let mut all = PLATFORMS.iter().flat_map(|one| one.needs.iter().copied());
    all.any(|any| any.contains(&driver))
}

/// A driver's name, from the path of its file: `kernel/drivers/block/xen-blkfront.ko.xz`. `None`
/// for other files.
pub(super) fn driver_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, ending) = file.split_once(".ko")?;
    let packed = ["", ".xz", ".zst", ".gz", ".lz4", ".bz2", ".lzma"];
    (!name.is_empty() && packed.contains(&ending)).then(|| name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_known_by_the_names_of_their_files() {
        let of = |path: &str| driver_of(path);
        let block = "kernel/drivers/block/xen-blkfront.ko.xz";
        assert_eq!(of(block).as_deref(), Some("xen_blkfront"));
        assert_eq!(of("a/nvme.ko").as_deref(), Some("nvme"));
        assert_eq!(of("a/nvme.ko.zst").as_deref(), Some("nvme"));
        assert_eq!(of("lib/libnvme.kotlin"), None);
        assert_eq!(of("kernel/drivers/nvme"), None);
    }

    #[test]
    fn any_of_a_list_will_do_and_each_list_is_needed() {
        let vmware = PLATFORMS.iter().find(|one| one.name == "VMware").unwrap();
        let have = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        assert_eq!(vmware.lacks(&have(&["mptspi", "sd_mod"])), [""; 0]);
        assert_eq!(vmware.lacks(&have(&["sd_mod"])), ["vmw_pvscsi"]);
        assert_eq!(vmware.lacks(&have(&["vmw_pvscsi"])), ["sd_mod"]);
    }
}
