//! What the second place lacks, and what is wrong there, by names and lengths: an object never
//! changes, and its name is never used twice. So one that is there with its length is believed;
//! what else may be wrong with it is for `verify` to find.

use super::source_needs::SourceNeeds;
use crate::engine::monitor::Monitor;
use crate::engine::verify::is_damage;
use crate::error::{Error, ErrorKind, Result};
use crate::format::lengths_with;
use crate::model::ObjectId;
use crate::store::{KnownDamage, NeededSegments, Sizes, SnapshotRef, Vault};
use std::collections::{BTreeMap, BTreeSet};

/// How an object stands in the second place.
pub(super) enum Standing {
    /// It is there.
    There,
    /// It is not.
    Missing,
    /// Something is there that it cannot be, as text.
    Wrong(String),
}

/// What was listed of both places, and what came to the second one since then.
pub(super) struct Inventory<'a> {
    source: &'a Vault,
    segments: BothSizes<ObjectId>,
    indexes: BothSizes<ObjectId>,
    manifests: BothSizes<SnapshotRef>,
    /// How many slots each segment has at least, by what names it.
    slots: NeededSegments,
    /// What `verify` has noted as damaged in the second place.
    known: Option<KnownDamage>,
    /// Segments that it names and that were put anew since.
    healed: BTreeSet<ObjectId>,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

/// Lengths of one sort of objects, in bytes.
struct BothSizes<K> {
    source: BTreeMap<K, u64>,
    target: BTreeMap<K, u64>,
}

impl<K: Ord> BothSizes<K> {
    fn standing(&self, key: &K) -> Standing {
        match (self.source.get(key), self.target.get(key)) {
            (_, None) => Standing::Missing,
            (Some(here), Some(there)) if here != there => Standing::Wrong(format!(
                "it has {there} B there, and {here} B in the source"
            )),
            _ => Standing::There,
        }
    }
}

impl<'a> Inventory<'a> {
    /// Lists both places; `target` is `None` where nothing is there yet.
    pub(super) fn list(
        source: &'a Vault,
        target: Option<&Vault>,
        needs: &SourceNeeds,
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let (segments, indexes) = (needs.segments(), needs.indexes());
        let of_segments = |vault: &Vault| vault.segment_sizes(&segments, monitor);
        let of_indexes = |vault: &Vault| vault.index_sizes(&indexes, monitor);
        let known = target.map(Vault::known_damage).transpose()?;
        let unreadable = known.as_ref().and_then(|known| known.unreadable.as_ref());
        let warnings = unreadable.map(|error| {
            format!("what was noted as damaged in the second place cannot be read: {error}")
        });
        let there = |sizes: &dyn Fn(&Vault) -> Result<Sizes>| {
            target.map_or_else(|| Ok(Sizes::new()), sizes)
        };
        // What refers to others first: whatever it refers to was there before it.
        let manifests = BothSizes {
            target: target.map_or_else(|| Ok(BTreeMap::new()), Vault::manifest_sizes)?,
            source: source.manifest_sizes()?,
        };
        let indexes = BothSizes {
            target: there(&of_indexes)?,
            source: of_indexes(source)?,
        };
        let segments = BothSizes {
            target: there(&of_segments)?,
            source: of_segments(source)?,
        };
        Ok(Self {
            source,
            segments,
            indexes,
            manifests,
            slots: needs.slots(),
            known,
            healed: BTreeSet::new(),
            warnings: warnings.into_iter().collect(),
        })
    }

    pub(super) fn is_noted(&self, id: ObjectId) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|known| known.damage.names(id)) && !self.healed.contains(&id)
    }

    /// Takes back what was noted of segments that were put anew since, unless some notes cannot be
    /// read: those would be lost.
    pub(super) fn forget_healed(&self, target: &Vault) -> Result<()> {
        let Some(known) = self.known.as_ref().filter(|_| !self.healed.is_empty()) else {
            return Ok(());
        };
        if known.unreadable.is_some() {
            let what = "not all of these notes can be read";
            return Err(Error::new(ErrorKind::Damaged, what)
                .with_hint("`verify --all` of the second place makes them anew"));
        }
        let mut damage = known.damage.clone();
        self.healed.iter().for_each(|id| damage.forget(*id));
        target.note_damage(known, &damage)
    }

    pub(super) fn of_segment(&self, id: ObjectId) -> Standing {
        match self.segments.standing(&id) {
            Standing::There if self.is_noted(id) => {
                Standing::Wrong("`verify` has noted it as damaged there".into())
            }
            Standing::There if !self.can_hold(id) => {
                Standing::Wrong("it is too short there for what it has to hold".into())
            }
            other => other,
        }
    }

    /// Whether what the second place has is long enough for all that is needed of it.
    fn can_hold(&self, id: ObjectId) -> bool {
        let both = self.segments.target.get(&id).zip(self.slots.get(&id));
        both.is_none_or(|(length, slots)| lengths_with(*slots).contains(length))
    }

    pub(super) fn of_index(&self, id: ObjectId) -> Standing {
        self.indexes.standing(&id)
    }

    pub(super) fn of_manifest(&self, snapshot: &SnapshotRef) -> Standing {
        self.manifests.standing(snapshot)
    }

    /// The names of the second place that are like that of a snapshot which is not there itself.
    /// Those that the source has, too, stand for themselves, and are left out.
    pub(super) fn like_there(&self, snapshot: &SnapshotRef) -> Vec<SnapshotRef> {
        let (here, there) = (&self.manifests.source, &self.manifests.target);
        if there.contains_key(snapshot) {
            return Vec::new();
        }
        let first = snapshot.first_like();
        let like = there.range(first..).map(|(other, _)| other);
        let like = like.take_while(|other| other.id.is_akin_to(snapshot.id));
        let of_it = like.filter(|other| other.host() == snapshot.host());
        of_it
            .filter(|other| !here.contains_key(*other))
            .cloned()
            .collect()
    }

    /// How long a segment is in the source; `None`: it is not there.
    pub(super) fn length_of_segment(&self, id: ObjectId) -> Result<Option<u64>> {
        match self.segments.source.get(&id) {
            Some(length) => Ok(Some(*length)),
            // A listing may be older than what was put last.
            None => self.source.size_of_segment(id),
        }
    }

    /// How long an index object is in the source, as far as it was listed.
    pub(super) fn length_of_index(&self, id: ObjectId) -> u64 {
        self.indexes.source.get(&id).copied().unwrap_or_default()
    }

    /// How many bytes of these segments are to be put, as far as it is known.
    pub(super) fn bytes_to_put(&self) -> u64 {
        let all = self.segments.source.iter();
        let missing = all.filter(|(id, _)| !matches!(self.of_segment(**id), Standing::There));
        missing.map(|(_, length)| length).sum()
    }

    /// Notes that a segment was put there, with so many bytes.
    pub(super) fn put_segment(&mut self, id: ObjectId, length: u64) {
        if self.is_noted(id) {
            self.healed.insert(id);
        }
        self.found_segment(id, length);
    }

    /// Notes that a segment was found there, with so many bytes: what was noted of it stays.
    pub(super) fn found_segment(&mut self, id: ObjectId, length: u64) {
        self.segments.source.insert(id, length);
        self.segments.target.insert(id, length);
    }

    /// The same of an index object.
    pub(super) fn has_index(&mut self, id: ObjectId, length: u64) {
        self.indexes.source.insert(id, length);
        self.indexes.target.insert(id, length);
    }
}

/// `None`: it cannot be had, as it is damaged or not there.
pub(super) fn unless_damaged<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_damage(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
