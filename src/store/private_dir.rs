//! Folders on the host that are this user's alone: what is in them was put there by nobody else.

use crate::error::{Error, ErrorKind, IoContext, Result};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Makes a directory for this user alone, or checks one that is there.
pub fn make_private(directory: &Path) -> Result<()> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.io_context("make", directory)?;
    let stat = fs::symlink_metadata(directory).io_context("look at", directory)?;
    let owner = nix::unistd::geteuid().as_raw();
    if stat.is_dir() && stat.uid() == owner && stat.mode() & 0o077 == 0 {
        return Ok(());
    }
    let what = format!("{}: others can read or change it", directory.display());
    Err(Error::new(ErrorKind::Failed, what))
}
