//! One run at a time for each disk, by locks that die with their owner.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::DevNumber;
use crate::sys::plain;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// The right to make a snapshot of a disk, until it is dropped.
#[derive(Debug)]
pub struct DiskLock {
    _file: Flock<File>,
}

impl DiskLock {
    /// Takes the lock of a disk, in a folder for root alone.
    pub fn take(run_dir: &Path, dev: DevNumber, name: &str) -> Result<Self> {
        make_private(run_dir)?;
        let path = run_dir.join(format!("disk-{}-{}.lock", dev.major, dev.minor));
        let file = plain::open_or_create(&path, OFlag::O_WRONLY);
        let file = file.io_context("open the lock", &path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::new(
                ErrorKind::Busy,
                format!("another run is making a snapshot of {name}; nothing was done"),
            )
            .with_hint("wait for it to end")),
            Err((_, errno)) => Err(Error::io("lock", &path, errno.into())),
        }
    }
}

/// Makes a folder that only its owner can look into, and refuses one that others own or can write
/// to.
pub fn make_private(folder: &Path) -> Result<()> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.io_context("make the folder", folder)?;
    let metadata = fs::symlink_metadata(folder).io_context("look at", folder)?;
    let owner = nix::unistd::Uid::effective().as_raw();
    if !metadata.is_dir() || metadata.uid() != owner || metadata.mode() & 0o022 != 0 {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("{} is not a folder of this user's alone", folder.display()),
        )
        .with_hint("remove it, or make it owned by root with mode 0700"));
    }
    Ok(())
}
