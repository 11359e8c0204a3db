//! What an open vault remembers of collectors' plans for the run that writes to it.

use crate::format::Condemned;
use crate::model::SnapshotId;
use crate::sys::locked::LockExt;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard};

/// The plans that one run has seen.
/// What one run has seen.
#[derive(Default)]
pub(super) struct HeededPlans(Mutex<Heeded>);

/// What one run has seen.
#[derive(Default)]
pub(super) struct Heeded {
    /// Who has looked; nobody: nothing is heeded.
    pub(super) run: Option<SnapshotId>,
    pub(super) plans: BTreeSet<SnapshotId>,
    pub(super) objects: HashSet<Condemned>,
}

impl HeededPlans {
    pub(super) fn lock(&self) -> MutexGuard<'_, Heeded> {
        self.0.locked()
    }
}
