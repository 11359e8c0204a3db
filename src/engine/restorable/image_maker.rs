//! What makes a machine's initramfs (initramfs-tools, dracut, mkinitcpio), whether it is told to
//! make it for this machine alone, and how to have it made for others.

use super::tree::{MachineFiles, said};
use super::verdict::Restorability;

/// The programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    InitramfsTools,
    Dracut,
    Mkinitcpio,
    Unknown,
}

/// What makes the initramfs.
pub(super) struct ImageMaker {
    program: Program,
    /// The line that has it made for this machine alone, or of what is listed alone.
    pub for_this_machine: Option<String>,
    /// Whether it is the second.
    listed: bool,
}

impl ImageMaker {
    /// What makes the initramfs of a kernel that has none; `None`: it is not known that this
    /// machine makes any.
    pub(super) fn makes(&self, release: &str) -> Option<String> {
        match self.program {
            Program::InitramfsTools => Some(format!("update-initramfs -c -k {release}")),
            Program::Dracut => Some(format!("dracut --force --kver {release}")),
            Program::Mkinitcpio => Some("mkinitcpio -P".into()),
            Program::Unknown => None,
        }
    }

    /// What has these drivers, or all, in the initramfs.
    pub(super) fn remedy(&self, drivers: &[&str]) -> String {
        let all = drivers.join(" ");
        match (self.program, &self.for_this_machine) {
            (Program::InitramfsTools, Some(place)) => {
                format!(
                    "set MODULES=most in {}, then: update-initramfs -u -k all",
                    file(place)
                )
            }
            (Program::InitramfsTools, None) => format!(
                "add to /etc/initramfs-tools/modules, each in a line: {all}; then: \
                 update-initramfs -u -k all"
            ),
            (Program::Dracut, _) if drivers.is_empty() => {
                "echo 'hostonly=\"no\"' > /etc/dracut.conf.d/99-elsewhere.conf && dracut --force \
                 --regenerate-all"
                    .into()
            }
            (Program::Dracut, _) => format!(
                "echo 'add_drivers+=\" {all} \"' > /etc/dracut.conf.d/99-elsewhere.conf && dracut \
                 --force --regenerate-all"
            ),
            (Program::Mkinitcpio, _) => {
                format!("add to MODULES in /etc/mkinitcpio.conf: {all}; then: mkinitcpio -P")
            }
            (Program::Unknown, _) => {
                format!("have these drivers put into the initramfs, and make it anew: {all}")
            }
        }
    }

    /// The line by which the next image lacks what this one has. With dracut's `hostonly` it may
    /// have been told to add drivers all the same, as this image shows.
    pub(super) fn will_leave_out(&self) -> Option<&str> {
        let place = self.for_this_machine.as_deref();
        place.filter(|_| self.program == Program::InitramfsTools && !self.listed)
    }
}

fn file(place: &str) -> &str {
    place.rsplit_once(':').map_or(place, |(file, _)| file)
}

/// Finds out.
pub(super) fn image_maker(tree: &MachineFiles, found: &mut Restorability) -> ImageMaker {
    if tree.has("/etc/initramfs-tools/initramfs.conf") {
        let mut files = vec!["/etc/initramfs-tools/initramfs.conf".to_owned()];
        files.extend(tree.files_in("/etc/initramfs-tools/conf.d", "", found));
        let listed = last(tree, &files, "MODULES", &["list"], found);
        return ImageMaker {
            program: Program::InitramfsTools,
            listed: listed.is_some(),
            for_this_machine: listed.or_else(|| last(tree, &files, "MODULES", &["dep"], found)),
        };
    }
    if tree.has("/usr/lib/dracut") || tree.has("/etc/dracut.conf") {
        let mut files = tree.files_in("/usr/lib/dracut/dracut.conf.d", ".conf", found);
        files.push("/etc/dracut.conf".into());
        files.extend(tree.files_in("/etc/dracut.conf.d", ".conf", found));
        return ImageMaker {
            program: Program::Dracut,
            listed: false,
            for_this_machine: last(tree, &files, "hostonly", &["yes"], found),
        };
    }
    let program = match tree.has("/etc/mkinitcpio.conf") {
        true => Program::Mkinitcpio,
        false => Program::Unknown,
    };
    ImageMaker {
        program,
        listed: false,
        for_this_machine: None,
    }
}

/// Where a setting of shell's files stands last, if it has one of these values there.
fn last(
    tree: &MachineFiles,
    files: &[String],
    name: &str,
    values: &[&str],
    found: &mut Restorability,
) -> Option<String> {
    let mut last = None;
    for path in files {
        let text = tree.text(path, found).unwrap_or_default();
        for line in said(path, &text) {
            let set = line
                .text
                .split_once('=')
                .filter(|(key, _)| key.trim() == name);
            if let Some((_, value)) = set {
                let value = value.split('#').next().unwrap_or_default();
                let value = value.trim().trim_matches(['"', '\'']).to_owned();
                last = values.contains(&value.as_str()).then_some(line.place);
            }
        }
    }
    last
}
