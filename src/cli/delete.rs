//! `delete`: removes snapshots from a vault.

use super::args::{Common, DeleteArgs};
use super::context;
use super::find_snapshot::find_snapshot;
use super::progress::ProgressDisplay;
use super::signals;
use crate::error::Result;
use crate::report::{self, Report};

pub fn run(args: &DeleteArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let vault = context::open_vault(common)?;
    // Find all of them before any is deleted: a wrong name deletes nothing.
    let snapshots = args
        .ids
        .iter()
        .map(|id| find_snapshot(&vault, id, &[], progress))
        .collect::<Result<Vec<_>>>()
        .map_err(|error| error.context("nothing was deleted"))?;
    let mut deleted = Vec::new();
    for snapshot in &snapshots {
        signals::check()?;
        vault.delete(snapshot)?;
        deleted.push(snapshot.id.to_string());
    }
    Ok(report::vault::deleted(&deleted))
}
