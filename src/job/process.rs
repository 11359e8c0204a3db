//! The process that works on a job. It is told apart from a later one with the same pid, and from
//! one of another boot, so that a signal reaches that process or none.

use crate::error::Result;
use crate::helper::ProcessStamp;
use crate::sys::machine::boot_id;
use crate::sys::pidfd::PidFd;
use serde::{Deserialize, Serialize};

/// A process of this host, as a job's record names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProcess {
    /// Its pid.
    pub pid: u32,
    /// When it began, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub pid_start: u64,
    /// The boot it belongs to.
    pub boot_id: String,
}

impl JobProcess {
    /// Of a process that is there now.
    ///
    /// # Errors
    /// It is gone, or `/proc` is not mounted.
    pub fn of(pid: u32) -> Result<Self> {
        let ProcessStamp { pid, start } = ProcessStamp::of(pid)?;
        Ok(Self {
            pid,
            pid_start: start,
            boot_id: boot_id()?,
        })
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(&self) -> bool {
        self.is_of_this_boot() && self.stamp().is_alive()
    }

    /// Takes hold of it, if it still runs.
    pub fn hold(&self) -> Option<PidFd> {
        self.is_of_this_boot().then(|| self.stamp().hold())?
    }

    fn is_of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
    }

    fn stamp(&self) -> ProcessStamp {
        ProcessStamp {
            pid: self.pid,
            start: self.pid_start,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_more_than_its_pid() {
        let me = JobProcess::of(std::process::id()).unwrap();
        assert!(me.is_alive() && me.hold().is_some());
        let earlier = JobProcess {
            pid_start: me.pid_start - 1,
            ..me.clone()
        };
        assert!(!earlier.is_alive() && earlier.hold().is_none());
        let other_boot = JobProcess {
            boot_id: "another".into(),
            ..me
        };
        assert!(!other_boot.is_alive() && other_boot.hold().is_none());
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let stamp = JobProcess::of(child.id()).unwrap();
        while stamp.is_alive() {
            std::thread::yield_now();
        }
        // Not waited for until now: its pid was still its own.
        assert!(stamp.hold().is_none());
        child.wait().unwrap();
    }
}
