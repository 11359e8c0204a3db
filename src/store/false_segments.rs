//! Segments that were found not to hold what they say while an open vault was used. The run refers
//! to nothing of them, and notes them for the next run of any host. It must never note a chunk that
//! it has read once only, but where there are too many segments to read.

use super::vault::Vault;
use crate::error::Result;
use crate::model::{Cancel, ObjectId};
use crate::sys::locked::LockExt;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Most segments that are read before they are noted. Others are noted whole: `verify` says more.
const MOST_READ: usize = 8;

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
}

impl Vault {
    /// Has nothing found in these segments by who looks for blocks that others have put: they were
    /// put with one that was found false.
    pub fn shun(&self, segments: impl IntoIterator<Item = ObjectId>) {
        self.false_ones.0.locked().shunned.extend(segments);
    }

    /// The same of a segment that was found false itself, which [`Vault::note_false`] notes.
    pub fn found_false(&self, segment: ObjectId) {
        let mut found = self.false_ones.0.locked();
        found.shunned.insert(segment);
        found.unnoted.insert(segment);
    }

    /// Notes in a vault that shares blocks what was found false, each once: read again, to say
    /// which chunks of it. Nothing may be held or frozen. `cancel` is asked before each chunk.
    pub fn note_false(&self, cancel: &dyn Cancel) -> Result<()> {
        let found = std::mem::take(&mut self.false_ones.0.locked().unnoted);
        if found.is_empty() || !self.shares_blocks() {
            return Ok(());
        }
        let mut bad = Vec::new();
        for (number, segment) in found.into_iter().enumerate() {
            let slots = match number < MOST_READ {
                true => self.bad_slots(segment, cancel)?,
                false => None,
            };
            bad.push((segment, slots));
        }
        let mut known = self.known_damage()?;
        if let Some(error) = known.unreadable.take() {
            return Err(error.with_hint("`stillpoint verify --all` makes it anew"));
        }
        let mut damage = known.damage.clone();
        for (segment, slots) in &bad {
            // Right when it is read again: damaged on the way.
            if slots.as_ref().is_none_or(|slots| !slots.is_empty()) {
                damage.add(*segment, slots.as_ref());
            }
        }
        self.note_damage(&known, &damage)
    }
}
