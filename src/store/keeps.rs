//! What keeps snapshots from being deleted: objects in `keeps/`, which are only ever put, and what
//! a manifest says itself. They add up; what cannot be read keeps. It must never take a keep for
//! gone that is there.

use super::ask::ask_of_each;
use super::catalog::SnapshotRef;
use super::object_name::ObjectName;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{KeepRecord, Manifest, ObjectKind};
use crate::model::printable::one_line;
use crate::model::{Cancel, SnapshotId};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// Most keeps of one snapshot that are read: it is kept by more.
const MOST_READ: usize = 64;
/// Most keeps of one snapshot that are looked through for a hold to release.
const MOST_LOOKED_THROUGH: usize = 1 << 14;

/// How long to keep a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepTerm {
    /// Until then.
    Until(Timestamp),
    /// Until this hold is released.
    Hold(String),
}

/// What keeps a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptBy {
    /// It stays until then.
    pub until: Option<Timestamp>,
    /// It stays until each of these holds is released.
    pub holds: BTreeSet<String>,
    /// Keeps that cannot be read, each with the reason: they may say anything.
    pub unreadable: Vec<String>,
}

impl KeptBy {
    /// What a manifest says itself. `received`: when the store got it, by the store's clock.
    pub fn manifest(manifest: &Manifest, received: Option<Timestamp>) -> Self {
        Self {
            until: manifest.kept_until(received),
            ..Self::default()
        }
    }

    /// Adds what others say.
    pub fn add(&mut self, other: Self) {
        self.until = self.until.max(other.until);
        self.holds.extend(other.holds);
        self.unreadable.extend(other.unreadable);
    }

    /// What of it still counts at that time; `None`: nothing does.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Option<Self> {
        self.until = self.until.filter(|until| *until > now);
        let none = self.until.is_none() && self.holds.is_empty() && self.unreadable.is_empty();
        (!none).then_some(self)
    }

    fn count(&mut self, name: &ObjectName, keep: Result<KeepRecord>) {
        match keep {
            Ok(keep) => {
                self.until = self.until.max(keep.until);
                self.holds.extend(keep.hold);
            }
            Err(error) => self.unreadable.push(format!("{name}: {error}")),
        }
    }
}

/// For people: `until …, by the hold "audit"`.
impl fmt::Display for KeptBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = self.until.map(|until| format!("until {until:.0}"));
        let holds = self.holds.iter();
        let holds = holds.map(|hold| format!("by the hold {:?}", one_line(hold)));
        let first = self.unreadable.first();
        let unreadable = first.map(|why| match self.unreadable.len() {
            1 => format!("by a keep that cannot be read ({why})"),
            more => format!("by {more} keeps that cannot be read ({why})"),
        });
        let all: Vec<String> = until.into_iter().chain(holds).chain(unreadable).collect();
        f.write_str(&all.join(", "))
    }
}

/// The names of keeps, by snapshot. None of them has been read.
#[derive(Debug, Default)]
pub struct Keeps {
    of: HashMap<SnapshotId, KeepNames>,
}

/// The keeps of one snapshot.
#[derive(Debug, Default)]
struct KeepNames {
    /// The first ones.
    names: Vec<ObjectName>,
    /// Whether there are more.
    more: bool,
}

impl Keeps {
    /// Whether there is any keep of this snapshot, whatever it says.
    pub fn has(&self, snapshot: SnapshotId) -> bool {
        self.of.contains_key(&snapshot)
    }

    /// Whether there is a keep of this snapshot that is not among the others.
    pub fn has_more(&self, others: &Self, snapshot: SnapshotId) -> bool {
        let Some(own) = self.of.get(&snapshot) else {
            return false;
        };
        let known = others.of.get(&snapshot).map(|of| &of.names[..]);
        let known = known.unwrap_or_default();
        own.more || own.names.iter().any(|name| !known.contains(name))
    }

