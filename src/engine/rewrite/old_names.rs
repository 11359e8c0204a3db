//! Snapshots that are there under two names: a collector was killed, or may not delete, before the
//! old name went, or a mirror has brought the new one. The old name goes when all that it shows is
//! proven to be there under the new one. It must never take a name on a manifest's word: who may
//! put can write one that says that it is another's successor.

use super::places::PlaceChange;
use crate::engine::monitor::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Condemned, Manifest};
use crate::model::{ObjectId, RunMap, SnapshotId, block_count};
use crate::store::{Draft, KeptBy, StoredSnapshot, Vault};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, HashSet};

/// Most names of one snapshot that are read: more are left as they are.
const MOST_AKIN: usize = 16;
/// How far clocks of hosts and stores may be apart.
const APART: SignedDuration = SignedDuration::from_hours(1);

/// A name, and the one that the snapshot has besides.
#[derive(Clone, Debug)]
pub(super) struct OldName {
    pub(super) old: StoredSnapshot,
    pub(super) new: StoredSnapshot,
}

/// All names of which a host has several that are like one another.
#[derive(Debug, Default)]
pub(super) struct SharedNames {
    /// Of these the older one may go.
    pub(super) old: Vec<OldName>,
    all: HashSet<SnapshotId>,
}

impl SharedNames {
    /// Whether another name there may be one of the same snapshot.
    pub(super) fn has(&self, id: SnapshotId) -> bool {
        self.all.contains(&id)
    }

    /// Finds them; only manifests of names that are like others are read.
    pub(super) fn find(
        vault: &Vault,
        listed: &[StoredSnapshot],
        monitor: &dyn Monitor,
    ) -> Result<Self> {
        let mut groups: BTreeMap<Alike<'_>, Vec<&StoredSnapshot>> = BTreeMap::new();
        for one in listed {
            groups.entry(Alike::of(one)).or_default().push(one);
        }
        let mut found = Self::default();
        for group in groups.into_values().filter(|group| group.len() > 1) {
            found.all.extend(group.iter().map(|one| one.snapshot.id));
            let mut borne = Vec::new();
            for one in group.into_iter().take(MOST_AKIN) {
                monitor.check()?;
                match vault.manifest(&one.snapshot) {
                    Ok(manifest) => borne.push((one, manifest.borne().collect::<Vec<_>>())),
                    Err(error) if is_unknown(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            // The newest is the one that has borne most of the others' names.
            borne.sort_by_key(|(one, names)| (names.len(), one.snapshot.id));
            let Some((new, names)) = borne.pop() else {
                continue;
            };
            let old = borne.into_iter().map(|(old, _)| old);
            let old = old.filter(|old| names.contains(&old.snapshot.id));
            found.old.extend(old.map(|old| OldName {
                old: old.clone(),
                new: new.clone(),
            }));
        }
        Ok(found)
    }
}

/// What names of one snapshot have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Alike<'a> {
    host: &'a str,
    start: SnapshotId,
}

impl<'a> Alike<'a> {
    fn of(one: &'a StoredSnapshot) -> Self {
        Self {
            host: one.snapshot.host().unwrap_or_default(),
            start: one.snapshot.id.common_part(),
        }
    }
}

/// Who takes old names away.
pub(super) struct OldNames<'a> {
    pub(super) vault: &'a Vault,
    pub(super) draft: &'a Draft,
    pub(super) monitor: &'a dyn Monitor,
    /// Segments of which every byte was checked.
    checked: HashSet<ObjectId>,
}

impl<'a> OldNames<'a> {
    pub(super) fn new(vault: &'a Vault, draft: &'a Draft, monitor: &'a dyn Monitor) -> Self {
        Self {
            vault,
            draft,
            monitor,
            checked: HashSet::new(),
        }
    }

