//! `job`, and the commands that run as jobs. Only this room knows the flags, the environment and
//! the user on which the place of the records depends.

mod cancel;
mod detach;
mod list;
mod logs;
mod status;
mod wait;

pub use detach::{detach, settle};

use super::args::{Common, JobAction, JobArgs};
use super::progress::ProgressDisplay;
use crate::engine::Event;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{self, DEFAULT_DIRECTORY, JobDirectory, JobId, NewJob};
use crate::report::{self, Report};
use jiff::Timestamp;
use serde_json::{Value, json};
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

/// Runs the work of the command `word` as a job of this process. A job without a record goes on,
/// and its report says so. `warnings`: what the user should know of the job itself.
pub fn run_as_job(
    word: &str,
    common: &Common,
    progress: &ProgressDisplay,
    warnings: &[String],
    work: impl FnOnce() -> Result<Report>,
) -> Result<Report> {
    let id = common.as_job;
    let id = id.map_or_else(|| JobId::generate(Timestamp::now()), Ok);
    let (mut result, recorded) = job::run(id.and_then(|id| new_job(id, word, common)), |job| {
        let monitor = job.monitor();
        for warning in warnings {
            monitor.tell(Event::Warning(warning.clone()));
        }
        progress.attach(monitor);
        let mut result = work();
        if let Ok(report) = &mut result {
            if let (Some(id), Value::Object(document)) = (job.id(), &mut report.json) {
                document.insert("job".into(), json!(id.to_string()));
            }
            warnings.iter().for_each(|warning| report.warn(warning));
        }
        let end = report::job::end_of(&result);
        (result, end)
    });
    if let (Err(error), Ok(report)) = (&recorded, &mut result) {
        let warning = format!("there is no whole record of this job: {error}");
        report.warn(&warning);
    }
    result
}

/// The job that this process works on.
fn new_job(id: JobId, word: &str, common: &Common) -> Result<NewJob> {
    let args = std::env::args_os().skip(1);
    let args = args.map(|arg| arg.to_string_lossy().into_owned());
    Ok(NewJob {
        id,
        command: word.into(),
        // Without what is not for users.
        args: args.filter(|arg| !arg.starts_with("--as-job=")).collect(),
        detached: common.as_job.is_some(),
        directory: directory_path(common)?,
    })
}

/// Where the records are: as the command line or the environment says, or the usual place of this
/// user.
fn directory_path(common: &Common) -> Result<PathBuf> {
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
fn open(common: &Common) -> Result<JobDirectory> {
    JobDirectory::open(&directory_path(common)?).map_err(|error| match error.kind() {
        ErrorKind::NotFound => error
            .context("there was no job yet")
            .with_hint("snapshot, restore and verify are jobs; --job-dir names another directory"),
        _ => error,
    })
}
