//! What lies between a disk and its filesystems: LVM that knows its disks by their serial numbers,
//! RAID that looks at disks of certain names alone, encryption whose key stays behind.

use super::naming::{NamedBy, is_kernel_name, named_by};
use super::tree::{MachineFiles, said};
use super::verdict::{BootRisk, BootRiskLevel, Restorability};

const DEVICES: &str = "/etc/lvm/devices/system.devices";
const LVM: &str = "/etc/lvm/lvm.conf";
const MDADM: [&str; 2] = ["/etc/mdadm/mdadm.conf", "/etc/mdadm.conf"];
const CRYPTTAB: &str = "/etc/crypttab";

/// Looks at all of them.
pub(super) fn look(tree: &MachineFiles, found: &mut Restorability) {
    let lvm = tree.text(LVM, found).unwrap_or_default();
    devices_file(tree, &lvm, found);
    lvm_filters(&lvm, found);
    for path in MDADM {
        if let Some(text) = tree.text(path, found) {
            raid(path, &text, found);
        }
    }
    if let Some(text) = tree.text(CRYPTTAB, found) {
        encryption(tree, &text, found);
    }
}

/// lvmdevices(8): only disks that the file lists are looked at, known by the numbers of their
/// hardware.
fn devices_file(tree: &MachineFiles, lvm: &str, found: &mut Restorability) {
    let Some(text) = tree.text(DEVICES, found) else {
        return;
    };
    let told = said(LVM, lvm).filter_map(|line| {
        let (key, value) = line.text.split_once('=')?;
        (key.trim() == "use_devicesfile").then(|| value.trim().to_owned())
    });
    // Built so by Red Hat and who follows it; elsewhere it is off until it is switched on.
    let used = match told.last() {
        Some(value) => value.starts_with('1'),
        None => is_of_red_hat(tree),
    };
    let listed = said(DEVICES, &text).find(|line| line.text.starts_with("IDTYPE="));
    let Some(listed) = listed.filter(|_| used) else {
        return found.saw(DEVICES, "lists no disk, or is not used");
    };
    let owner = said(DEVICES, &text)
        .any(|line| line.text.starts_with("PRODUCT_UUID=") || line.text.starts_with("HOSTNAME="));
    if owner {
        found.saw(DEVICES, "lists disks, and for which machine");
        return found.note(
            "LVM knows its disks by their serial numbers, and looks for them anew on another \
             machine: it sees that by the machine's own number",
        );
    }
    found.risk(BootRisk {
        level: BootRiskLevel::MayNotBoot,
        what: "LVM looks at disks with the serial numbers of this machine's alone".into(),
        place: listed.place,
        why: "on another machine it finds no volume, though all are there".into(),
        remedy: format!(
            "mv {DEVICES} {DEVICES}.off, and make the initramfs anew (on the copy: vgimportdevices \
             -a)"
        ),
    });
}

fn is_of_red_hat(tree: &MachineFiles) -> bool {
    let release = tree.text_if_any("/etc/os-release").unwrap_or_default();
    let mut lines = release.lines();
    lines.any(|line| {
        let like = line.starts_with("ID=") || line.starts_with("ID_LIKE=");
        like && ["rhel", "fedora", "centos", "almalinux", "rocky"]
            .iter()
            .any(|one| line.contains(one))
    })
}

/// `filter = [ "a|^/dev/sda2$|", "r|.*|" ]`.
fn lvm_filters(lvm: &str, found: &mut Restorability) {
    for line in said(LVM, lvm) {
        let Some((key, value)) = line.text.split_once('=') else {
            continue;
        };
        if !matches!(key.trim(), "filter" | "global_filter") {
            continue;
        }
        let patterns: Vec<&str> = value.split('"').skip(1).step_by(2).collect();
        let accepts = |one: &&&str| one.starts_with('a') && names_a_disk(one);
        let Some(named) = patterns.iter().find(accepts) else {
            continue;
        };
        let rejects_others = patterns
            .iter()
            .any(|one| one.starts_with("r") && one.contains(".*"));
        if rejects_others {
            found.risk(BootRisk {
                level: BootRiskLevel::MayNotBoot,
                what: format!("LVM looks at disks of certain names alone: {named}"),
                place: line.place,
                why: "where the disk has another name it finds no volume".into(),
                remedy: "take the filter out, and make the initramfs anew".into(),
            });
        }
    }
}

/// Whether a pattern names one of the kernel's names: `a|^/dev/sda2$|`.
fn names_a_disk(pattern: &str) -> bool {
    let mut parts = pattern.split("/dev/").skip(1);
    parts.any(|part| {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric());
        let name = part.get(..end.unwrap_or(part.len())).unwrap_or_default();
        part.starts_with("disk/by-id") || part.starts_with("disk/by-path") || is_kernel_name(name)
    })
}

