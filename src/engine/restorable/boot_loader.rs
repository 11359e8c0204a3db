//! What the boot loader hands to the kernel: by what it names the root and the place to resume
//! from, and whether anything is said on a serial line, which is all that a cloud shows.

use super::naming::{NamedBy, named_by};
use super::tree::{MachineFiles, said};
use super::verdict::{BootRisk, BootRiskLevel, Restorability};

/// Files of lines in which the kernel's command line stands behind the words of a boot loader.
const CONFIGS: [&str; 4] = [
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/etc/kernel/cmdline",
    "/boot/extlinux/extlinux.conf",
];

/// What grub's variables hold (`kernelopts`, `saved_entry`): lines of a block of 1 KiB.
pub(super) const ENVIRONMENTS: [&str; 2] = ["/boot/grub2/grubenv", "/boot/grub/grubenv"];

const ENTRIES: [&str; 3] = [
    "/boot/loader/entries",
    "/boot/efi/loader/entries",
    "/efi/loader/entries",
];

/// How grub is told to write its configuration.
pub(super) const DEFAULTS: &str = "/etc/default/grub";
const RUNNING: &str = "/proc/cmdline";

/// An option that names a disk, and what happens without that.
struct NamingOption {
    option: &'static str,
    level: BootRiskLevel,
    without: &'static str,
}

const NAMING: [NamingOption; 2] = [
    NamingOption {
        option: "root=",
        level: BootRiskLevel::MayNotBoot,
        without: "the kernel finds no root, and stops in an emergency shell",
    },
    NamingOption {
        option: "resume=",
        level: BootRiskLevel::BehavesOtherwise,
        without: "the start waits for it, and goes on",
    },
];

/// Looks at all of them.
pub(super) fn look(tree: &MachineFiles, found: &mut Restorability) {
    let mut seen = Vec::new();
    for path in CONFIGS.iter().chain(&ENVIRONMENTS) {
        if let Some(text) = tree.text(path, found) {
            look_at(path, &text, found);
            seen.push((*path).to_owned());
        }
    }
    for path in tree.files_of(&ENTRIES, ".conf", found) {
        let text = tree.text(&path, found).unwrap_or_default();
        look_at(&path, &text, found);
        seen.push(path);
    }
    defaults(tree, found);
    match seen.as_slice() {
        [] => {
            if let Some(text) = tree.text(RUNNING, found) {
                look_at(RUNNING, &text, found);
            }
            let why = "neither grub's configuration nor entries of another one were found";
            found.could_not("the boot loader", why);
        }
        all => found.saw("boot loader", all.join(", ")),
    }
    console(tree, found);
}

/// The first line of each file in which an option names a disk so: the others are like it.
fn look_at(path: &str, text: &str, found: &mut Restorability) {
    for option in &NAMING {
        let mut lines = said(path, text);
        let risk = lines.find_map(|line| option.risk_in(path, line.place, line.text));
        risk.into_iter().for_each(|risk| found.risk(risk));
    }
}

impl NamingOption {
    /// The risk that a line bears.
    fn risk_in(&self, path: &str, place: String, line: &str) -> Option<BootRisk> {
        let option = self.option;
        let source = line
            .split_whitespace()
            .find_map(|word| value_of(word, option))?;
        let (level, otherwise) = match named_by(&source) {
            NamedBy::Hardware if self.level == BootRiskLevel::MayNotBoot => {
                (BootRiskLevel::WillNotBoot, "no other machine has it: ")
            }
            NamedBy::Hardware => (self.level, "no other machine has it: "),
            NamedBy::Kernel => (self.level, "where the disk has another name "),
            NamedBy::Contents | NamedBy::NoDisk => return None,
        };
        Some(BootRisk {
            level,
            what: format!("the kernel is told {option}{source}"),
            place,
            why: format!("{otherwise}{}", self.without),
            remedy: remedy_for(path, option),
        })
    }
}

