//! `job wait`: waits until a job has ended, and reports and exits as it did.

use super::super::args::{Common, JobWaitArgs};
use super::super::signals;
use super::directory::open;
use crate::error::{Error, ErrorKind, Result};
use crate::report::{self, Report};
use std::time::Instant;

pub fn run(args: &JobWaitArgs, common: &Common) -> Result<Report> {
    let directory = open(common)?;
    let id = directory.find(&args.id)?;
    let until = args
        .timeout
        .and_then(|time| Instant::now().checked_add(time));
    let record = directory.wait(id, until, &signals::check)?;
    if !record.state.is_end() {
        let what = format!("job {id} still runs: {}", report::job::doing(&record));
        return Err(Error::new(ErrorKind::Busy, what).with_hint("it goes on; wait for it again"));
    }
    report::job::ended(record)
}
