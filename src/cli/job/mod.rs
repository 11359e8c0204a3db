//! `job`, and what makes a run a job: its record, and going on without its starter. Nothing here
//! may make a run wait for the folder that the records stand in.

mod cancel;
mod detach;
mod keeper;
mod list;
mod logs;
mod recorder;
mod scope;
mod starter;
mod status;
mod wait;

pub use detach::{detach, settle};
pub use keeper::{RECORD_KEEPER_COMMAND, record_keeper_main};
pub use recorder::attend;

use super::args::{Common, JobAction, JobArgs};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{DEFAULT_FOLDER, JobFolder};
use crate::report::Report;
use std::path::PathBuf;

/// `job`.
pub fn run(args: &JobArgs, common: &Common) -> Result<Report> {
    match &args.action {
        JobAction::List(args) => list::run(args, common),
        JobAction::Status(args) => status::run(args, common),
        JobAction::Wait(args) => wait::run(args, common),
        JobAction::Cancel(args) => cancel::run(args, common),
        JobAction::Logs(args) => logs::run(args, common),
    }
}

/// Where the records are: as told, or the usual place of this user.
fn folder_path(common: &Common) -> Result<PathBuf> {
    let told = common
        .job_dir
        .clone()
        .filter(|path| !path.as_os_str().is_empty());
    let path = match told {
        Some(path) => path,
        None if nix::unistd::geteuid().is_root() => DEFAULT_FOLDER.into(),
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
fn open(common: &Common) -> Result<JobFolder> {
    JobFolder::open(&folder_path(common)?).map_err(|error| match error.kind() {
        ErrorKind::NotFound => error
            .context("there was no job yet")
            .with_hint("snapshot, restore and verify are jobs; --job-dir names another folder"),
        _ => error,
    })
}
