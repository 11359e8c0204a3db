//! Which chunks of damaged segments are lost, and noting them in the vault, so that the next run
//! reads and stores their blocks again. What was noted and is whole again is forgotten.

use crate::engine::monitor::{Event, Monitor};
use crate::engine::run_phase::RunPhase;
use crate::error::{Error, ErrorKind, Result};
use crate::model::ObjectId;
use crate::store::{KnownDamage, Vault};
use std::collections::{BTreeMap, BTreeSet};

/// Damaged segments.
#[derive(Default)]
pub(super) struct DamagedSegments(BTreeMap<ObjectId, DamagedSegment>);

/// A segment in which something is wrong.
pub(super) struct DamagedSegment {
    /// What is wrong, as text.
    pub what: String,
    /// The slots whose chunks cannot be had; `None`: none can.
    slots: Option<BTreeSet<u32>>,
}

/// Whether the next runs will know what was found damaged.
#[derive(Debug, Default)]
pub enum Noted {
    /// There was nothing to note: if anything is damaged, the next run finds it when it plans.
    #[default]
    Nothing,
    /// It is noted in the vault.
    Done,
    /// It could not be noted.
    Failed(Error),
}

impl DamagedSegments {
    /// Looks at each slot of segments in which something is wrong.
    pub(super) fn find(
        vault: &Vault,
        bad: BTreeMap<ObjectId, String>,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let mut damaged = Self::default();
        if !bad.is_empty() {
            monitor.tell(Event::Phase(RunPhase::FindingLost));
        }
        for (segment, what) in bad {
            let slots = vault.bad_slots(segment, monitor)?;
            damaged.0.insert(segment, DamagedSegment { what, slots });
        }
        Ok(damaged)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn of(&self, segment: ObjectId) -> Option<&DamagedSegment> {
        self.0.get(&segment)
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = (ObjectId, &DamagedSegment)> {
        self.0.iter().map(|(segment, damaged)| (*segment, damaged))
    }
}

impl DamagedSegment {
    /// Whether the chunk in this slot cannot be had.
    pub(super) fn has_lost(&self, slot: u32) -> bool {
        self.slots
            .as_ref()
            .is_none_or(|slots| slots.contains(&slot))
    }
}

/// What verifying the vault has found.
pub(super) struct VerifiedSegments<'a> {
    /// The segments that were read whole.
    pub read: &'a BTreeSet<ObjectId>,
    /// Those in which something is wrong, read or not.
    pub damaged: &'a DamagedSegments,
    /// Every segment that a snapshot needs was read.
    pub complete: bool,
    /// What was known before the first was read: what was noted since is newer.
    pub known: KnownDamage,
}

/// Notes what is damaged. What was noted before stays noted where nothing was read this time.
pub(super) fn note_damage(vault: &Vault, found: VerifiedSegments<'_>) -> Noted {
    match try_to_note(vault, found) {
        Ok(noted) => noted,
        Err(error) => Noted::Failed(error),
    }
}

fn try_to_note(vault: &Vault, found: VerifiedSegments<'_>) -> Result<Noted> {
    let mut known = found.known;
    if !found.complete
        && let Some(error) = known.unreadable.take()
    {
        return Err(error.with_hint("`stillpoint verify --all` makes it anew"));
    }
    let mut damage = known.damage.clone();
    for segment in known.damage.segments() {
        let looked_at = found.read.contains(&segment) || found.damaged.of(segment).is_some();
        // One that is gone is found by its name.
        if looked_at || !vault.has_segment(segment)? {
            damage.forget(segment);
        }
    }
    let mut noted = Noted::Nothing;
    for (segment, damaged) in found.damaged.segments() {
        let some = damaged.slots.as_ref().is_none_or(|slots| !slots.is_empty());
        if some && vault.has_segment(segment)? {
            damage.add(segment, damaged.slots.as_ref());
            noted = Noted::Done;
        }
    }
    vault.note_damage(&known, &damage)?;
    Ok(noted)
}

/// A part of the vault that is of a newer format, or not there any more, is lost to this version
/// too.
pub(in crate::engine) fn is_damage(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Format
    )
}
