//! Identifies a process that a record or note names, by pid and start time, as a later process may
//! have the same pid. No process but the one that was meant is ever signalled.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::pidfd::PidFd;
use crate::sys::process::start_time;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fs;
use std::time::{Duration, Instant};

/// How often to look whether a dead process's threads are gone.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A process, identified by its pid and when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStamp {
    /// Its pid.
    pub pid: u32,
    /// When it began, in clock ticks since boot.
    pub start: u64,
}

impl ProcessStamp {
    /// Of a process that is there now.
    ///
    /// # Errors
    /// It is gone, or `/proc` is not mounted.
    pub fn of(pid: u32) -> Result<Self> {
        let start = start_time(pid).map(|(start, _)| start);
        let start = start.ok_or_else(|| {
            let message = format!("process {pid} is gone, or /proc is not mounted");
            Error::new(ErrorKind::Failed, message)
        })?;
        Ok(Self { pid, start })
    }

    /// Whether it still runs. One that was killed but has a thread stuck in the kernel does not.
    pub fn is_alive(self) -> bool {
        start_time(self.pid).is_some_and(|(start, dead)| start == self.start && !dead)
    }

    /// Opens a descriptor of it, if it still runs.
    pub fn hold(self) -> Option<PidFd> {
        // Opened first, checked second: the descriptor then holds the process that was checked.
        let held = PidFd::open(self.pid).ok()?;
        self.is_alive().then_some(held)
    }

    /// Kills it, even if it is stopped; returns whether it exits within that time. A process with a
    /// thread that is stuck in the kernel does not, nor one in a frozen group of version 1.
    pub fn kill(self, within: Duration) -> bool {
        let Some(held) = self.hold() else {
            return !self.is_alive();
        };
        // It may have exited already.
        let _ = held.send(Signal::SIGKILL);
        held.await_end(Some(within))
    }

    /// The states of its threads, as in proc_pid_stat(5), that of the first one first.
    pub fn thread_states(self) -> Vec<char> {
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
    pub fn has_threads(self) -> bool {
        let same = start_time(self.pid).is_some_and(|(start, _)| start == self.start);
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid));
        same && tasks.is_ok_and(|tasks| tasks.count() > 1)
    }

    /// Gives a dead process's last threads time to exit: its first one is often gone a moment
    /// before them, and until then they hold its files and their locks. It returns whether they
    /// are gone; one that is stuck in the kernel is not.
    pub fn await_threads(self, within: Duration) -> bool {
        let until = Instant::now() + within;
        while !self.is_alive() && self.has_threads() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        !self.is_alive()
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
        assert!(!earlier.is_alive() && earlier.hold().is_none());
        assert!(me.hold().is_some());
    }

    #[test]
    fn a_process_is_killed_and_a_later_one_of_its_number_is_not() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let stamp = ProcessStamp::of(child.id()).unwrap();
        let earlier = ProcessStamp {
            start: stamp.start - 1,
            ..stamp
        };
        assert!(earlier.kill(Duration::ZERO), "it has exited long ago");
        assert!(stamp.is_alive(), "another was killed");
        assert_eq!(stamp.thread_states().len(), 1);
        assert!(stamp.kill(Duration::from_secs(60)));
        // Our own child: it has been waited for already.
        assert!(child.wait().is_err());
        assert!(!stamp.is_alive());
        assert!(stamp.thread_states().is_empty());
    }
}
