//! Warns of snapshots of earlier versions that may lack blocks, where a user relies on them.

use super::signals;
use crate::engine::{FreeTrace, may_lack, may_lack_of_all};
use crate::error::{ErrorKind, Result};
use crate::format::Manifest;
use crate::model::SnapshotId;
use crate::report::Report;
use crate::store::{SnapshotRef, Vault};

/// Most snapshots that are named one by one.
const MOST_NAMED: usize = 5;

/// Warns of those among these snapshots.
pub fn warn(vault: &Vault, snapshots: &[SnapshotRef], report: &mut Report) -> Result<()> {
    let mut traces = Vec::new();
    for (_, manifest) in vault.manifests(snapshots.to_vec()) {
        signals::check()?;
        match manifest {
            Ok(manifest) => traces.push(FreeTrace::of(&manifest)),
            // The caller reports what is damaged; a snapshot may be deleted meanwhile.
            Err(error) => match error.kind() {
                ErrorKind::Damaged | ErrorKind::Format | ErrorKind::NotFound => {}
                _ => return Err(error),
            },
        }
    }
    let found = may_lack_of_all(&traces);
    for one in found.iter().rev().take(MOST_NAMED) {
        report.warn(&one.in_words());
    }
    if found.len() > MOST_NAMED {
        let more = found.len() - MOST_NAMED;
        report.warn(&format!(
            "{more} more like these, older ones: `stillpoint list` marks them"
        ));
    }
    Ok(())
}

/// Warns if this snapshot may lack blocks.
pub fn warn_of_one(vault: &Vault, manifest: &Manifest, report: &mut Report) {
    let mut find = |id: SnapshotId| {
        let found = vault.find(&id.to_string()).ok()?;
        Some(FreeTrace::of(&vault.manifest(&found).ok()?))
    };
    for one in may_lack(&FreeTrace::of(manifest), &mut find) {
        report.warn(&one.in_words());
    }
}
