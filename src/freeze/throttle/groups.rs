//! The control groups that limits are set on, and what their errors mean. No limit is set here.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::io_limit::IoGroups;
use std::io;
use std::path::Path;

/// If the run directory has a directory of this name, it stands in for the control groups: each
/// test has its own, as the real ones belong to the whole host.
const STAND_IN: &str = "cgroup";

/// Finds the control groups of this host.
///
/// # Errors
/// `Unsupported`: it has none whose writes can be limited, and why.
pub(super) fn find_groups(run_dir: &Path) -> Result<IoGroups> {
    let stand_in = run_dir.join(STAND_IN);
    if stand_in.is_dir() {
        return Ok(IoGroups::at(&stand_in));
    }
    IoGroups::find().map_err(|why| Error::new(ErrorKind::Unsupported, why))
}

/// Whether an error says that a group or a disk does not exist any more.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)
    )
}

/// The error that the limits of the groups below `top` cannot be read or set.
pub(super) fn cannot_limit(top: &Path) -> impl FnOnce(io::Error) -> Error {
    let message = format!("the limits in {} cannot be set", top.display());
    move |error| Error::new(ErrorKind::Unsupported, message).with_source(error)
}
