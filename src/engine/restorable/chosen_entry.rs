//! Which entry the boot loader was told to start: a kernel that is neither the newest nor the one
//! that runs is started by it. It reads what grub and systemd-boot read, and takes an entry for a
//! kernel's where the kernel's release stands in its name.

use super::boot_loader::{DEFAULTS, ENVIRONMENTS};
use super::tree::MachineFiles;
use super::verdict::Restorability;

const LOADERS: [&str; 3] = [
    "/boot/loader/loader.conf",
    "/boot/efi/loader/loader.conf",
    "/efi/loader/loader.conf",
];

/// An entry that was chosen by name or by number.
pub(super) struct ChosenEntry {
    /// The file that says so.
    place: &'static str,
    /// What it says.
    name: String,
    /// It is what is started. Else it is so only if something else says so as well.
    is_sure: bool,
}

impl ChosenEntry {
    /// All that were chosen. The first entry, which is the newest kernel's, is not among them.
    pub(super) fn all(tree: &MachineFiles) -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |place, name: &str, is_sure| {
            let name = name.trim().trim_matches(['"', '\'']).to_owned();
            if !name.is_empty() && name != "0" {
                all.push(Self {
                    place,
                    name,
                    is_sure,
                });
            }
        };
        let default = value(tree, DEFAULTS, |line| line.strip_prefix("GRUB_DEFAULT="));
        let is_saved = default.trim().trim_matches(['"', '\'']) == "saved";
        if !is_saved {
            add(DEFAULTS, &default, true);
        }
        for place in ENVIRONMENTS {
            for (key, is_sure) in [("saved_entry=", is_saved), ("next_entry=", true)] {
                let name = value(tree, place, |line| line.strip_prefix(key));
                add(place, &name, is_sure);
            }
        }
        for place in LOADERS {
            add(place, &value(tree, place, default_of), true);
        }
        all
    }

    /// Whether it is the entry of a kernel of this release.
    pub(super) fn is_of(&self, release: &str) -> bool {
        self.name.contains(release)
    }

    /// Tells that no kernel that was found is the one that it starts.
    pub(super) fn has_no_kernel(&self, found: &mut Restorability) {
        if self.is_sure {
            let why = format!(
                "it starts the entry {:?}, whose kernel was not found",
                self.name
            );
            found.could_not(self.place, why);
        }
    }
}

/// What the last line of a file says that says anything of it: it is the one that counts. Empty
/// where none does.
fn value(tree: &MachineFiles, path: &str, of_line: impl Fn(&str) -> Option<&str>) -> String {
    let text = tree.text_if_any(path).unwrap_or_default();
    let mut said = text.lines().filter_map(|line| of_line(line.trim()));
    said.next_back().unwrap_or_default().to_owned()
}

fn default_of(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("default")?;
    rest.starts_with([' ', '\t']).then_some(rest)
}
