//! `job wait`: waits until a job has ended, and reports and exits as it did.

use super::super::args::{Common, JobWaitArgs};
use super::super::signals;
use super::directory::open;
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobDirectory, JobId, JobRecord};
use crate::report::{self, Report};
use std::time::{Duration, Instant};

/// How often the record is read.
const PAUSE: Duration = Duration::from_millis(50);

pub fn run(args: &JobWaitArgs, common: &Common) -> Result<Report> {
    let directory = open(common)?;
    let id = directory.find(&args.id)?;
    let until = args
        .timeout
        .and_then(|time| Instant::now().checked_add(time));
    let record = until_it_ends(&directory, id, until)?;
    if !record.state.is_end() {
        let what = format!("job {id} still runs: {}", report::job::doing(&record));
        return Err(Error::new(ErrorKind::Busy, what).with_hint("it goes on; wait for it again"));
    }
    report::job::ended(record)
}

/// Returns the record once the job has ended, or as it is at `until`.
pub fn until_it_ends(
    directory: &JobDirectory,
    id: JobId,
    until: Option<Instant>,
) -> Result<JobRecord> {
    loop {
        let record = directory.look(id)?;
        let late = until.is_some_and(|until| Instant::now() >= until);
        if record.state.is_end() || late {
            return Ok(record);
        }
        signals::check()?;
        std::thread::sleep(PAUSE);
    }
}
