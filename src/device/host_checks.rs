//! What this host can and cannot do, as plain files show, and what to do about it. It changes
//! nothing and tries nothing out.

use super::host::Host;
use super::mountinfo;
use crate::error::Result;
use nix::unistd::{AccessFlags, Uid, access};
use serde::Serialize;
use std::path::Path;

/// How the cgroup file systems are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cgroups {
    /// Version 2 at `/sys/fs/cgroup`: `io.max` works.
    V2,
    /// Version 1, with or without a version 2 tree beside it that has no controllers.
    V1,
    /// None.
    None,
}

/// What plain files show about this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostChecks {
    /// The kernel's release (`6.1.0-18-cloud-amd64`).
    pub kernel: String,
    /// Whether this process is root.
    pub root: bool,
    /// Whether the kernel describes its types (`/sys/kernel/btf/vmlinux`).
    pub btf: bool,
    /// Whether a BPF filesystem is mounted at `/sys/fs/bpf`.
    pub bpf_filesystem: bool,
    /// `none`, `integrity` or `confidentiality`; `None` where the kernel has no lockdown.
    pub lockdown: Option<String>,
    /// `kernel.io_uring_disabled`: 0 for all, 1 for a group and the privileged, 2 for nobody.
    pub io_uring_disabled: u64,
    /// The cgroup version.
    pub cgroups: Cgroups,
    /// Whether `/run` can be written to.
    pub run_writable: bool,
}

/// One line of `stillpoint doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub value: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What to do where it is not, and what happens otherwise.
    pub remedy: Option<&'static str>,
}

impl HostChecks {
    /// Looks at the host.
    ///
    /// # Errors
    /// When the mounts cannot be read.
    pub fn gather(host: &Host) -> Result<Self> {
        let mounts = mountinfo::own(host)?;
        let mounted = |fstype: &str, target: &str| {
            mounts
                .iter()
                .any(|entry| entry.fstype == fstype && entry.target == Path::new(target))
        };
        let cgroups = if mounted("cgroup2", "/sys/fs/cgroup") {
            Cgroups::V2
        } else if mounts.iter().any(|entry| entry.fstype == "cgroup") {
            Cgroups::V1
        } else {
            Cgroups::None
        };
        let kernel = Host::text(&host.proc.join("sys/kernel/osrelease"));
        let lockdown = Host::text(&host.sys.join("kernel/security/lockdown"));
        Ok(Self {
            kernel: kernel.unwrap_or_default(),
            root: Uid::effective().is_root(),
            btf: host.sys.join("kernel/btf/vmlinux").exists(),
            bpf_filesystem: mounted("bpf", "/sys/fs/bpf"),
            lockdown: lockdown.and_then(|line| chosen(&line)),
            io_uring_disabled: Host::number(&host.proc.join("sys/kernel/io_uring_disabled"))
                .unwrap_or(0),
            cgroups,
            run_writable: access(&host.run, AccessFlags::W_OK).is_ok(),
        })
    }

    /// The same as lines to print, each with its remedy where something is amiss.
    pub fn findings(&self) -> Vec<Finding> {
        let finding = |name, value: &str, ok: bool, remedy| Finding {
            name,
            value: value.to_owned(),
            ok,
            remedy: (!ok).then_some(remedy),
        };
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        let lockdown = self.lockdown.as_deref().unwrap_or("none");
        let io_uring = match self.io_uring_disabled {
            0 => "allowed",
            1 => "for the privileged",
            _ => "switched off",
        };
        vec![
            finding("kernel", &self.kernel, !self.kernel.is_empty(), KERNEL),
            finding("root", yes(self.root), self.root, ROOT),
            finding("kernel type information", yes(self.btf), self.btf, BTF),
            finding(
                "bpf filesystem",
                yes(self.bpf_filesystem),
                self.bpf_filesystem,
                BPF,
            ),
            finding(
                "lockdown",
                lockdown,
                lockdown != "confidentiality",
                LOCKDOWN,
            ),
            finding("io_uring", io_uring, self.io_uring_disabled < 2, IO_URING),
            finding(
                "/run writable",
                yes(self.run_writable),
                self.run_writable,
                RUN,
            ),
        ]
    }
}

const KERNEL: &str = "mount proc at /proc";
const ROOT: &str = "run as root: disks cannot be read, frozen or tracked otherwise";
const BTF: &str = "use a kernel built with CONFIG_DEBUG_INFO_BTF, as distributions' are; until \
                   then changes cannot be tracked and every snapshot reads the whole disk";
const BPF: &str = "mount -t bpf bpf /sys/fs/bpf; until then tracking ends with the process";
const LOCKDOWN: &str = "boot with lockdown=integrity: confidentiality forbids tracing, so changes \
                        cannot be tracked and snapshots are refused";
const IO_URING: &str = "sysctl kernel.io_uring_disabled=1; until then disks are read one request \
                        at a time, which is slower";
const RUN: &str = "make /run writable: locks and job records are kept there";

/// The word in brackets of `none [integrity] confidentiality`.
fn chosen(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}
