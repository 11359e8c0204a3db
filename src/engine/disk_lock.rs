//! One run at a time for each disk, by locks that die with their owner.

use crate::error::{Error, ErrorKind, Result};
use crate::helper::{FileLock, open_run_dir};
use crate::model::DevNumber;
use std::path::Path;

/// The right to make a snapshot of a disk, until it is dropped.
#[derive(Debug)]
pub struct DiskLock(#[expect(dead_code, reason = "held, never read")] FileLock);

impl DiskLock {
    /// Takes the lock of a disk, in a directory for root alone.
    ///
    /// # Errors
    /// `Busy` when another run has it; `Unsupported` when others could have made the directory.
    pub fn take(run_dir: &Path, dev: DevNumber, name: &str) -> Result<Self> {
        open_run_dir(run_dir).map_err(|error| match error.kind() {
            ErrorKind::Failed => error.with_kind(ErrorKind::Unsupported),
            _ => error,
        })?;
        let path = run_dir.join(format!("disk-{}-{}.lock", dev.major, dev.minor));
        let lock = FileLock::try_take(&path)?.ok_or_else(|| {
            let message = format!("another run is making a snapshot of {name}; nothing was done");
            Error::new(ErrorKind::Busy, message).with_hint("wait for it to end")
        })?;
        Ok(Self(lock))
    }
}
