//! Which segments were found not to hold what they say while an open vault was used. The run refers
//! to nothing of them. It must never forget one that was not noted in the vault.

use crate::model::ObjectId;
use crate::sys::locked::LockExt;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// What an open vault remembers of them.
#[derive(Default)]
pub(super) struct FalseSegments(Mutex<FoundFalse>);

#[derive(Default)]
struct FoundFalse {
    /// Not to be referred to: false themselves, or put by who has put a false one.
    shunned: BTreeSet<ObjectId>,
    /// Found false, and not noted yet.
    unnoted: BTreeSet<ObjectId>,
}

impl FalseSegments {
    /// Whether nothing of a segment is to be referred to.
    pub(super) fn shuns(&self, segment: ObjectId) -> bool {
        self.0.locked().shunned.contains(&segment)
    }

    /// Has nothing of these referred to.
    pub(super) fn shun(&self, segments: impl IntoIterator<Item = ObjectId>) {
        self.0.locked().shunned.extend(segments);
    }

    /// The same of one that was found false itself.
    pub(super) fn add(&self, segment: ObjectId) {
        let mut found = self.0.locked();
        found.shunned.insert(segment);
        found.unnoted.insert(segment);
    }

    /// Those that are to be noted, each once.
    pub(super) fn take_unnoted(&self) -> BTreeSet<ObjectId> {
        std::mem::take(&mut self.0.locked().unnoted)
    }
}
