//! Which kernels a machine can start, and which initramfs each of them takes. It reads names, and
//! the first bytes of a kernel.

use super::chosen_entry::ChosenEntry;
use super::tree::MachineFiles;
use super::verdict::{BootRisk, BootRiskLevel, Restorability};
use std::cmp::Ordering;
use std::io::Read;

/// A kernel on the machine's disk.
pub(super) struct BootKernel {
    /// Its release: `6.1.0-18-amd64`.
    pub release: String,
    /// Its file.
    pub image: String,
    /// Its initramfs, where one of the usual name is there.
    pub initramfs: Option<String>,
}

/// What distributions call a kernel, before its release.
const IMAGES: [&str; 4] = ["vmlinuz-", "vmlinux-", "Image-", "kernel-"];

/// Where the files of a boot loader that reads `loader/entries` may lie.
const LOADER_ROOTS: [&str; 3] = ["/boot", "/boot/efi", "/efi"];

/// The newest kernel, the one that runs, and those that the boot loader was told to start. Told
/// where there is none.
pub(super) fn to_be_started(tree: &MachineFiles, found: &mut Restorability) -> Vec<BootKernel> {
    let mut all = all(tree, found);
    all.sort_by(|a, b| by_release(&b.release, &a.release));
    all.dedup_by(|a, b| a.release == b.release);
    if all.is_empty() {
        none(tree, found);
        return Vec::new();
    }
    let running = tree.text_if_any("/proc/sys/kernel/osrelease");
    let running = running.unwrap_or_default().trim().to_owned();
    let count = all.len();
    let newest = all.first().map(|one| one.release.clone());
    let entries = ChosenEntry::all(tree);
    for entry in &entries {
        if !all.iter().any(|kernel| entry.is_of(&kernel.release)) {
            entry.has_no_kernel(found);
        }
    }
    let is_started = |kernel: &BootKernel| {
        let release = &kernel.release;
        *release == running
            || newest.as_ref() == Some(release)
            || entries.iter().any(|entry| entry.is_of(release))
    };
    let chosen: Vec<BootKernel> = all.into_iter().filter(is_started).collect();
    let names: Vec<&str> = chosen.iter().map(|one| one.release.as_str()).collect();
    let others = match count - chosen.len() {
        0 => String::new(),
        more => format!("; {more} older ones were not looked at"),
    };
    found.saw("kernels", format!("{}{others}", names.join(", ")));
    chosen
}

fn all(tree: &MachineFiles, found: &mut Restorability) -> Vec<BootKernel> {
    let names = tree.names("/boot", found);
    let mut all = Vec::new();
    for name in &names {
        let release = IMAGES.iter().find_map(|start| name.strip_prefix(start));
        let Some(release) = release.filter(|release| is_release(release)) else {
            continue;
        };
        let usual = [
            format!("initrd.img-{release}"),
            format!("initramfs-{release}.img"),
            format!("initrd-{release}"),
            format!("initrd-{release}.img"),
        ];
        let initramfs = usual.into_iter().find(|one| names.contains(one));
        all.push(BootKernel {
            release: release.to_owned(),
            image: format!("/boot/{name}"),
            initramfs: initramfs.map(|name| format!("/boot/{name}")),
        });
    }
    for root in LOADER_ROOTS {
        all.extend(of_machine_id(tree, root));
    }
    all
}

/// `/boot/MACHINE-ID/RELEASE/linux`, as kernel-install(8) lays it out.
fn of_machine_id(tree: &MachineFiles, root: &str) -> Vec<BootKernel> {
    let id = tree.text_if_any("/etc/machine-id").unwrap_or_default();
    let id = id.trim();
    if id.len() != 32 {
        return Vec::new();
    }
    let folder = format!("{root}/{id}");
    let releases = tree.names(&folder, &mut Restorability::default());
    let of = |release: String| {
        let image = format!("{folder}/{release}/linux");
        let initramfs = format!("{folder}/{release}/initrd");
        tree.has(&image).then(|| BootKernel {
            release,
            image,
            initramfs: tree.has(&initramfs).then_some(initramfs),
        })
    };
    releases.into_iter().filter_map(of).collect()
}

