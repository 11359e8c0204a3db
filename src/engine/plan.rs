//! How a disk is to be captured: full, incremental or compare, and why. Pure.

use crate::model::{DiskIdentity, Epoch, Mode, SnapshotId, Witness};
use crate::track::{Moment, Recall, changes_since};

/// The newest snapshot of the same disk in the vault.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Which one.
    pub snapshot: SnapshotId,
    /// The disk as it was then.
    pub identity: DiskIdentity,
    /// The tracker as it was then.
    pub cut: Option<Witness>,
    /// What the tracker of now knows of that cut.
    pub recall: Recall,
}

/// How a disk is to be captured.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Which way.
    pub mode: Mode,
    /// Why, in words.
    pub reason: String,
    /// The snapshot to make a difference to.
    pub parent: Option<SnapshotId>,
    /// Blocks with marks of this epoch or later have changed since the parent (incremental only).
    pub since: Option<Epoch>,
}

/// Decides. `full`: the user wants everything read and stored.
pub fn plan(parent: Option<&Parent>, disk: &DiskIdentity, now: &Witness, full: bool) -> Plan {
    let afresh = |reason: &str| Plan {
        mode: Mode::Full,
        reason: reason.into(),
        parent: None,
        since: None,
    };
    let Some(parent) = parent else {
        return afresh("first snapshot of this disk in the vault");
    };
    if full {
        return afresh("asked for with --full");
    }
    let compare = |why: String| Plan {
        mode: Mode::Compare,
        reason: format!("no proof of what changed since {}: {why}", parent.snapshot),
        parent: Some(parent.snapshot),
        since: None,
    };
    let Some(cut) = &parent.cut else {
        return compare("the disk was not tracked then".into());
    };
    let then = Moment {
        disk: &parent.identity,
        witness: cut,
    };
    match changes_since(then, parent.recall, Moment { disk, witness: now }) {
        Ok(since) => Plan {
            mode: Mode::Incremental,
            reason: format!("tracked since {}", parent.snapshot),
            parent: Some(parent.snapshot),
            since: Some(since),
        },
        Err(void) => compare(void.to_string()),
    }
}
