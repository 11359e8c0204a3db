//! What an open vault remembers of collectors' plans for the run that writes to it.

use super::object_name::ObjectName;
use crate::format::Condemned;
use crate::model::{ObjectId, SnapshotId};
use crate::sys::locked::LockExt;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// What the run that writes has seen.
pub(super) struct HeededPlans {
    seen: Mutex<Heeded>,
    /// How long to wait before a part that was not found is asked for again.
    again: Mutex<Duration>,
}

impl Default for HeededPlans {
    fn default() -> Self {
        Self {
            seen: Mutex::default(),
            again: Mutex::new(Duration::from_secs(2)),
        }
    }
}

/// What one run has seen.
#[derive(Default)]
pub(super) struct Heeded {
    /// Who has looked; nobody: nothing is heeded.
    pub(super) run: Option<SnapshotId>,
    /// Plans of which every part was read that names objects and was listed.
    pub(super) plans: BTreeSet<SnapshotId>,
    /// Parts that name runs, of plans of which a part that was listed was not there.
    pub(super) doubted: BTreeSet<ObjectName>,
    /// What they name.
    pub(super) named: NamedObjects,
}

/// Objects that plans name, and that a run could refer to, in as little memory as may be.
#[derive(Default)]
pub(super) struct NamedObjects {
    segments: Vec<ObjectId>,
    indexes: Vec<ObjectId>,
    copies: Vec<(SnapshotId, u32)>,
}

impl NamedObjects {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.segments.len() + self.indexes.len() + self.copies.len()
    }

    pub(super) fn add(&mut self, object: Condemned) {
        match object {
            Condemned::Segment(id) => self.segments.push(id),
            Condemned::Index(id) => self.indexes.push(id),
            Condemned::Copies { run, part } => self.copies.push((run, part)),
            // No run refers to one.
            Condemned::Keep { .. } => {}
        }
    }

    /// To be called when all were added, and before any is looked for.
    pub(super) fn sort(&mut self) {
        self.segments.sort_unstable();
        self.indexes.sort_unstable();
        self.copies.sort_unstable();
    }

    pub(super) fn contains(&self, object: Condemned) -> bool {
        match object {
            Condemned::Segment(id) => self.segments.binary_search(&id).is_ok(),
            Condemned::Index(id) => self.indexes.binary_search(&id).is_ok(),
            Condemned::Copies { run, part } => self.copies.binary_search(&(run, part)).is_ok(),
            Condemned::Keep { .. } => false,
        }
    }
}

impl HeededPlans {
    pub(super) fn lock(&self) -> MutexGuard<'_, Heeded> {
        self.seen.locked()
    }

    /// Sets how long to wait before a part that was not found is asked for again.
    pub(super) fn ask_again_after(&self, long: Duration) {
        *self.again.locked() = long;
    }

    /// How long that is.
    pub(super) fn again(&self) -> Duration {
        *self.again.locked()
    }
}
