//! What the machine's system lies on: the disks below `/` and what it needs to start, and the disk
//! that a name in a file means. It asks sysfs, mount tables and udev's links, and opens no disk.

use super::naming::unquoted;
use super::tree::MachineFiles;
use super::verdict::{BootRisk, BootRiskLevel, Restorability};
use crate::device::{Disk, DiskObstacle, Filesystem, Host, Mounts, NoTables, TOO_LARGE, Topology};
use crate::model::DevNumber;
use std::collections::BTreeSet;
use std::path::Path;

/// Without what is mounted at these the system does not start.
const SYSTEM: [&str; 7] = ["/", "/usr", "/boot", "/boot/efi", "/efi", "/var", "/etc"];

/// A machine's disks.
pub(super) struct DiskGround {
    topology: Topology,
    mounts: Mounts,
    /// Those that the system lies on.
    pub system: BTreeSet<DevNumber>,
}

/// Where a name in a file leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NamedDisk {
    /// To these disks.
    On(BTreeSet<DevNumber>),
    /// To nothing that is here.
    Nowhere,
    /// Nobody knows.
    Unknown,
}

/// The device that a link of udev's leads to, by its name.
enum Linked {
    To(String),
    Nowhere,
    Unknown,
}

impl DiskGround {
    /// Scans. `None`, and told, where the machine's own view is not there.
    pub(super) fn scan(root: &Path, found: &mut Restorability) -> Option<Self> {
        let host = Host::at(root);
        let scanned = Topology::scan(&host, &NoTables)
            .and_then(|topology| Ok((Mounts::read(&host, &topology)?, topology)));
        match scanned {
            Ok((mounts, topology)) => {
                let mut system = BTreeSet::new();
                for target in SYSTEM {
                    let at = mounted_at(&mounts, target);
                    system.extend(at.into_iter().flat_map(|one| &one.disks));
                }
                Some(Self {
                    topology,
                    mounts,
                    system,
                })
            }
            Err(error) => {
                found.could_not("what the filesystems lie on", error.to_string());
                None
            }
        }
    }

    /// What is mounted there now.
    pub(super) fn at(&self, target: &str) -> Option<&Filesystem> {
        mounted_at(&self.mounts, target)
    }

    /// The names of these disks.
    pub(super) fn names(&self, disks: &BTreeSet<DevNumber>) -> String {
        let names = disks.iter().filter_map(|dev| self.topology.disk(*dev));
        let names: Vec<&str> = names.map(Disk::name).collect();
        names.join(", ")
    }

    /// The disks that a source of `fstab` or the like means.
    pub(super) fn named(&self, tree: &MachineFiles, source: &str) -> NamedDisk {
        let source = unquoted(source);
        let device = match source.split_once('=') {
            Some((tag, value)) => {
                let folder = match tag {
                    "UUID" => "by-uuid",
                    "LABEL" => "by-label",
                    "PARTUUID" => "by-partuuid",
                    "PARTLABEL" => "by-partlabel",
                    _ => return NamedDisk::Unknown,
                };
                let name = match linked(tree, folder, value) {
                    Linked::To(name) => name,
                    Linked::Nowhere => return NamedDisk::Nowhere,
                    Linked::Unknown => return NamedDisk::Unknown,
                };
                self.topology.named(&name)
            }
            None => match tree.link(&source).as_deref().and_then(last_name) {
                Some(name) => self.topology.named(&name),
                None => self.topology.node(Path::new(&source)),
            },
        };
        match device {
            Some(device) => NamedDisk::On(self.topology.bottom(device.dev)),
            None => NamedDisk::Unknown,
        }
    }
}

fn mounted_at<'a>(mounts: &'a Mounts, target: &str) -> Option<&'a Filesystem> {
    mounts.filesystems().iter().find(|one| {
        let mut places = one.mounts.iter();
        places.any(|m| m.pid.is_none() && m.visible && m.target == Path::new(target))
    })
}

/// Where udev's link leads: `../../vda1`. Labels are written there with escapes.
fn linked(tree: &MachineFiles, folder: &str, value: &str) -> Linked {
    let folder = format!("/dev/disk/{folder}");
    let mut unread = Restorability::default();
    let names = tree.names(&folder, &mut unread);
    let escaped = value
        .replace("\\040", " ")
        .replace(' ', "\\x20")
        .replace('/', "\\x2f");
    let name = names
        .iter()
        .find(|name| name.eq_ignore_ascii_case(&escaped));
    let link = name.and_then(|name| tree.link(&format!("{folder}/{name}")));
    match link.as_deref().and_then(last_name) {
        Some(name) => Linked::To(name),
        // Without udev there are no links, and nothing can be said.
        None if tree.has("/dev/disk/by-uuid") && unread.is_clean() => Linked::Nowhere,
        None => Linked::Unknown,
    }
}

fn last_name(link: &std::path::Path) -> Option<String> {
    Some(link.file_name()?.to_str()?.to_owned())
}

/// Whether snapshots can be taken of what the system lies on at all.
pub(super) fn look(ground: &DiskGround, found: &mut Restorability) {
    let Some(root) = ground.at("/") else {
        found.risk(no_disk("/ is mounted from no block device".into()));
        return;
    };
    if !root.members_known || root.disks.is_empty() {
        found.risk(no_disk(format!(
            "nobody can tell which disks / ({}) lies on",
            root.fstype
        )));
        return;
    }
    let names = ground.names(&ground.system);
    found.saw("disks of the system", names.clone());
    if ground.system.len() > 1 {
        found.note(format!(
            "the system needs {names}: restore all of them together"
        ));
    }
    for disk in ground
        .system
        .iter()
        .filter_map(|dev| ground.topology.disk(*dev))
    {
        if let Some(obstacle) = disk.obstacle {
            found.risk(untracked(disk, obstacle));
        } else if disk.is_too_large() {
            found.risk(BootRisk {
                remedy: "keep the system on a smaller disk".into(),
                ..no_disk(format!("{}: {TOO_LARGE}", disk.name()))
            });
        }
    }
}

fn no_disk(what: String) -> BootRisk {
    BootRisk {
        level: BootRiskLevel::WillNotBoot,
        what,
        place: "/".into(),
        why: "no snapshot holds the system, so there is nothing to restore it from".into(),
        remedy: "keep the system on a disk of its own with ext4, xfs or btrfs".into(),
    }
}

fn untracked(disk: &Disk, obstacle: DiskObstacle) -> BootRisk {
    BootRisk {
        level: BootRiskLevel::WillNotBoot,
        what: format!(
            "no snapshot can be taken of {}: {}",
            disk.name(),
            obstacle.why()
        ),
        place: disk.path.display().to_string(),
        why: "the system lies on it, and there is nothing to restore it from".into(),
        remedy: obstacle.remedy(disk.name()),
    }
}