    fn note(&mut self, name: ObjectName, most: usize) {
        let Some(snapshot) = snapshot_of(&name) else {
            return;
        };
        let of_it = self.of.entry(snapshot).or_default();
        match of_it.names.len() < most {
            true => of_it.names.push(name),
            false => of_it.more = true,
        }
    }
}

/// Whether an error is of one keep, which then keeps: whoever may put a keep may put one that
/// nobody can read, and must not end the work of others by it.
fn is_of_one(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Damaged | ErrorKind::Format | ErrorKind::Archived | ErrorKind::Failed
    )
}

/// The snapshot that a keep of this name is beside; other names there are not of the vault.
fn snapshot_of(name: &ObjectName) -> Option<SnapshotId> {
    let mut parts = name.components().skip(1);
    let snapshot: SnapshotId = parts.next()?.parse().ok()?;
    let keep = parts.next()?.parse().ok()?;
    (ObjectName::keep(snapshot, keep) == *name).then_some(snapshot)
}

impl Vault {
    /// The keeps of those snapshots that are `wanted`: one listing, of all that there are.
    pub fn list_keeps(&self, wanted: &dyn Fn(SnapshotId) -> bool) -> Result<Keeps> {
        let mut keeps = Keeps::default();
        self.store.list(&ObjectName::keeps(), &mut |object| {
            if snapshot_of(&object.name).is_some_and(wanted) {
                keeps.note(object.name, MOST_READ);
            }
            Ok(())
        })?;
        Ok(keeps)
    }

    fn list_keeps_of(&self, snapshot: SnapshotId, most: usize) -> Result<Keeps> {
        let mut keeps = Keeps::default();
        let below = ObjectName::keeps_of(snapshot);
        self.store.list(&below, &mut |object| {
            keeps.note(object.name, most);
            Ok(())
        })?;
        Ok(keeps)
    }

    /// What these keeps say, by snapshot. `cancel` is asked now and then.
    pub fn read_keeps(
        &self,
        keeps: &Keeps,
        cancel: &dyn Cancel,
    ) -> Result<BTreeMap<SnapshotId, KeptBy>> {
        let mut all: BTreeMap<SnapshotId, KeptBy> = BTreeMap::new();
        let mut names: Vec<&ObjectName> = keeps.of.values().flat_map(|of| &of.names).collect();
        // In the same order each time.
        names.sort();
        let read = |name: &&ObjectName| self.read_keep(name);
        ask_of_each(self.store.as_ref(), &names, cancel, read, |name, keep| {
            let Some(snapshot) = snapshot_of(name) else {
                return Ok(());
            };
            match keep {
                // Released meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if !is_of_one(&error) => return Err(error),
                keep => all.entry(snapshot).or_default().count(name, keep),
            }
            Ok(())
        })?;
        for (snapshot, _) in keeps.of.iter().filter(|(_, names)| names.more) {
            let what = format!("there are more than {MOST_READ} keeps of it");
            all.entry(*snapshot).or_default().unreadable.push(what);
        }
        Ok(all)
    }

    fn read_keep(&self, name: &ObjectName) -> Result<KeepRecord> {
        let snapshot = snapshot_of(name)
            .ok_or_else(|| Error::new(ErrorKind::Failed, format!("{name} is not a keep's name")))?;
        let bytes = self.store.get(name, ObjectKind::Keep.most_stored())?;
        KeepRecord::decode(&bytes, self.sealer(), snapshot)
    }

    /// What keeps one snapshot, its manifest apart.
    pub fn kept_by(&self, snapshot: SnapshotId, cancel: &dyn Cancel) -> Result<KeptBy> {
        let keeps = self.list_keeps_of(snapshot, MOST_READ)?;
        let mut read = self.read_keeps(&keeps, cancel)?;
        Ok(read.remove(&snapshot).unwrap_or_default())
    }

