//! How a disk is to be captured (full, incremental or compare), and why. Pure. A parent whose map
//! cannot be read makes it full later (`prepare.rs`); a proof that is lost while the disk is read
//! makes an incremental a compare (`disk_run.rs`).

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
    /// What the tracker knows of that cut now.
    pub recall: Recall,
}

/// How a disk is to be captured.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureMode {
    /// Full, incremental or compare.
    pub mode: Mode,
    /// Why, as text.
    pub reason: String,
    /// The snapshot to make a difference to.
    pub parent: Option<SnapshotId>,
    /// Blocks with marks of this epoch or later have changed since the parent (incremental only).
    pub since: Option<Epoch>,
}

impl CaptureMode {
    /// Everything is read and stored.
    pub fn full(reason: impl Into<String>) -> Self {
        Self {
            mode: Mode::Full,
            reason: reason.into(),
            parent: None,
            since: None,
        }
    }

    /// Decides. `full`: the user wants everything read and stored.
    pub fn decide(parent: Option<&Parent>, disk: &DiskIdentity, now: &Witness, full: bool) -> Self {
        match parent {
            None => Self::full("first snapshot of this disk in the vault"),
            Some(_) if full => Self::full("asked for with --full"),
            Some(parent) => Self::since(parent, disk, now),
        }
    }

    /// Incremental where tracking proves what changed since the parent, else compare.
    fn since(parent: &Parent, disk: &DiskIdentity, now: &Witness) -> Self {
        let compare = |why: String| Self {
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
            Ok(since) => Self {
                mode: Mode::Incremental,
                reason: format!("tracked since {}", parent.snapshot),
                parent: Some(parent.snapshot),
                since: Some(since),
            },
            Err(void) => compare(void.to_string()),
        }
    }
}
