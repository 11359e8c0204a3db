//! Snapshots that the second place has under another name than the source has them: in both, `gc
//! --rewrite` gives names. What follows on a name there comes, with what it leads to; what has gone
//! another way, or further, stays as it is there. It must never take for a snapshot what does not
//! say the same, is not whole, or is a snapshot of the source, too.

use super::lacking::Inventory;
use super::source_needs::{SnapshotNeeds, SourceNeeds};
use crate::engine::monitor::Monitor;
use crate::error::Result;
use crate::format::lengths_with;
use crate::model::SnapshotId;
use crate::store::{NeededSegments, Sizes, SnapshotRef, Vault};
use std::collections::{BTreeMap, BTreeSet};

/// Most names of the second place that are read for one snapshot.
const MOST_READ: usize = 16;

/// Both places, as they were listed.
pub(super) struct BothPlaces<'a> {
    pub(super) target: &'a Vault,
    pub(super) needs: &'a SourceNeeds,
    pub(super) inventory: &'a Inventory<'a>,
    pub(super) monitor: &'a dyn Monitor,
}

impl BothPlaces<'_> {
    /// The snapshots of the source that the second place has under other names.
    pub(super) fn there_under_others(&self) -> Result<BTreeSet<SnapshotId>> {
        let mut found = BTreeSet::new();
        let mut candidates: BTreeMap<SnapshotRef, Vec<&SnapshotNeeds>> = BTreeMap::new();
        for one in &self.needs.snapshots {
            for other in self.like(one).take(MOST_READ) {
                candidates.entry(other).or_default().push(one);
            }
        }
        if candidates.is_empty() {
            return Ok(found);
        }
        let names: Vec<SnapshotRef> = candidates.keys().cloned().collect();
        let there = SourceNeeds::read(self.target, &names, self.monitor)?;
        let sizes = self.target.segment_sizes(&there.segments(), self.monitor)?;
        for other in &there.snapshots {
            self.monitor.check()?;
            let all = candidates.get(&other.snapshot).into_iter().flatten();
            let mut all = all.filter(|one| is_like(one, other)).peekable();
            if all.peek().is_some() && self.is_whole(&there, other, &sizes)? {
                found.extend(all.map(|one| one.snapshot.id));
            }
        }
        Ok(found)
    }

    /// Names of the second place that may be names of this one, and that it has not borne: those
    /// it follows on.
    fn like(&self, one: &SnapshotNeeds) -> impl Iterator<Item = SnapshotRef> {
        let borne = one.names.as_ref().map(|names| &names.borne);
        let all = borne.map(|borne| {
            let like = self.inventory.like_there(&one.snapshot).into_iter();
            like.filter(move |other| !borne.contains(&other.id))
        });
        all.into_iter().flatten()
    }

    /// Whether all that a snapshot of the second place leads to is there.
    fn is_whole(&self, there: &SourceNeeds, other: &SnapshotNeeds, sizes: &Sizes) -> Result<bool> {
        if other.damage.is_some() {
            return Ok(false);
        }
        let named = there.slots_named_by(other);
        if self.are_there(&named, sizes)? {
            return Ok(true);
        }
        // What lies beneath newer ones may be gone.
        let manifest = self.target.manifest(&other.snapshot)?;
        let required = self.target.segments_required_by(&manifest, self.monitor)?;
        self.are_there(&required, sizes)
    }

    fn are_there(&self, needed: &NeededSegments, sizes: &Sizes) -> Result<bool> {
        for (id, slots) in needed {
            let length = match sizes.get(id) {
                // A listing may be older than what it lacks.
                None => self.target.size_of_segment(*id)?,
                length => length.copied(),
            };
            let is_long = length.is_some_and(|length| lengths_with(*slots).contains(&length));
            if !is_long || self.inventory.is_noted(*id) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn is_like(one: &SnapshotNeeds, other: &SnapshotNeeds) -> bool {
    let both = one.names.as_ref().zip(other.names.as_ref());
    both.is_some_and(|(one, other)| one.likeness == other.likeness)
}
