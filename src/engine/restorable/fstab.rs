//! `fstab`: what is mounted by a name that another machine gives to something else or to nothing,
//! and what is waited for though it may not be there. An entry without `nofail` that is missing
//! ends the start in an emergency shell (systemd.mount(5)).

use super::ground::{DiskGround, NamedDisk};
use super::naming::{NamedBy, named_by};
use super::tree::{MachineFiles, said};
use super::verdict::{BootRisk, BootRiskLevel, Restorability};

const PATH: &str = "/etc/fstab";
const BY_UUID: &str = "name it by UUID=, as `blkid` shows it";

/// One entry.
struct FstabEntry {
    place: String,
    source: String,
    target: String,
    /// Whether the start fails without it.
    required: bool,
    swap: bool,
}

impl FstabEntry {
    fn parse(place: String, line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (source, target) = (fields.next()?, fields.next()?);
        let fstype = fields.next().unwrap_or("auto");
        let options: Vec<&str> = fields.next().unwrap_or("").split(',').collect();
        let optional = ["nofail", "noauto", "x-systemd.automount", "_netdev"];
        Some(Self {
            place,
            source: source.to_owned(),
            target: target.replace("\\040", " "),
            required: !options.iter().any(|option| optional.contains(option)),
            swap: fstype == "swap",
        })
    }

    fn name(&self) -> String {
        match self.swap {
            true => format!("swap ({})", self.source),
            false => format!("{} ({})", self.target, self.source),
        }
    }

    /// How bad it is that it is not found: swap is waited for, and then done without.
    fn level(&self, level: BootRiskLevel) -> BootRiskLevel {
        match self.swap {
            true => BootRiskLevel::BehavesOtherwise,
            false => level,
        }
    }

    fn without_it(&self) -> &'static str {
        match self.swap {
            true => "the start waits a minute and a half for it, and goes on without swap",
            false => "the start waits a minute and a half for it, and ends in an emergency shell",
        }
    }
}

/// Looks at it.
pub(super) fn look(tree: &MachineFiles, ground: Option<&DiskGround>, found: &mut Restorability) {
    let Some(text) = tree.text(PATH, found) else {
        return;
    };
    let entries = said(PATH, &text).filter_map(|line| FstabEntry::parse(line.place, line.text));
    let mut count = 0;
    for entry in entries {
        count += 1;
        if !entry.required {
            continue;
        }
        match named_by(&entry.source) {
            NamedBy::NoDisk => continue,
            NamedBy::Kernel => found.risk(by_kernel_name(&entry)),
            NamedBy::Hardware => found.risk(by_hardware(&entry)),
            NamedBy::Contents => {}
        }
        if let Some(ground) = ground {
            look_for(tree, ground, &entry, found);
        }
    }
    found.saw(PATH, format!("{count} entries"));
}

fn by_kernel_name(entry: &FstabEntry) -> BootRisk {
    BootRisk {
        level: entry.level(BootRiskLevel::MayNotBoot),
        what: format!(
            "{} is named as this machine's kernel counts its disks",
            entry.name()
        ),
        place: entry.place.clone(),
        why: format!(
            "another machine may have no such name: then {}",
            entry.without_it()
        ),
        remedy: BY_UUID.into(),
    }
}

fn by_hardware(entry: &FstabEntry) -> BootRisk {
    BootRisk {
        level: entry.level(BootRiskLevel::WillNotBoot),
        what: format!("{} is named by this machine's hardware", entry.name()),
        place: entry.place.clone(),
        why: format!("no other machine has it: there {}", entry.without_it()),
        remedy: BY_UUID.into(),
    }
}

/// Looks for what an entry needs: whether it is here at all, and goes with the system's disks.
fn look_for(
    tree: &MachineFiles,
    ground: &DiskGround,
    entry: &FstabEntry,
    found: &mut Restorability,
) {
    let mounted = ground.at(&entry.target).filter(|_| !entry.swap);
    let named = match mounted {
        Some(mounted) => NamedDisk::On(mounted.disks.clone()),
        None => ground.named(tree, &entry.source),
    };
    match named {
        NamedDisk::On(disks) if !disks.is_subset(&ground.system) => {
            let other = disks.difference(&ground.system).copied().collect();
            found.note(format!(
                "{}: {} needs {}, too: restore it along with the system, or add nofail",
                entry.place,
                entry.name(),
                ground.names(&other)
            ));
        }
        NamedDisk::On(_) | NamedDisk::Unknown => {}
        NamedDisk::Nowhere => found.risk(BootRisk {
            level: entry.level(BootRiskLevel::MayNotBoot),
            what: format!("{} is on no disk that is here", entry.name()),
            place: entry.place.clone(),
            why: format!(
                "it is not found at the next start either: {}",
                entry.without_it()
            ),
            remedy: "take the entry out, or add nofail".into(),
        }),
    }
}
