//! What the guardian does so that nothing that hits its starter hits it too: a session, a control
//! group and memory of its own. Each measure is a best effort that reports; none may stop it.

use super::wire::Entry;
use crate::sys;
use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where control groups may be mounted: v2 alone, v2 beside v1, and the hierarchies of v1 by which
/// a service manager kills and a container is paused.
const HIERARCHIES: [&str; 4] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup/systemd",
    "/sys/fs/cgroup/freezer",
];
/// The group that all guardians share.
const GROUP: &str = "stillpoint-guardian";

/// What a guardian wants to have, in the order of the entries of its `Ready`.
pub(super) const MEASURES: [&str; 5] = [
    "a session of its own",
    "deafness to signals",
    "oom_score_adj -1000",
    "a control group of its own",
    "locked memory",
];

/// The measures taken so far.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    results: [i32; MEASURES.len()],
    groups: Vec<PathBuf>,
}

impl Isolation {
    /// Takes all measures that need not wait until the memory is all there.
    pub(super) fn begin() -> Self {
        let session = nix::unistd::setsid().map(drop).map_err(io::Error::from);
        let deaf = sys::process::ignore_signals(&deaf_to()).map_err(io::Error::from);
        // Its number of descriptors is bounded by the number of targets, not by a habit of 1024.
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
        let _ = prctl::set_name(c"stillpoint-grd");
        let oom = fs::write("/proc/self/oom_score_adj", "-1000");
        let mut isolation = Self::default();
        let group = isolation.join_groups();
        let results = [errno(session), errno(deaf), errno(oom), errno(group), 0];
        isolation.results = results;
        isolation
    }

    /// Locks everything that is mapped now or later.
    pub(super) fn lock_memory(&mut self) {
        let result = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE);
        if let Some(slot) = self.results.last_mut() {
            *slot = errno(result.map_err(io::Error::from));
        }
    }

    /// How it went, in the order of [`MEASURES`].
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry> {
        let entry = |&errno| Entry { micros: 0, errno };
        self.results.iter().map(entry)
    }

    fn join_groups(&mut self) -> io::Result<()> {
        let mut last = Err(Errno::ENOENT.into());
        for top in HIERARCHIES.map(Path::new) {
            if !is_hierarchy(top) {
                continue;
            }
            match join(top) {
                Ok(()) => {
                    self.groups.push(top.to_owned());
                    last = Ok(());
                }
                Err(error) if last.is_err() => last = Err(error),
                Err(_) => {}
            }
        }
        last
    }

    /// Leaves the control groups and removes them, unless another guardian is in them.
    pub(super) fn leave_groups(&self) {
        for top in &self.groups {
            // What cannot be removed is empty, harmless, and used again by the next guardian.
            let _ = fs::write(top.join("cgroup.procs"), "0");
            let _ = fs::remove_dir(top.join(GROUP));
        }
    }
}

fn is_hierarchy(top: &Path) -> bool {
    statfs(top).is_ok_and(|stat| {
        let kind = stat.filesystem_type();
        kind == CGROUP2_SUPER_MAGIC || kind == CGROUP_SUPER_MAGIC
    })
}

/// Another guardian may remove the group between our making it and entering it.
fn join(top: &Path) -> io::Result<()> {
    let group = top.join(GROUP);
    let mut last = Ok(());
    for _ in 0..5 {
        match fs::create_dir(&group) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        last = fs::write(group.join("cgroup.procs"), "0");
        if last.is_ok() {
            break;
        }
    }
    last
}

/// All that can be ignored and would end or stop it.
fn deaf_to() -> Vec<Signal> {
    let mortal = [
        Signal::SIGKILL,
        Signal::SIGSTOP,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGABRT,
        Signal::SIGTRAP,
        Signal::SIGSYS,
        Signal::SIGCHLD,
    ];
    Signal::iterator().filter(|s| !mortal.contains(s)).collect()
}

fn errno(result: io::Result<()>) -> i32 {
    result
        .err()
        .map_or(0, |error| error.raw_os_error().unwrap_or(Errno::EIO as i32))
}
