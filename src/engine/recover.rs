//! What runs that died have left behind: frozen filesystems, quiesced applications. It is undone
//! and reported before a run freezes or quiesces anything itself. Nothing is touched that no record
//! of ours names.

use super::monitor::{Event, Monitor};
use super::places::Places;
use crate::error::Result;
use crate::freeze::{MountOutcome, ThawReport, thaw};
use crate::hooks::run_pending;
use std::path::Path;

/// Thaws filesystems and lets applications go on, where a dead run has not.
///
/// # Errors
/// Only when what they left cannot be listed; what cannot be undone is a warning.
pub fn recover(places: &Places, monitor: &dyn Monitor) -> Result<()> {
    // Each does what it can, even if the other fails.
    let thawed = thaw(&places.run_dir);
    let pending = run_pending(&places.run_dir, &places.program);
    if let Ok(report) = &thawed {
        report_thaw(report, monitor);
    }
    if let Ok(report) = &pending {
        for one in &report.postscripts {
            monitor.tell(Event::Warning(one.message()));
        }
        for failure in &report.failures {
            monitor.tell(Event::Warning(failure.to_string()));
        }
    }
    thawed.and(pending).map(drop)
}

fn report_thaw(report: &ThawReport, monitor: &dyn Monitor) {
    for mount in &report.mounts {
        monitor.tell(match mount.outcome {
            MountOutcome::Thawed | MountOutcome::Failed(_) => Event::Warning(mount.message()),
            MountOutcome::NotFrozen | MountOutcome::Gone(_) => Event::Note(mount.message()),
        });
    }
    for failure in &report.failures {
        monitor.tell(Event::Warning(failure.to_string()));
    }
    if report.throttles > 0 {
        monitor.tell(Event::Warning(
            "a run that died had slowed down what writes to disks: undone".into(),
        ));
    }
}

/// Lets applications go on that a run held which died while this one copied. What fails was
/// reported when this run began, or is when the next one does.
pub(super) fn let_go(run_dir: &Path, program: &Path, monitor: &dyn Monitor) -> Result<()> {
    let report = run_pending(run_dir, program)?;
    for owed in report.postscripts.iter().filter(|owed| owed.was_run()) {
        monitor.tell(Event::Warning(owed.message()));
    }
    Ok(())
}
