//! By what a file of a machine names a disk: by what is written on the disk, which a copy has too;
//! by the kernel's name, which depends on the machine; or by the hardware, which no other has.

/// By what a disk is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedBy {
    /// A UUID, a label, a volume's name: a copy has it, too.
    Contents,
    /// `/dev/sda1`: another machine may call it `vda1`, or call another disk so.
    Kernel,
    /// A serial number or a slot.
    Hardware,
    /// No local disk: a network's filesystem, one in memory.
    NoDisk,
}

const TAGS: [&str; 5] = ["UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "gpt-auto"];

/// What kernels call disks before the letters that count them.
const DISKS: [&str; 4] = ["sd", "hd", "vd", "xvd"];

/// The same before numbers.
const COUNTED: [&str; 3] = ["nvme", "mmcblk", "dm-"];

/// A source as `fstab`, `crypttab` or the kernel's command line give it.
pub(super) fn named_by(source: &str) -> NamedBy {
    let source = unquoted(source);
    if TAGS.iter().any(|tag| source.starts_with(tag)) {
        return NamedBy::Contents;
    }
    if source.starts_with("ID=") || source.starts_with("PATH=") {
        return NamedBy::Hardware;
    }
    let Some(node) = source.strip_prefix("/dev/") else {
        return NamedBy::NoDisk;
    };
    if let Some(link) = node.strip_prefix("disk/") {
        return by_link(link);
    }
    if let Some(mapped) = node.strip_prefix("mapper/") {
        let name_of_a_path = mapped.starts_with("mpath") || mapped.starts_with("3600");
        return match name_of_a_path {
            true => NamedBy::Hardware,
            false => NamedBy::Contents,
        };
    }
    if node.contains('/') {
        // /dev/GROUP/VOLUME, /dev/md/NAME.
        return NamedBy::Contents;
    }
    match is_kernel_name(node) {
        true => NamedBy::Kernel,
        false if is_disk_of_md(node) => NamedBy::Contents,
        false => NamedBy::NoDisk,
    }
}

/// `disk/by-*/NAME`.
fn by_link(link: &str) -> NamedBy {
    let Some((kind, name)) = link.split_once('/') else {
        return NamedBy::Hardware;
    };
    match kind {
        "by-uuid" | "by-label" | "by-partuuid" | "by-partlabel" => NamedBy::Contents,
        "by-id" => {
            let of_contents = ["dm-", "lvm-pv-uuid-", "md-"];
            match of_contents.iter().any(|start| name.starts_with(start)) {
                true => NamedBy::Contents,
                false => NamedBy::Hardware,
            }
        }
        _ => NamedBy::Hardware,
    }
}

/// Whether a name below `/dev` is one that the kernel counts out: `sda1`, `nvme0n1p2`, `dm-0`.
pub(super) fn is_kernel_name(node: &str) -> bool {
    let lettered = |start: &&str| {
        let rest = node.strip_prefix(*start).unwrap_or_default();
        let rest = rest.trim_end_matches(|c: char| c.is_ascii_digit());
        !rest.is_empty() && rest.len() <= 2 && rest.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    let numbered = |start: &&str| {
        let rest = node.strip_prefix(*start).unwrap_or_default();
        rest.starts_with(|c: char| c.is_ascii_digit())
    };
    DISKS.iter().any(lettered) || COUNTED.iter().any(numbered)
}

fn is_disk_of_md(node: &str) -> bool {
    let rest = node.strip_prefix("md").unwrap_or_default();
    rest.starts_with(|c: char| c.is_ascii_digit())
}

/// Without quotes around it, or around the value of a tag.
pub(super) fn unquoted(source: &str) -> String {
    source.replace(['"', '\''], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_by_what_a_copy_has_too() {
        for (source, by) in [
            ("UUID=1234", NamedBy::Contents),
            ("LABEL=\"cloudimg-rootfs\"", NamedBy::Contents),
            ("PARTUUID=9f-01", NamedBy::Contents),
            ("/dev/disk/by-uuid/12", NamedBy::Contents),
            ("/dev/disk/by-id/dm-name-vg-root", NamedBy::Contents),
            ("/dev/mapper/vg-root", NamedBy::Contents),
            ("/dev/vg/root", NamedBy::Contents),
            ("/dev/md0", NamedBy::Contents),
            ("/dev/sda1", NamedBy::Kernel),
            ("/dev/xvda", NamedBy::Kernel),
            ("/dev/sdaa12", NamedBy::Kernel),
            ("/dev/nvme0n1p2", NamedBy::Kernel),
            ("/dev/dm-0", NamedBy::Kernel),
            ("/dev/disk/by-id/ata-QEMU_1", NamedBy::Hardware),
            ("/dev/disk/by-path/pci-0000:00:05.0", NamedBy::Hardware),
            ("/dev/disk/azure/root", NamedBy::Hardware),
            ("/dev/mapper/mpatha2", NamedBy::Hardware),
            ("tmpfs", NamedBy::NoDisk),
            ("server:/export", NamedBy::NoDisk),
            ("/dev/vdata", NamedBy::NoDisk),
            ("/dev/sr0", NamedBy::NoDisk),
            ("/swapfile", NamedBy::NoDisk),
        ] {
            assert_eq!(named_by(source), by, "{source}");
        }
    }
}
