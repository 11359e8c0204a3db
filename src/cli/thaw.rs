//! `thaw`: undoes what dead runs left frozen, held or slowed down.

use super::args::Common;
use super::context;
use crate::error::{Error, ErrorKind, Result};
use crate::freeze::{MountOutcome, thaw};
use crate::hooks::{PendingReport, run_pending};
use crate::report::{self, Report};
use std::path::Path;

pub fn run(common: &Common) -> Result<Report> {
    context::need_root()?;
    let report = thaw(&common.run_dir)?;
    // Run the postscripts even if a filesystem could not be thawed.
    let pending = run_pending(&common.run_dir, Path::new("/proc/self/exe"))?;
    report.verdict()?;
    verdict(&pending)?;
    Ok(report::thaw::report(&report, &pending))
}

/// Returns an error when applications may still be held.
fn verdict(pending: &PendingReport) -> Result<()> {
    if let Some(one) = pending.postscripts.iter().find(|one| !one.is_done()) {
        return Err(Error::new(ErrorKind::Failed, one.message())
            .with_hint("look at the applications: the databases' own tools say what holds them"));
    }
    match pending.unreadable.first() {
        Some(why) => Err(Error::new(ErrorKind::Failed, why.clone())),
        None => Ok(()),
    }
}

/// Thaws what dead runs left frozen, before a new run writes anything: its first write, the record
/// of its job, may go to a frozen filesystem. Returns the warnings.
pub fn before_a_run(common: &Common) -> Vec<String> {
    if context::need_root().is_err() {
        // The run itself refuses that.
        return Vec::new();
    }
    // If the records cannot be read, the run fails later and says why.
    let report = thaw(&common.run_dir).unwrap_or_default();
    let thawed = report.mounts.iter();
    let thawed = thawed.filter(|mount| mount.outcome == MountOutcome::Thawed);
    thawed.map(|mount| mount.message()).collect()
}
