//! `delete`: snapshots cease to exist.

use super::args::{Common, DeleteArgs};
use super::context;
use super::find::find_snapshot;
use super::outcome::Outcome;
use super::progress::Progress;
use super::signals;
use crate::error::Result;
use serde_json::json;

pub fn run(args: &DeleteArgs, common: &Common, progress: &Progress) -> Result<Outcome> {
    let vault = context::open_vault(common)?;
    // All are found before one is deleted.
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
    let text = format!(
        "deleted {}; this version does not yet reclaim the space of blocks that nothing needs",
        deleted.join(", ")
    );
    Ok(Outcome::done(
        json!({"deleted": deleted, "reclaimed_bytes": 0}),
        text,
    ))
}
