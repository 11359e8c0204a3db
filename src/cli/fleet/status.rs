//! `fleet status`: how the instances of a list stand, by their own word. It changes nothing.

use super::super::args::FleetStatusArgs;
use super::super::progress::ProgressDisplay;
use super::reach::{asking, batch, teller};
use crate::error::Result;
use crate::fleet::{HostFile, ask, run_batch};
use crate::report::{self, Report};

pub fn run(args: &FleetStatusArgs, progress: &ProgressDisplay) -> Result<Report> {
    let work = asking(&args.reach, args.timeout, progress)?;
    let list = HostFile::read(&args.reach.file)?;
    work.runner.check(&list.hosts)?;
    let mut tell = teller(&list, progress);
    let mut ended = run_batch(
        &list.hosts,
        batch(&args.reach, progress),
        &|host| ask(&work, host),
        &mut |result| {
            tell(result);
            Ok(())
        },
    )?;
    let stopped = ended.stopped.take();
    let results = ended.rows(&list.hosts);
    Ok(report::fleet::status(
        &list.path,
        &results,
        stopped.as_ref(),
    ))
}
