//! Which process works on a job, told from a later one with the same number and from one of another
//! boot. A signal goes to that process or to none.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::sys::pidfd::PidFd;
use crate::sys::process::{boot_id, start_time};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A process of this host, named for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStamp {
    /// Its number.
    pub pid: u32,
    /// When it began, in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub pid_start: u64,
    /// The boot it belongs to.
    pub boot_id: String,
}

impl ProcessStamp {
    /// Of a process that is there now.
    ///
    /// # Errors
    /// It is gone, or `/proc` is not mounted.
    pub fn of(pid: u32) -> Result<Self> {
        let (pid_start, _) = start_time(pid).ok_or_else(|| {
            let what = format!("process {pid} is gone, or /proc is not mounted");
            Error::new(ErrorKind::Failed, what)
        })?;
        let path = Path::new("/proc/sys/kernel/random/boot_id");
        Ok(Self {
            pid,
            pid_start,
            boot_id: boot_id().io_context("read", path)?,
        })
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id)
            && start_time(self.pid).is_some_and(|(start, dead)| start == self.pid_start && !dead)
    }

    /// Takes hold of it, if it still runs.
    pub fn hold(&self) -> Option<Running> {
        // Held first, looked at second: from then on the number means this process.
        let held = PidFd::open(self.pid).ok()?;
        self.is_alive().then_some(Running(held))
    }
}

/// A process that is held: a signal cannot reach another one.
#[derive(Debug)]
pub struct Running(PidFd);

impl Running {
    /// Asks it to stop.
    ///
    /// # Errors
    /// `ESRCH` when it has ended, `EPERM` when it is another user's.
    pub fn terminate(&self) -> nix::Result<()> {
        self.0.send(Signal::SIGTERM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_more_than_its_number() {
        let me = ProcessStamp::of(std::process::id()).unwrap();
        assert!(me.is_alive() && me.hold().is_some());
        let earlier = ProcessStamp {
            pid_start: me.pid_start - 1,
            ..me.clone()
        };
        assert!(!earlier.is_alive() && earlier.hold().is_none());
        let other_boot = ProcessStamp {
            boot_id: "another".into(),
            ..me
        };
        assert!(!other_boot.is_alive() && other_boot.hold().is_none());
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let stamp = ProcessStamp::of(child.id()).unwrap();
        while stamp.is_alive() {
            std::thread::yield_now();
        }
        // Not waited for until now: its number was still its own.
        assert!(stamp.hold().is_none());
        child.wait().unwrap();
    }
}
