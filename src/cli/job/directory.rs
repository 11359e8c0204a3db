//! The directory of the records of jobs: which one depends on the flags, the environment and the
//! user.

use super::super::args::Common;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{DEFAULT_DIRECTORY, JobDirectory};
use std::path::PathBuf;

/// Where the records are: as the command line or the environment says, or the usual place of this
/// user.
pub fn directory_path(common: &Common) -> Result<PathBuf> {
    let named = common
        .job_dir
        .clone()
        .filter(|path| !path.as_os_str().is_empty());
    let path = match named {
        Some(path) => path,
        None if nix::unistd::geteuid().is_root() => DEFAULT_DIRECTORY.into(),
        None => usual_of_user().ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                "there is no usual place for this user's job records",
            )
            .with_hint("name one with --job-dir or STILLPOINT_JOB_DIR")
        })?,
    };
    std::path::absolute(&path).map_err(|error| Error::io("name", &path, error))
}

fn usual_of_user() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state?.join("stillpoint/jobs"))
}

/// The records there are; an error when there was no job yet.
pub fn open(common: &Common) -> Result<JobDirectory> {
    JobDirectory::open(&directory_path(common)?).map_err(|error| match error.kind() {
        ErrorKind::NotFound => error
            .context("there was no job yet")
            .with_hint("snapshot, restore and verify are jobs; --job-dir names another directory"),
        _ => error,
    })
}
