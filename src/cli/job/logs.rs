//! `job logs`: prints the end of a detached job's log.

use super::super::args::{Common, JobLogsArgs};
use super::directory::open;
use crate::error::{ErrorKind, Result};
use crate::report::{self, Report};

pub fn run(args: &JobLogsArgs, common: &Common) -> Result<Report> {
    let directory = open(common)?;
    let id = directory.find(&args.id)?;
    let log = directory
        .log(id, args.bytes)
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => error
                .context(format!("job {id} has no log"))
                .with_hint("only --detach makes one; other jobs speak to whoever started them"),
            _ => error,
        })?;
    Ok(report::job::log(id, &log))
}