/// A release begins with a number; rescue kernels and copies do not count.
fn is_release(text: &str) -> bool {
    let is_rescue = text.contains("rescue");
    let is_copy = [".old", ".bak", ".hmac"]
        .iter()
        .any(|end| text.ends_with(end));
    text.starts_with(|c: char| c.is_ascii_digit()) && !is_rescue && !is_copy
}

/// Numbers by their value, all else by its letters.
fn by_release(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| {
        let parts = text.split(['.', '-', '_', '+', '~']);
        let parts = parts.map(|part| (part.parse::<u64>().ok(), part.to_owned()));
        parts.collect::<Vec<_>>()
    };
    parts(a).cmp(&parts(b))
}

fn none(tree: &MachineFiles, found: &mut Restorability) {
    let containers = [
        "/run/.containerenv",
        "/.dockerenv",
        "/run/systemd/container",
    ];
    if containers.iter().any(|path| tree.has(path)) {
        let why = "this is a container, or was made as one: ask on the machine itself";
        return found.could_not("the kernel", why);
    }
    for root in LOADER_ROOTS {
        let folder = format!("{root}/EFI/Linux");
        let unified = tree.files_in(&folder, ".efi", &mut Restorability::default());
        if let Some(one) = unified.first() {
            let why = "unified kernel images are not looked into";
            return found.could_not(one.as_str(), why);
        }
    }
    if tree
        .files_in("/boot", "", found)
        .iter()
        .any(|path| path.contains("linu"))
    {
        let why = "a kernel there has a name without a release";
        return found.could_not("/boot", why);
    }
    let machine = match machine_arch(tree) {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    found.risk(BootRisk {
        level: BootRiskLevel::WillNotBoot,
        what: "no kernel lies on this machine's disks".into(),
        place: "/boot".into(),
        why: "whatever starts this machine brings the kernel along; a restored disk has none"
            .into(),
        remedy: format!(
            "install a kernel and a boot loader (Debian: apt install linux-image-{machine} \
             grub-efi-{machine}), or start the restored machine as this one is started"
        ),
    });
}

/// For which kind of machine a kernel is, as far as its first bytes say: the boot protocol of x86
/// (`HdrS` at 0x202), the header of arm64 (`ARM\x64` at 0x38).
pub(super) fn arch_of(tree: &MachineFiles, image: &str) -> Option<&'static str> {
    let mut head = Vec::new();
    let file = tree.file(image).ok().flatten()?;
    file.take(0x210).read_to_end(&mut head).ok()?;
    match (head.get(0x202..0x206), head.get(0x38..0x3c)) {
        (Some(b"HdrS"), _) => Some("x86_64"),
        (_, Some(b"ARM\x64")) => Some("aarch64"),
        _ => None,
    }
}

/// For which kind the machine's kernel is; where it does not say so, this machine's.
pub(super) fn machine_arch(tree: &MachineFiles) -> &'static str {
    let kernels = all(tree, &mut Restorability::default());
    let mut said = kernels.iter().filter_map(|one| arch_of(tree, &one.image));
    said.next().unwrap_or(std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_is_found_by_numbers() {
        let newer = |a, b| assert_eq!(by_release(a, b), Ordering::Greater, "{a} {b}");
        newer("6.1.0-18-amd64", "6.1.0-9-amd64");
        newer("6.12.1", "6.1.55");
        newer("5.14.0-427.el9.x86_64", "5.14.0-70.el9.x86_64");
        assert!(is_release("6.1.0-18-amd64"));
        assert!(!is_release("0-rescue-0123456789abcdef"));
        assert!(!is_release("linux"));
    }
}