    /// Takes the old name away; why it stays, if it does.
    ///
    /// # Errors
    /// Nothing more can be asked of the vault, or names must not be deleted.
    pub(super) fn take_away(&mut self, one: &OldName) -> Result<Option<String>> {
        match self.why_it_stays(one) {
            Ok(None) => {}
            Err(error) if is_unknown(&error) => return Ok(Some(error.to_string())),
            stays => return stays,
        }
        // The machine may have stood still: last of all, that the new one is there still.
        self.draft.ask_session()?;
        if !self.vault.has_snapshot(&one.new.snapshot)? {
            return Ok(Some("its other name is gone".into()));
        }
        let deleted = self.vault.delete(&one.old.snapshot);
        deleted.map(|()| None).map_err(|error| {
            let (old, new) = (one.old.snapshot.id, one.new.snapshot.id);
            error
                .and_said(format!(
                    "a snapshot is there as {old} and as {new}: both are whole"
                ))
                .with_hint("--rewrite takes the right to delete in `snapshots/`")
        })
    }

    fn why_it_stays(&mut self, one: &OldName) -> Result<Option<String>> {
        let old = self.vault.known_manifest(&one.old.snapshot)?;
        let new = self.vault.known_manifest(&one.new.snapshot)?;
        let (Some(old), Some(new)) = (old, new) else {
            return Ok(Some("one of them says more than is known here".into()));
        };
        if old.likeness()? != new.likeness()? {
            return Ok(Some("they do not say the same".into()));
        }
        let came = old.first_received(one.old.received);
        let claims = new.first_received(one.new.received);
        let first = old.time.checked_sub(APART).unwrap_or(Timestamp::MIN);
        let last = came.checked_add(APART).unwrap_or(Timestamp::MAX);
        // By when it came, rules keep it: nobody is to say that it came later, or much earlier.
        if claims > last || claims < first {
            return Ok(Some("they do not agree on when it came".into()));
        }
        if self.is_kept(&old, one)? {
            return Ok(Some("somebody keeps it under the old one".into()));
        }
        self.shows_the_same(&old, &new)
    }

    /// Whether anybody keeps it under its old name: that counts for the new one, too, but only as
    /// long as that says which names it has borne.
    fn is_kept(&self, old: &Manifest, one: &OldName) -> Result<bool> {
        let until = old.kept_until(Some(one.old.received));
        let is_kept = until.is_some_and(|until| until > Timestamp::now());
        let by_others = || self.vault.kept_by(old.snapshot, self.monitor);
        Ok(is_kept || by_others()? != KeptBy::default())
    }

    /// Why the new name does not show what the old one shows. What is in another place there is
    /// read, and all else is the same chunk of the same segment.
    fn shows_the_same(&mut self, old: &Manifest, new: &Manifest) -> Result<Option<String>> {
        for (old, new) in old.disks.iter().zip(&new.disks) {
            let blocks = block_count(old.identity.size);
            let before = self.vault.read_index(&old.index, blocks, self.monitor)?;
            let after = self.vault.read_index(&new.index, blocks, self.monitor)?;
            let name = &old.identity.name;
            let lost = self.vault.lost_segments(&after, self.monitor)?;
            let parts = new.index.iter().map(|part| Condemned::Index(part.id));
            if !lost.is_empty() || parts.into_iter().any(|part| self.vault.is_condemned(part)) {
                let what = format!("of {name}, some is gone or to go under the new one");
                return Ok(Some(what));
            }
            if !self.is_the_same(&before, &after)? {
                return Ok(Some(format!("the new one shows something else of {name}")));
            }
        }
        Ok(None)
    }

    fn is_the_same(&mut self, before: &RunMap, after: &RunMap) -> Result<bool> {
        let Some(changes) = PlaceChange::between(before, after) else {
            return Ok(false);
        };
        for change in changes {
            self.monitor.check()?;
            if self.checked.insert(change.now) {
                self.vault.check_segment(change.now)?;
            }
            for at in 0..change.count {
                let was = self.vault.chunk(change.was, change.was_slot + at)?;
                let now = self.vault.chunk(change.now, change.now_slot + at)?;
                if was.hash != now.hash || was.plain_len != now.plain_len {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// Whether it is one of both that cannot be had, and not the vault.
fn is_unknown(error: &Error) -> bool {
    use ErrorKind::{Archived, Damaged, Format, NotFound};
    matches!(error.kind(), Archived | Damaged | Format | NotFound)
}
