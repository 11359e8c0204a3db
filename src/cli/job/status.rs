//! `job status`: everything about one job.

use super::super::args::{Common, JobStatusArgs};
use super::directory::open;
use crate::error::Result;
use crate::report::{self, Report};

pub fn run(args: &JobStatusArgs, common: &Common) -> Result<Report> {
    let directory = open(common)?;
    let record = directory.look(directory.find(&args.id)?)?;
    Ok(report::job::status(&record, directory.path()))
}
