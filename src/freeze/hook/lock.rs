//! Who may hold applications: one run of a host at a time, whichever disks it is of, as one's
//! postscript would let go what the other holds. The lock is held by everyone who has a descriptor
//! of it, engine and keeper, and dies with the last of them.

use crate::error::{IoContext, Result};
use crate::freeze::record::open_run_dir;
use crate::sys::plain;
use nix::fcntl::OFlag;
use std::fs::{File, TryLockError};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often is looked whether it has become free.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The right to hold applications, or to let them go.
#[derive(Debug)]
pub(super) struct HookLock(File);

impl HookLock {
    /// Takes it, but waits no longer than that for others; `None` when they still have it. `stop`
    /// is asked meanwhile.
    pub(super) fn take(
        run_dir: &Path,
        within: Duration,
        stop: &dyn Fn() -> Result<()>,
    ) -> Result<Option<Self>> {
        open_run_dir(run_dir)?;
        let path = run_dir.join("hooks.lock");
        let file = plain::open_or_create(&path, OFlag::O_WRONLY);
        let file = file.io_context("open the lock", &path)?;
        let until = Instant::now() + within;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(file))),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return Ok(None),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error).io_context("lock", &path);
                }
            }
            stop()?;
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl AsFd for HookLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
