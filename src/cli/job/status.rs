//! `job status`: everything about one job.

use super::super::args::{Common, JobStatusArgs};
use crate::error::Result;
use crate::report::{self, Report};

pub fn run(args: &JobStatusArgs, common: &Common) -> Result<Report> {
    let folder = super::open(common)?;
    let record = folder.look(folder.find(&args.id)?)?;
    Ok(report::job::status(&record, folder.path()))
}
