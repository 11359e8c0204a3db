//! Keeps what ends or stops the starter from ending or stopping the guardian, or the throttle
//! watcher: a session, a control group and memory of its own. Each measure is a best effort whose
//! error is reported; none may keep the process from its work.

use crate::sys;
use crate::sys::cgroup::OwnGroup;
use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::fs;
use std::io;

/// The group that all guardians share.
const GROUP: &str = "stillpoint-guardian";

/// What a guardian is to have, in the order of [`MeasureResults`].
pub(super) const MEASURES: [&str; 5] = [
    "a session of its own",
    "deafness to signals",
    "oom_score_adj -1000",
    "a control group of its own",
    "locked memory",
];

/// The error of each measure, 0 for none.
pub(super) type MeasureResults = [i32; MEASURES.len()];

/// The measures taken so far.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    results: MeasureResults,
    groups: OwnGroup,
}

impl Isolation {
    /// Takes all measures that need not wait for anything.
    pub(super) fn begin() -> Self {
        let session = nix::unistd::setsid().map(drop).map_err(io::Error::from);
        let deaf = sys::process::ignore_signals(&deaf_to()).map_err(io::Error::from);
        let _ = sys::process::hear_signals();
        // It needs a descriptor for each target; the usual limit is 1024.
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
        let _ = prctl::set_name(c"freeze-guardian");
        let oom = fs::write("/proc/self/oom_score_adj", "-1000");
        Self {
            results: [errno(session), errno(deaf), errno(oom), 0, 0],
            groups: OwnGroup::default(),
        }
    }

    /// Joins a control group of its own; the kernel waits for a grace period.
    pub(super) fn join_group(&mut self) {
        let (groups, group) = OwnGroup::join(GROUP);
        self.groups = groups;
        let [.., slot, _] = &mut self.results;
        *slot = errno(group);
    }

    /// Locks everything that is mapped now or later.
    pub(super) fn lock_memory(&mut self) {
        let result = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE);
        if let Some(slot) = self.results.last_mut() {
            *slot = errno(result.map_err(io::Error::from));
        }
    }

    /// How the measures went.
    pub(super) fn results(&self) -> &MeasureResults {
        &self.results
    }

    /// Leaves the control groups and removes them, unless another guardian is in them.
    pub(super) fn leave_groups(&self) {
        self.groups.leave();
    }
}

/// A control group, other than the top one, that `pid` shares with this process, if they share the
/// groups of all hierarchies: what kills or pauses that group hits both.
pub(super) fn shared_group(pid: u32) -> Option<String> {
    // A group's name need not be UTF-8.
    let ours = fs::read("/proc/self/cgroup").ok()?;
    let theirs = fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    if ours != theirs {
        return None;
    }
    // proc_pid_cgroup(5): hierarchy-ID:controller-list:cgroup-path
    let lines = ours.split(|byte| *byte == b'\n');
    let mut paths = lines.filter_map(|line| line.splitn(3, |byte| *byte == b':').nth(2));
    let path = paths.find(|path| *path != b"/")?;
    Some(String::from_utf8_lossy(path).into_owned())
}

/// All signals that can be ignored and would end or stop the process.
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