/// mdadm.conf(5): `DEVICE` and `devices=` with names; `ARRAY` by UUID is as it should be.
fn raid(path: &str, text: &str, found: &mut Restorability) {
    found.saw(path, "read");
    for line in said(path, text) {
        let mut words = line.text.split_whitespace();
        let order = words.next().unwrap_or_default().to_ascii_lowercase();
        let named = match order.as_str() {
            "device" => line
                .text
                .split_whitespace()
                .skip(1)
                .find(|word| is_bound(word)),
            "array" => {
                let by_uuid = words
                    .clone()
                    .any(|word| word.to_ascii_lowercase().starts_with("uuid="));
                let listed = words.find_map(|word| word.strip_prefix("devices="));
                listed.filter(|list| !by_uuid && list.split(',').any(is_bound))
            }
            _ => None,
        };
        if let Some(named) = named {
            found.risk(BootRisk {
                level: BootRiskLevel::MayNotBoot,
                what: format!("a RAID is put together from disks of these names: {named}"),
                place: line.place.clone(),
                why: "where the disks have other names it stays apart".into(),
                remedy: "let it say DEVICE partitions and ARRAY ... UUID=..., as mdadm --detail \
                         --scan does, and make the initramfs anew"
                    .into(),
            });
        }
    }
}

fn is_bound(name: &str) -> bool {
    matches!(named_by(name), NamedBy::Kernel | NamedBy::Hardware)
}

/// crypttab(5): name, source, key, options.
fn encryption(tree: &MachineFiles, text: &str, found: &mut Restorability) {
    let mut count = 0;
    for line in said(CRYPTTAB, text) {
        let mut fields = line.text.split_whitespace();
        let (Some(name), Some(source)) = (fields.next(), fields.next()) else {
            continue;
        };
        count += 1;
        let (key, options) = (fields.next().unwrap_or("none"), fields.next().unwrap_or(""));
        let optional = options
            .split(',')
            .any(|one| one == "nofail" || one == "noauto");
        let level = |level| match optional {
            true => BootRiskLevel::BehavesOtherwise,
            false => level,
        };
        let at_random = key == "/dev/urandom" || key == "/dev/random";
        match named_by(source) {
            NamedBy::Kernel => found.risk(BootRisk {
                level: level(BootRiskLevel::MayNotBoot),
                what: format!("{name} is opened from {source}, as this machine counts its disks"),
                place: line.place.clone(),
                why: match at_random {
                    true => "on another machine that name may be a disk with data: it is \
                             overwritten at the start"
                        .into(),
                    false => "where the disk has another name it stays closed".into(),
                },
                remedy: "name it by UUID= or PARTUUID=, as `blkid` shows it".into(),
            }),
            NamedBy::Hardware => found.risk(BootRisk {
                level: level(BootRiskLevel::WillNotBoot),
                what: format!("{name} is opened from {source}, which is this machine's hardware"),
                place: line.place.clone(),
                why: "no other machine has it: there it stays closed".into(),
                remedy: "name it by UUID= or PARTUUID=, as `blkid` shows it".into(),
            }),
            NamedBy::Contents | NamedBy::NoDisk => {}
        }
        if let Some(held) = held_elsewhere(tree, key, options).filter(|_| !at_random) {
            found.risk(BootRisk {
                level: level(BootRiskLevel::WillNotBoot),
                what: format!("the key of {name} is {held}"),
                place: line.place.clone(),
                why: "it does not come with the disk: without a passphrase all on it is lost"
                    .into(),
                remedy:
                    "cryptsetup luksAddKey with a passphrase that is kept elsewhere, and try it"
                        .into(),
            });
        } else if matches!(key, "none" | "-") {
            found.note(format!(
                "{name} asks for its passphrase at each start, on a console"
            ));
        }
    }
    found.saw(CRYPTTAB, format!("{count} entries"));
}

/// Where a key is that does not lie on a disk of the machine.
fn held_elsewhere(tree: &MachineFiles, key: &str, options: &str) -> Option<String> {
    let in_chip = ["tpm2-device=", "fido2-device=", "pkcs11-uri="];
    let mut options = options.split(',');
    if let Some(option) = options.find(|one| in_chip.iter().any(|chip| one.starts_with(chip))) {
        return Some(format!("in a chip or token ({option})"));
    }
    let outside = ["/dev/", "/media/", "/run/", "/mnt/"];
    if outside.iter().any(|start| key.starts_with(start)) {
        return Some(format!("outside of the system's disks ({key})"));
    }
    let missing = key.starts_with('/') && !tree.has(key.split(':').next().unwrap_or(key));
    missing.then(|| format!("not on the system's disks ({key})"))
}
