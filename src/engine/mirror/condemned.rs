//! What a collector means to delete in the second place: it may be gone at any moment, and its name
//! must not be used while the plan stands. So a snapshot that needs it waits for the next mirror.

use crate::format::{Condemned, FooterCopiesRef};
use crate::model::{ObjectId, SnapshotId};
use crate::store::{NeededSegments, Vault};
use std::collections::BTreeSet;

/// All that a snapshot needs.
pub(super) struct AllNeeded<'a> {
    pub(super) indexes: &'a [ObjectId],
    pub(super) segments: &'a NeededSegments,
    pub(super) copies: &'a BTreeSet<FooterCopiesRef>,
}

impl AllNeeded<'_> {
    /// Whether a plan names any of it that stood in `target` when the mirror began.
    pub(super) fn are_condemned(&self, target: &Vault) -> bool {
        let segments = self.segments.keys().map(|id| Condemned::Segment(*id));
        let indexes = self.indexes.iter().map(|id| Condemned::Index(*id));
        let copies = self.copies.iter().map(|copies| Condemned::Copies {
            run: copies.run,
            part: copies.part,
        });
        let mut all = segments.chain(indexes).chain(copies);
        all.any(|object| target.is_condemned(object))
    }
}

/// Why a snapshot was not mirrored.
pub(super) fn in_words(snapshot: SnapshotId) -> String {
    format!(
        "{snapshot} was not mirrored: `gc` is about to delete objects in the second place that it \
         needs; when that has ended there, the next mirror sends it"
    )
}
