//! `job cancel`: asks a job to stop. The job thaws, and takes back what it has done.

use super::super::args::{Common, JobCancelArgs};
use super::super::signals;
use super::directory::open;
use crate::error::{Error, ErrorKind, Result};
use crate::report::{self, Report};
use std::time::Instant;

pub fn run(args: &JobCancelArgs, common: &Common) -> Result<Report> {
    let directory = open(common)?;
    let id = directory.find(&args.id)?;
    let before = directory.ask_to_stop(id)?;
    let until = Instant::now().checked_add(args.timeout);
    let record = directory.wait(id, until, &signals::check)?;
    if !record.state.is_end() {
        let what = format!("job {id} was asked to stop and has not yet");
        return Err(Error::new(ErrorKind::Busy, what)
            .with_hint(format!("wait for it: stillpoint job wait {id}")));
    }
    let had_ended = before.state.is_end();
    Ok(report::job::cancelled(&record, directory.path(), had_ended))
}