    /// Keeps a snapshot.
    ///
    /// # Errors
    /// Of kind `NotFound` when the snapshot is not there any more: the keep is taken back.
    pub fn put_keep(&self, snapshot: &SnapshotRef, term: KeepTerm, by: &str) -> Result<()> {
        let time = Timestamp::now();
        let (until, hold) = match term {
            KeepTerm::Until(until) => (Some(until), None),
            KeepTerm::Hold(hold) => (None, Some(hold)),
        };
        let keep = KeepRecord {
            snapshot: snapshot.id,
            host: snapshot.host().unwrap_or_default().into(),
            until,
            hold,
            time,
            by: by.into(),
        };
        let now = u64::try_from(time.as_millisecond()).unwrap_or_default();
        let name = ObjectName::keep(snapshot.id, SnapshotId::generate(now));
        let bytes = keep.encode(self.sealer())?;
        self.store.put(&name, bytes.into())?;
        // After that: who deletes it from here on sees the keep.
        self.store.size(&snapshot.manifest).map_err(|error| {
            if error.kind() != ErrorKind::NotFound {
                return error.and_said(format!("{name} was put, and keeps it if it is there"));
            }
            // One that stays keeps nothing.
            let _ = self.store.delete(&name);
            let what = format!("snapshot {} was deleted meanwhile", snapshot.id);
            Error::new(ErrorKind::NotFound, what)
        })?;
        Ok(())
    }

    /// Releases a hold: deletes the keeps that name it. Returns how many there were.
    pub fn release(&self, snapshot: SnapshotId, hold: &str, cancel: &dyn Cancel) -> Result<usize> {
        let keeps = self.list_keeps_of(snapshot, MOST_LOOKED_THROUGH)?;
        let names = keeps.of.into_values().flat_map(|of| of.names);
        let names: Vec<ObjectName> = names.collect();
        let mut found = Vec::new();
        let read = |name: &ObjectName| self.read_keep(name);
        ask_of_each(self.store.as_ref(), &names, cancel, read, |name, keep| {
            if keep.is_ok_and(|keep| keep.hold.as_deref() == Some(hold) && keep.until.is_none()) {
                found.push(name.clone());
            }
            Ok(())
        })?;
        self.delete_each(&found, cancel, &mut |_| ())?;
        Ok(found.len())
    }

    /// Those of these keeps whose snapshots are gone: their manifests are asked for by their exact
    /// names, for a listing may be late. Of at most `most` snapshots.
    pub fn orphaned(&self, keeps: Keeps, most: usize, cancel: &dyn Cancel) -> Result<Keeps> {
        let mut gone = Keeps::default();
        for (snapshot, names) in keeps.of.into_iter().take(most) {
            cancel.check()?;
            // Each speaks for itself alone: one may lie of whose snapshot it is.
            for name in names.names {
                // One that cannot be read stays.
                let Ok(record) = self.read_keep(&name) else {
                    continue;
                };
                let manifest = ObjectName::parse(&format!("snapshots/{}/{snapshot}", record.host));
                let size = manifest.and_then(|manifest| self.store.size(&manifest));
                if size.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                    gone.of.entry(snapshot).or_default().names.push(name);
                }
            }
        }
        Ok(gone)
    }

    /// Deletes the keeps of snapshots that were deleted: they keep nothing any more.
    pub fn delete_keeps(&self, keeps: &Keeps, cancel: &dyn Cancel) -> Result<()> {
        let names = keeps.of.values().flat_map(|of| &of.names);
        let names: Vec<ObjectName> = names.cloned().collect();
        self.delete_each(&names, cancel, &mut |_| ())
    }
}

/// Keeps of some snapshots, and those of the rest.
pub struct SplitKeeps {
    /// Of those that were wanted.
    pub wanted: Keeps,
    /// Of the rest.
    pub others: Keeps,
}

impl Keeps {
    /// Parts those of the snapshots that are `wanted` from the rest.
    pub fn split(mut self, wanted: &dyn Fn(SnapshotId) -> bool) -> SplitKeeps {
        let others = self
            .of
            .extract_if(|snapshot, _| !wanted(*snapshot))
            .collect();
        let others = Self { of: others };
        SplitKeeps {
            wanted: self,
            others,
        }
    }
}
