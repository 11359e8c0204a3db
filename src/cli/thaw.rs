//! `thaw`: the emergency exit.

use super::args::Common;
use super::context;
use super::progress::ProgressDisplay;
use crate::engine::{Event, Monitor};
use crate::error::{Error, ErrorKind, Result};
use crate::freeze::{MountOutcome, thaw};
use crate::hooks::{PendingReport, run_pending};
use crate::report::{self, Report};
use std::path::Path;

pub fn run(common: &Common) -> Result<Report> {
    context::need_root()?;
    let report = thaw(&common.run_dir)?;
    // Applications may wait for the filesystems; none may wait for the verdict.
    let owed = run_pending(&common.run_dir, Path::new("/proc/self/exe"))?;
    report.verdict()?;
    verdict(&owed)?;
    Ok(report::thaw::report(&report, &owed))
}

/// A failure when applications may still be held.
fn verdict(owed: &PendingReport) -> Result<()> {
    if let Some(one) = owed.postscripts.iter().find(|one| !one.is_done()) {
        return Err(Error::new(ErrorKind::Failed, one.message())
            .with_hint("look at the applications: the databases' own tools say what holds them"));
    }
    match owed.unreadable.first() {
        Some(why) => Err(Error::new(ErrorKind::Failed, why.clone())),
        None => Ok(()),
    }
}

/// Thaws what dead runs have left before anything of a new one is written: what it writes first,
/// the record of its job, may lie on what is frozen. Answers what is to be told.
pub fn before_a_run(common: &Common, progress: &ProgressDisplay) -> Vec<String> {
    if context::need_root().is_err() {
        // Which is refused soon.
        return Vec::new();
    }
    // What cannot be looked at here stops the run later, in words.
    let report = thaw(&common.run_dir).unwrap_or_default();
    let thawed = report.mounts.iter();
    let thawed = thawed.filter(|mount| mount.outcome == MountOutcome::Thawed);
    let told: Vec<String> = thawed.map(|mount| mount.message()).collect();
    for warning in &told {
        progress.tell(Event::Warning(warning.clone()));
    }
    told
}
