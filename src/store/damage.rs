//! What `verify`, or a run that compared, has found damaged, kept in the vault so that the next run
//! of any host stores it again. A run that cannot read this must not build on older snapshots.

use super::ask::ask_both;
use super::object_name::ObjectName;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::DamagedChunks;
use crate::model::{Cancel, ObjectId, RunMap, SnapshotId};
use std::collections::BTreeSet;

/// Most lists that are read: one is usual, and one more for each `verify` at the same time.
const MAX_LISTS: usize = 64;

/// Most segments that are read before they are noted. Others are noted whole: `verify` says more.
const MOST_READ: usize = 8;

/// What is known, and the objects that say so.
pub struct KnownDamage {
    /// What could be read of it.
    pub damage: DamagedChunks,
    /// Why that is not all.
    pub unreadable: Option<Error>,
    lists: Vec<ObjectName>,
}

/// What a map needs, and cannot have.
pub struct Losses {
    /// The segments that are [lost](Vault::lost_segments).
    pub segments: BTreeSet<ObjectId>,
    /// What was found damaged, of this map or not.
    pub damage: DamagedChunks,
}

/// Most times that the lists are listed again because one was gone.
const MAX_LOOKS: u32 = 5;

impl Vault {
    /// What was found damaged. An error of kind `Damaged` or `Format` when a list cannot be read.
    pub fn damage(&self) -> Result<DamagedChunks> {
        let known = self.known_damage()?;
        known.unreadable.map_or(Ok(known.damage), Err)
    }

    /// What the vault has no more of what a map needs. Both questions are asked at once.
    pub fn losses(&self, map: &RunMap, cancel: &dyn Cancel) -> Result<Losses> {
        let mut losses = Losses {
            segments: BTreeSet::new(),
            damage: DamagedChunks::default(),
        };
        let Losses { segments, damage } = &mut losses;
        let ask_damage = || {
            *damage = self.damage()?;
            Ok(())
        };
        ask_both(ask_damage, || {
            *segments = self.lost_segments(map, cancel)?;
            Ok(())
        })?;
        Ok(losses)
    }

    /// Whether anything is noted as damaged. One listing, and nothing is read.
    pub fn has_noted_damage(&self) -> Result<bool> {
        let mut found = false;
        self.store.list(&ObjectName::damaged(), &mut |object| {
            found |= is_list(&object.name);
            Ok(())
        })?;
        Ok(found)
    }

    /// What was found damaged, for `verify`, which replaces the lists: as much of them as can be
    /// read.
    ///
    /// A list that is gone was replaced by another `verify`, which has put its own list before, and
    /// this listing may be older than that. So they are listed again; when lists keep going, the
    /// result is called unreadable.
    pub fn known_damage(&self) -> Result<KnownDamage> {
        for _ in 0..MAX_LOOKS {
            let (known, is_whole) = self.damage_as_listed()?;
            if is_whole {
                return Ok(known);
            }
        }
        let (mut known, is_whole) = self.damage_as_listed()?;
        if !is_whole {
            let what = "the lists of what is damaged change as they are read";
            let error = Error::new(ErrorKind::Damaged, what);
            known.unreadable.get_or_insert(error);
        }
        Ok(known)
    }

    /// What the lists say that are there now, and whether none was gone when it was read.
    fn damage_as_listed(&self) -> Result<(KnownDamage, bool)> {
        let mut is_whole = true;
        let listed = self.store.list_all(&ObjectName::damaged())?;
        let mut known = KnownDamage {
            damage: DamagedChunks::default(),
            unreadable: None,
            lists: listed
                .into_iter()
                .map(|object| object.name)
                .filter(is_list)
                .collect(),
        };
        known.lists.sort();
        for list in known.lists.iter().take(MAX_LISTS) {
            let read = self.store.get(list, DamagedChunks::MAX_LEN);
            let read = read.and_then(|bytes| DamagedChunks::decode(&bytes, self.sealer()));
            match read.and_then(|damage| known.damage.merge(&damage)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => is_whole = false,
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Format) => {
                    known.unreadable.get_or_insert(error.context(list));
                }
                Err(error) => return Err(error),
            }
        }
        if known.lists.len() > MAX_LISTS {
            let what = format!("there are more than {MAX_LISTS} lists of what is damaged");
            let error = Error::new(ErrorKind::Damaged, what);
            known.unreadable.get_or_insert(error);
        }
        Ok((known, is_whole))
    }

    /// Notes `damage` in place of what was known. What another `verify` has noted since then stays.
    pub fn note_damage(&self, known: &KnownDamage, damage: &DamagedChunks) -> Result<()> {
        let one = known.lists.len() <= 1 && known.unreadable.is_none();
        if one && known.damage == *damage {
            return Ok(());
        }
        if !damage.is_empty() {
            let now = jiff::Timestamp::now().as_millisecond();
            let id = SnapshotId::generate(u64::try_from(now).unwrap_or_default());
            let bytes = damage.encode(self.sealer())?;
            self.store.put(&ObjectName::damage(id), bytes.into())?;
        }
        known
            .lists
            .iter()
            .try_for_each(|list| self.store.delete(list))
    }

    /// Has nothing found in these segments by who looks for blocks that others have put: they were
    /// put with one that was found false.
    pub fn shun(&self, segments: impl IntoIterator<Item = ObjectId>) {
        self.false_ones.shun(segments);
    }

    /// The same of a segment that was found false itself, which [`Vault::note_false`] notes.
    pub fn found_false(&self, segment: ObjectId) {
        self.false_ones.add(segment);
    }

    /// Notes in a vault that shares blocks what was found false, each once: read again, to say
    /// which chunks of it. Nothing may be held or frozen. `cancel` is asked before each chunk.
    pub fn note_false(&self, cancel: &dyn Cancel) -> Result<()> {
        let found = self.false_ones.take_unnoted();
        match self.shares_blocks() {
            true => self.note_bad(found, cancel),
            false => Ok(()),
        }
    }

    /// Notes what of these segments cannot be had: each is read again, to say which chunks.
    pub fn note_bad(&self, found: BTreeSet<ObjectId>, cancel: &dyn Cancel) -> Result<()> {
        if found.is_empty() {
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

    /// Whether a segment is there, whole or not.
    pub fn has_segment(&self, segment: ObjectId) -> Result<bool> {
        match self.store.get_tail(&ObjectName::segment(segment), 0) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            // Something stands there.
            Err(error) if error.kind() == ErrorKind::Damaged => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// Other names there do not belong to the vault.
fn is_list(name: &ObjectName) -> bool {
    let mut parts = name.components().skip(1);
    let id: Option<SnapshotId> = parts.next().and_then(|text| text.parse().ok());
    id.is_some_and(|id| ObjectName::damage(id) == *name)
}