/// `root=X`, also behind a quote or a variable's name: `kernelopts=root=X`.
fn value_of(word: &str, option: &str) -> Option<String> {
    let word = word.trim_start_matches(['"', '\'']);
    let word = word.strip_prefix("kernelopts=").unwrap_or(word);
    let word = word.trim_start_matches(['"', '\'']);
    Some(
        word.strip_prefix(option)?
            .trim_matches(['"', '\''])
            .to_owned(),
    )
}

fn remedy_for(path: &str, option: &str) -> String {
    let by = format!("name it by {option}UUID=, as `blkid` shows it");
    match path {
        "/boot/grub/grub.cfg" => format!(
            "{by}: see that an initramfs and /dev/disk/by-uuid are there, then: update-grub"
        ),
        "/boot/grub2/grub.cfg" => format!("{by}, then: grub2-mkconfig -o {path}"),
        "/boot/grub2/grubenv" => "grubby --update-kernel=ALL --args=root=UUID=...".into(),
        RUNNING => format!("{by} where this machine's command line comes from"),
        _ => format!("{by} in {path}"),
    }
}

/// What makes grub's configuration anew at the next update of a kernel.
fn defaults(tree: &MachineFiles, found: &mut Restorability) {
    let mut files = vec![DEFAULTS.to_owned()];
    files.extend(tree.files_in("/etc/default/grub.d", ".cfg", found));
    let (mut by_name, mut by_part) = (None, false);
    for path in &files {
        let text = tree.text(path, found).unwrap_or_default();
        for line in said(path, &text) {
            let Some((key, value)) = line.text.split_once('=') else {
                continue;
            };
            let value = value.trim().trim_matches(['"', '\'']);
            match key.trim() {
                "GRUB_DISABLE_LINUX_UUID" => {
                    by_name = (value == "true").then(|| line.place.clone());
                }
                "GRUB_DISABLE_LINUX_PARTUUID" => by_part = value == "false",
                "GRUB_FORCE_PARTUUID" => by_part = !value.is_empty(),
                _ => {}
            }
            if key.starts_with("GRUB_CMDLINE_LINUX") {
                let risks = NAMING
                    .iter()
                    .filter_map(|option| option.risk_in(path, line.place.clone(), value));
                risks.for_each(|risk| found.risk(risk));
            }
        }
    }
    if let Some(place) = by_name.filter(|_| !by_part) {
        found.risk(BootRisk {
            level: BootRiskLevel::MayNotBoot,
            what: "GRUB_DISABLE_LINUX_UUID=true: grub names the root as this machine's kernel does"
                .into(),
            place,
            why: "where the disk has another name the kernel finds no root".into(),
            remedy: "take the line out, then: update-grub (or grub2-mkconfig -o \
                     /boot/grub2/grub.cfg)"
                .into(),
        });
    }
}

/// Whether the kernel talks on a serial line.
fn console(tree: &MachineFiles, found: &mut Restorability) {
    let Some(text) = tree.text(RUNNING, found) else {
        return found.could_not("the kernel's consoles", format!("{RUNNING} is not there"));
    };
    let consoles = text
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("console="));
    let consoles: Vec<&str> = consoles.collect();
    let serial = ["ttyS", "ttyAMA", "hvc", "ttymxc", "ttysclp"];
    let is_serial = |one: &&str| serial.iter().any(|start| one.starts_with(start));
    if consoles.iter().any(is_serial) {
        return found.saw("consoles of the kernel", consoles.join(", "));
    }
    found.risk(BootRisk {
        level: BootRiskLevel::BehavesOtherwise,
        what: "the kernel says nothing on a serial line".into(),
        place: RUNNING.into(),
        why: "it is all that most clouds show of a machine that does not start".into(),
        remedy: "add console=tty0 console=ttyS0,115200 to GRUB_CMDLINE_LINUX in \
                 /etc/default/grub, then: update-grub (or grub2-mkconfig)"
            .into(),
    });
}
