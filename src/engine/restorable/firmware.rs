//! Whether another machine's firmware finds the boot loader. UEFI looks for it where this machine's
//! NVRAM says, and a new machine has another NVRAM: it takes `\EFI\BOOT\BOOTX64.EFI` alone (UEFI
//! specification, 3.5.1.1).

use super::tree::MachineFiles;
use super::verdict::{BootRisk, BootRiskLevel, Restorability};

/// Where the EFI system partition is mounted.
const MOUNTED: [&str; 3] = ["/boot/efi", "/efi", "/boot"];

/// Where grub for BIOS lies when it is installed.
const BIOS_LOADERS: [&str; 3] = [
    "/boot/grub/i386-pc",
    "/boot/grub2/i386-pc",
    "/boot/extlinux",
];

/// Looks for both ways.
pub(super) fn look(tree: &MachineFiles, arch: &str, found: &mut Restorability) {
    let wanted = match arch {
        "x86_64" => "BOOTX64.EFI",
        "aarch64" => "BOOTAA64.EFI",
        "riscv64" => "BOOTRISCV64.EFI",
        _ => return found.could_not("firmware", format!("that of {arch} is not known here")),
    };
    let bios = arch == "x86_64" && BIOS_LOADERS.iter().any(|path| tree.has(path));
    let by_uefi = tree.has("/sys/firmware/efi");
    // Where nothing is mounted at /boot/efi, that folder is no EFI of a partition at /boot.
    let esp = MOUNTED.iter().find_map(|place| {
        let folder = child(tree, place, "EFI", found)?;
        let holds = !tree.names(&folder, found).is_empty();
        holds.then_some((*place, folder))
    });
    let Some((place, folder)) = esp else {
        return without_esp(bios, by_uefi, found);
    };
    let boot = child(tree, &folder, "BOOT", found);
    let fallback = boot
        .as_deref()
        .and_then(|folder| child(tree, folder, wanted, found));
    let Some(path) = fallback else {
        return found.risk(no_fallback(place, wanted, bios));
    };
    let both = if bios { ", and BIOS" } else { "" };
    found.saw("firmware", format!("UEFI by {path}{both}"));
    if !bios && arch == "x86_64" {
        found.note("it starts by UEFI alone: choose UEFI for the new machine, not BIOS");
    }
}

fn no_fallback(place: &str, wanted: &str, bios: bool) -> BootRisk {
    let also = match bios {
        true => "; by BIOS it starts",
        false => "",
    };
    BootRisk {
        level: match bios {
            true => BootRiskLevel::MayNotBoot,
            false => BootRiskLevel::WillNotBoot,
        },
        what: format!("the EFI system partition has no \\EFI\\BOOT\\{wanted}"),
        place: format!("{place}/EFI/BOOT/{wanted}"),
        why: format!("a new machine's UEFI knows no other name, and finds nothing to start{also}"),
        remedy: format!(
            "grub-install --force-extra-removable (Debian, Ubuntu), or copy shimx64.efi and \
             grubx64.efi of {place}/EFI/* to {place}/EFI/BOOT, shim as {wanted}"
        ),
    }
}

fn without_esp(bios: bool, by_uefi: bool, found: &mut Restorability) {
    match (by_uefi, bios) {
        (true, _) => found.could_not(
            "the EFI system partition",
            "it is mounted at none of /boot/efi, /efi, /boot, or may not be read",
        ),
        (false, true) => {
            found.saw("firmware", "BIOS");
            found.note("it starts by BIOS alone: choose BIOS for the new machine, not UEFI");
        }
        (false, false) => found.could_not(
            "the boot loader's place",
            "there is neither an EFI system partition nor grub for BIOS",
        ),
    }
}

/// What a folder holds under a name: on FAT letters have no case.
fn child(
    tree: &MachineFiles,
    folder: &str,
    name: &str,
    found: &mut Restorability,
) -> Option<String> {
    let names = tree.names(folder, found);
    let name = names.iter().find(|one| one.eq_ignore_ascii_case(name))?;
    Some(format!("{folder}/{name}"))
}
