//! `thaw`: undoes what dead runs left frozen, held or slowed down.

use super::args::Common;
use super::context;
use super::progress::ProgressDisplay;
use crate::engine::{Event, Monitor};
use crate::error::{Error, ErrorKind, Result};
use crate::freeze::{MountOutcome, thaw};
use crate::hooks::{PendingReport, run_pending};
use crate::report::{self, Report};
use std::path::Path;

pub fn run(common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    context::need_root()?;
    // Each does what it can, even if the other fails.
    let (thawed, unlisted) = or_default(thaw(&common.run_dir));
    let program = Path::new("/proc/self/exe");
    let (pending, unlisted_notes) = or_default(run_pending(&common.run_dir, program));
    let errors = [
        unlisted,
        thawed.verdict().err(),
        unlisted_notes,
        verdict(&pending).err(),
    ];
    // A run that is at work is the least of all errors.
    let first = errors.into_iter().flatten();
    let first = first.min_by_key(|error| error.kind() == ErrorKind::Busy);
    let Some(error) = first else {
        return Ok(report::thaw::report(&thawed, &pending));
    };
    let mounts = thawed.mounts.iter().map(|mount| mount.message());
    let postscripts = pending.postscripts.iter().map(|one| one.message());
    let failures = thawed.failures.iter().chain(&pending.failures);
    let failures = failures.map(|failure| failure.to_string());
    for message in mounts.chain(postscripts).chain(failures) {
        progress.tell(Event::Warning(message));
    }
    Err(match report::thaw::undone(&thawed, &pending) {
        Some(undone) => error.and_said(undone),
        None => error,
    })
}

fn or_default<T: Default>(result: Result<T>) -> (T, Option<Error>) {
    match result {
        Ok(value) => (value, None),
        Err(error) => (T::default(), Some(error)),
    }
}

/// Returns an error when applications may still be held.
fn verdict(pending: &PendingReport) -> Result<()> {
    if let Some(one) = pending.postscripts.iter().find(|one| !one.is_done()) {
        return Err(Error::new(ErrorKind::Failed, one.message())
            .with_hint("look at the applications: the databases' own tools say what holds them"));
    }
    match pending.failures.first() {
        Some(failure) => Err(failure.retold().with_kind(ErrorKind::Failed)),
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
