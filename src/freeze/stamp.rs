//! A process that is named in a record, told from a later one that has its number. It must never
//! signal another than the one that was meant.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::pidfd::PidFd;
use crate::sys::process::start_time;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fs;
use std::time::Duration;

/// A process, told from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProcessStamp {
    pub(super) pid: u32,
    /// When it began, in clock ticks since boot.
    pub(super) start: u64,
}

impl ProcessStamp {
    /// Of a process that is alive now.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let start = start_time(pid).map(|(start, _)| start);
        let start = start.ok_or_else(|| {
            let message = format!("process {pid} is gone, or /proc is not mounted");
            Error::new(ErrorKind::Failed, message)
        })?;
        Ok(Self { pid, start })
    }

    /// Whether it still runs. One that was killed but has a thread stuck in the kernel does not.
    pub(super) fn is_alive(self) -> bool {
        start_time(self.pid).is_some_and(|(start, dead)| start == self.start && !dead)
    }

    /// Ends it, however it was stopped; answers whether it has ended within that time. One of which
    /// a thread is stuck in the kernel has not, nor one in a frozen group of version 1.
    pub(super) fn end(self, within: Duration) -> bool {
        let Ok(held) = PidFd::open(self.pid) else {
            return !self.is_alive();
        };
        // What is held now may be a later process of that number.
        if !self.is_alive() {
            return true;
        }
        // Already ended is as good.
        let _ = held.send(Signal::SIGKILL);
        held.await_end(Some(within))
    }

    /// The states of its threads, as in proc_pid_stat(5), that of the first one first.
    pub(super) fn thread_states(self) -> Vec<char> {
        let state = |thread: String| {
            let stat = fs::read(format!("/proc/{}/task/{thread}/stat", self.pid)).ok()?;
            let end = stat.iter().rposition(|byte| *byte == b')')?;
            stat.get(end + 2).copied().map(char::from)
        };
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid));
        let names = tasks.into_iter().flatten().flatten();
        let mut threads: Vec<u32> = names
            .filter_map(|task| task.file_name().to_str()?.parse().ok())
            .collect();
        threads.sort_by_key(|thread| (*thread != self.pid, *thread));
        let states = threads.iter().filter_map(|one| state(one.to_string()));
        states.collect()
    }

    /// Whether it has threads besides the one it began with: in a dead process, those that are
    /// stuck in the kernel.
    pub(super) fn has_threads(self) -> bool {
        let same = start_time(self.pid).is_some_and(|(start, _)| start == self.start);
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid));
        same && tasks.is_ok_and(|tasks| tasks.count() > 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn this_process_is_alive_and_an_earlier_one_of_its_number_is_not() {
        let me = ProcessStamp::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        let earlier = ProcessStamp {
            start: me.start - 1,
            ..me
        };
        assert!(!earlier.is_alive());
    }

    #[test]
    fn a_process_is_ended_and_a_later_one_of_its_number_is_not() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let stamp = ProcessStamp::of(child.id()).unwrap();
        let earlier = ProcessStamp {
            start: stamp.start - 1,
            ..stamp
        };
        assert!(earlier.end(Duration::ZERO), "it has ended long ago");
        assert!(stamp.is_alive(), "another was ended");
        assert_eq!(stamp.thread_states().len(), 1);
        assert!(stamp.end(Duration::from_secs(60)));
        // Our own child: it has been waited for already.
        assert!(child.wait().is_err());
        assert!(!stamp.is_alive());
        assert!(stamp.thread_states().is_empty());
    }
}
