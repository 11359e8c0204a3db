//! `delete`: removes snapshots from a vault. What somebody keeps is refused.

use super::args::{Common, DeleteArgs};
use super::context;
use super::find_snapshot::find_snapshot;
use super::progress::ProgressDisplay;
use super::signals;
use crate::engine::refuse_kept;
use crate::error::Result;
use crate::model::SnapshotId;
use crate::report::{self, Report};
use jiff::Timestamp;

pub fn run(args: &DeleteArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let vault = context::open_vault(common)?;
    // Find all of them before any is deleted: a wrong name deletes nothing.
    let snapshots = args
        .ids
        .iter()
        .map(|id| find_snapshot(&vault, id, &[], progress))
        .collect::<Result<Vec<_>>>()
        .map_err(|error| error.context("nothing was deleted"))?;
    let now = Timestamp::now();
    for snapshot in &snapshots {
        refuse_kept(&vault, snapshot, now, &signals::check)
            .map_err(|error| error.context("nothing was deleted"))?;
    }
    let ids: Vec<String> = snapshots.iter().map(|one| one.id.to_string()).collect();
    if args.dry_run {
        return Ok(report::vault::would_delete(&ids));
    }
    for snapshot in &snapshots {
        signals::check()?;
        vault.delete(snapshot)?;
    }
    let mut report = report::vault::deleted(&ids);
    let gone: Vec<SnapshotId> = snapshots.iter().map(|one| one.id).collect();
    let cleared = vault.delete_drills(&gone, &signals::check);
    report::drill::add_cleared(&mut report, cleared)?;
    Ok(report)
}
