//! What runs that died have left behind: filesystems frozen, applications held. It is undone before
//! a run freezes or holds anything itself, and told. It must never touch what no record of ours
//! names.

use super::monitor::{Event, Monitor};
use super::places::Places;
use crate::error::Result;
use crate::freeze::{MountOutcome, thaw};
use crate::hooks::run_pending;
use std::path::Path;

/// Thaws and lets go what dead runs have left.
///
/// # Errors
/// Only when what they left cannot be looked at; what cannot be undone is a warning.
pub fn recover(places: &Places, monitor: &dyn Monitor) -> Result<()> {
    let report = thaw(&places.run_dir)?;
    for mount in &report.mounts {
        monitor.tell(match mount.outcome {
            MountOutcome::Thawed | MountOutcome::Failed(_) => Event::Warning(mount.message()),
            MountOutcome::NotFrozen | MountOutcome::Gone(_) => Event::Note(mount.message()),
        });
    }
    for why in report.unreadable {
        monitor.tell(Event::Warning(why));
    }
    if report.throttles > 0 {
        monitor.tell(Event::Warning(
            "a run that died had slowed down what writes to disks: undone".into(),
        ));
    }
    let report = run_pending(&places.run_dir, &places.program)?;
    for owed in &report.postscripts {
        monitor.tell(Event::Warning(owed.message()));
    }
    for why in report.unreadable {
        monitor.tell(Event::Warning(why));
    }
    Ok(())
}

/// Lets go what a run has held that died while this one copied. What cannot be let go was told when
/// this one began, or is when the next does.
pub(super) fn let_go(run_dir: &Path, program: &Path, monitor: &dyn Monitor) -> Result<()> {
    let report = run_pending(run_dir, program)?;
    for owed in report.postscripts.iter().filter(|owed| owed.was_run()) {
        monitor.tell(Event::Warning(owed.message()));
    }
    Ok(())
}
