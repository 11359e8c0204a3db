//! Locks that die with their owners: a file that is locked by flock(2) until every descriptor of
//! the lock is closed, in whichever process. What the file holds does not matter.

use crate::error::{Error, IoContext, Result};
use crate::model::Cancel;
use crate::sys::plain;
use nix::fcntl::OFlag;
use std::fs::{self, File, TryLockError};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// The pause between two tries.
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// A lock that is held.
#[derive(Debug)]
pub struct FileLock(File);

impl FileLock {
    /// Takes the lock at `path`, waiting no longer than `within` for others; `None` when they still
    /// hold it. `cancel` is asked between two tries.
    ///
    /// # Errors
    /// `cancel`'s; what stands at `path` is no plain file, or cannot be opened or made.
    pub fn take(path: &Path, within: Duration, cancel: &dyn Cancel) -> Result<Option<Self>> {
        let file = plain::open_or_create(path, OFlag::O_WRONLY);
        let file = file.io_context("open the lock", path)?;
        let until = Instant::now() + within;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self(file))),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return Ok(None),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", path, error)),
            }
            cancel.check()?;
            std::thread::sleep(RETRY_EVERY);
        }
    }

    /// Takes the lock at `path` if nobody else holds it.
    ///
    /// # Errors
    /// As [`FileLock::take`].
    pub fn try_take(path: &Path) -> Result<Option<Self>> {
        Self::take(path, Duration::ZERO, &|| Ok(()))
    }

    /// The processes that have the lock's file open, and so may hold the lock, as far as they can
    /// be seen. No file that they have open is touched.
    pub fn holders(path: &Path) -> Vec<u32> {
        let Ok(path) = fs::canonicalize(path) else {
            return Vec::new();
        };
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let has_it = |pid: &u32| {
            let open = fs::read_dir(format!("/proc/{pid}/fd"));
            let mut open = open.into_iter().flatten().flatten();
            open.any(|one| fs::read_link(one.path()).is_ok_and(|file| file == path))
        };
        let mut pids: Vec<u32> = numbers.filter(has_it).collect();
        pids.sort_unstable();
        pids
    }
}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
