//! What keeps a host from tracking, and what to do about it. It must never change anything.

use super::capacity::CapacityWatch;
use super::kernel_log::KernelLog;
use super::pins::{BPFFS, is_bpffs};
use super::programs::{TRACEPOINT, new_marks};
use crate::device::{DiskObstacle, Host, NoTables, Topology};
use crate::sys::machine::kernel_version;
use aya::Btf;
use std::path::Path;

/// One thing that stands in the way of tracking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What it is.
    pub what: String,
    /// What the user can do about it.
    pub remedy: String,
    /// Whether tracking cannot work at all like this; otherwise starting it will deal with it.
    pub fatal: bool,
}

impl Obstacle {
    fn fatal(what: impl Into<String>, remedy: &str) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.to_owned(),
            fatal: true,
        }
    }
}

/// What this host is like, as far as tracking goes.
#[derive(Clone, Debug)]
struct HostAbilities {
    is_root: bool,
    /// The first two numbers of the kernel's release.
    release: Option<(u32, u32)>,
    /// `/sys/kernel/security/lockdown`.
    lockdown: String,
    has_types: bool,
    /// Whether those types include the tracepoint; asked only where there are types.
    has_tracepoint: bool,
    bpffs_mounted: bool,
    has_bpffs_mount_point: bool,
    /// Why the kernel refuses to make a map.
    map_refused: Option<String>,
}

/// What keeps this host from tracking; empty where nothing does. Needs about a tenth of a second.
pub fn obstacles() -> Vec<Obstacle> {
    let is_root = nix::unistd::geteuid().is_root();
    let has_types = Path::new("/sys/kernel/btf/vmlinux").exists();
    judge(&HostAbilities {
        is_root,
        release: kernel_version(),
        lockdown: std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default(),
        has_types,
        has_tracepoint: has_types && tracepoint_is_known(),
        bpffs_mounted: is_bpffs(Path::new(BPFFS)).unwrap_or(false),
        has_bpffs_mount_point: Path::new(BPFFS).exists(),
        map_refused: is_root
            .then(|| new_marks(1).err().map(|error| error.to_string()))
            .flatten(),
    })
}

/// Disks that could be tracked if the kernel counted what is written to them, with the remedy.
pub fn uncounted() -> Vec<Obstacle> {
    let topology = Topology::scan(&Host::here(), &NoTables).unwrap_or_default();
    let uncounted = topology.disks().filter_map(|disk| {
        let obstacle = disk.obstacle?;
        (obstacle == DiskObstacle::Uncounted).then(|| Obstacle {
            what: format!(
                "{}: the kernel does not count what is written to it",
                disk.name()
            ),
            remedy: obstacle.remedy(disk.name()),
            fatal: false,
        })
    });
    uncounted.collect()
}

/// What tracking cannot notice on this kernel, if anything.
pub fn unwatched() -> Option<Obstacle> {
    let known = Btf::from_sys_fs().is_ok_and(|btf| CapacityWatch::is_known(&btf));
    (!known && KernelLog::open("").is_err()).then(|| Obstacle {
        what: "this kernel does not tell when a disk's capacity changes".into(),
        remedy: "take a snapshot with --full after a disk was made smaller and as large again"
            .into(),
        fatal: false,
    })
}

fn tracepoint_is_known() -> bool {
    let name = format!("btf_trace_{TRACEPOINT}");
    Btf::from_sys_fs().is_ok_and(|btf| {
        btf.id_by_type_name_kind(&name, aya_obj::btf::BtfKind::Typedef)
            .is_ok()
    })
}

fn judge(host: &HostAbilities) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if !host.is_root {
        found.push(Obstacle::fatal("not root", "run it as root"));
    }
    if let Some((major, minor)) = host.release
        && (major, minor) < (5, 10)
    {
        found.push(Obstacle::fatal(
            format!("kernel {major}.{minor} is too old"),
            "use kernel 5.10 or later",
        ));
    }
    if host.lockdown.contains("[confidentiality]") {
        found.push(Obstacle::fatal(
            "the kernel is locked down to confidentiality",
            "boot with lockdown=integrity: Secure Boot needs no more",
        ));
    }
    if !host.has_types {
        found.push(Obstacle::fatal(
            "the kernel does not describe its own types (no /sys/kernel/btf/vmlinux)",
            "use a kernel built with CONFIG_DEBUG_INFO_BTF",
        ));
    } else if !host.has_tracepoint {
        found.push(Obstacle::fatal(
            format!("the kernel has no tracepoint {TRACEPOINT} that programs can attach to"),
            "use a kernel built with CONFIG_BPF_EVENTS",
        ));
    }
    if !host.has_bpffs_mount_point {
        found.push(Obstacle::fatal(
            format!("there is no {BPFFS}"),
            "mount sysfs, or leave the container, and use a kernel built with CONFIG_BPF_SYSCALL",
        ));
    } else if !host.bpffs_mounted {
        found.push(Obstacle {
            what: format!("the BPF filesystem is not mounted on {BPFFS}"),
            remedy: "starting the tracker mounts it; to have it at boot: \
                     systemctl enable --now sys-fs-bpf.mount"
                .to_owned(),
            fatal: false,
        });
    }
    if let Some(why) = &host.map_refused {
        found.push(Obstacle::fatal(
            format!("the kernel refuses BPF: {why}"),
            "leave the container, or allow the service the bpf system call and CAP_BPF",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able() -> HostAbilities {
        HostAbilities {
            is_root: true,
            release: Some((6, 1)),
            lockdown: "none [integrity] confidentiality\n".into(),
            has_types: true,
            has_tracepoint: true,
            bpffs_mounted: true,
            has_bpffs_mount_point: true,
            map_refused: None,
        }
    }

    #[test]
    fn each_obstacle_is_named_with_a_remedy() {
        assert_eq!(judge(&able()), []);
        type Case = (fn(&mut HostAbilities), &'static str, bool);
        let cases: [Case; 8] = [
            (|host| host.is_root = false, "not root", true),
            (|host| host.release = Some((5, 4)), "too old", true),
            (
                |host| host.lockdown = "none integrity [confidentiality]\n".into(),
                "locked down",
                true,
            ),
            (|host| host.has_types = false, "types", true),
            (|host| host.has_tracepoint = false, "tracepoint", true),
            (|host| host.bpffs_mounted = false, "not mounted", false),
            (
                |host| host.has_bpffs_mount_point = false,
                "there is no",
                true,
            ),
            (
                |host| host.map_refused = Some("EPERM".into()),
                "refuses",
                true,
            ),
        ];
        for (spoil, word, fatal) in cases {
            let mut host = able();
            spoil(&mut host);
            let found = judge(&host);
            assert_eq!(found.len(), 1, "{word}");
            assert!(found[0].what.contains(word) && !found[0].remedy.is_empty());
            assert_eq!(found[0].fatal, fatal, "{word}");
        }
    }
}
