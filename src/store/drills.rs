//! What drills have found, put beside snapshots in `drills/`: their names, in the order of time.
//! Nothing rests on it, and who may put may put a false one. It must never take an older drill for
//! the newest, and costs few requests, however many there are.

use super::ask::ask_of_each;
use super::object_name::ObjectName;
use super::object_store::ObjectInfo;
use super::vault::Vault;
use crate::error::{ErrorKind, Result};
use crate::format::{DrillName, DrillRecord, ObjectKind};
use crate::model::{Cancel, ObjectId, SnapshotId};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Of so many snapshots each has its drills listed by itself.
const FEW: usize = 4;
/// The same where the vault has too many drills to list all.
const MOST_BY_THEMSELVES: usize = 64;
/// Most drills of a vault that are listed.
pub(super) const MOST_LISTED: usize = 8000;
/// Most drills of one snapshot that are listed.
pub(super) const MOST_OF_ONE: usize = 1000;
/// Stores' times may be cut to whole seconds.
const SECOND_MS: u64 = 1000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A drill that is there.
pub(super) struct ListedDrill {
    pub name: DrillName,
    /// When the store got it, in milliseconds after 1970-01-01 UTC.
    put_ms: u64,
}

impl ListedDrill {
    /// Other names there are not of the vault.
    fn of(object: &ObjectInfo) -> Option<Self> {
        let mut parts = object.name.components().skip(1);
        let snapshot: SnapshotId = parts.next()?.parse().ok()?;
        let drill = parts.next()?.parse().ok()?;
        let name = DrillName { snapshot, drill };
        let put_ms = u64::try_from(object.modified.as_millisecond()).unwrap_or_default();
        let is_one = ObjectName::drill(name) == object.name;
        is_one.then_some(Self { name, put_ms })
    }

    /// By which they are in order of time. A name may lie ahead of the store's clock, and one that
    /// is put again, or touched, gets a new time: so the earlier of both counts. Of two that the
    /// store got in one second one that lies ahead is the older one: it may lie ahead on purpose.
    pub fn rank(&self) -> DrillRank {
        let named_ms = self.name.drill.unix_ms();
        DrillRank {
            time_ms: named_ms.min(self.put_ms),
            is_named_by_then: named_ms <= self.latest_ms(),
            name: self.name.drill,
        }
    }

    /// The end of the second in which the store got it.
    fn latest_ms(&self) -> u64 {
        self.put_ms.saturating_add(SECOND_MS)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DrillRank {
    time_ms: u64,
    is_named_by_then: bool,
    name: SnapshotId,
}

/// The drills of some snapshots.
pub(super) struct ListedDrills {
    pub found: Vec<ListedDrill>,
    /// Of which it is not known whether they have any.
    pub missed: usize,
    /// Which have more than are listed.
    pub too_many: BTreeSet<SnapshotId>,
}

impl Vault {
    /// A name for a drill of this snapshot that is put now, which sorts after those that are there.
    pub fn name_drill(&self, snapshot: SnapshotId) -> DrillName {
        let listed = self.list_beside(snapshot);
        let listed = listed.iter().flatten().filter_map(ListedDrill::of);
        let latest = listed.map(|one| {
            let name = one.name.drill.unix_ms();
            // No later than it may say itself.
            name.min(one.latest_ms() - 1) + 1
        });
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        DrillName {
            snapshot,
            drill: SnapshotId::generate(latest.fold(now, u64::max)),
        }
    }

    /// Puts what a drill has found. Returns the object's name.
    pub fn put_drill(&self, drill: &DrillRecord) -> Result<String> {
        let name = ObjectName::drill(DrillName {
            snapshot: drill.snapshot,
            drill: drill.drill,
        });
        self.store.put(&name, drill.encode(self.sealer())?.into())?;
        Ok(name.to_string())
    }

    /// Lists the drills of these snapshots: each by itself, or all of the vault.
    pub(super) fn list_drills(
        &self,
        wanted: &[SnapshotId],
        cancel: &dyn Cancel,
    ) -> Result<ListedDrills> {
        if wanted.len() > FEW {
            let mut found = Vec::new();
            let these: BTreeSet<SnapshotId> = wanted.iter().copied().collect();
            let all = self.store.list_some(&ObjectName::drills(), MOST_LISTED)?;
            let is_all = all.len() < MOST_LISTED;
            if is_all {
                let all = all.iter().filter_map(ListedDrill::of);
                found.extend(all.filter(|one| these.contains(&one.name.snapshot)));
                return Ok(ListedDrills {
                    found,
                    missed: 0,
                    too_many: BTreeSet::new(),
                });
            }
        }
        let asked = &wanted[..wanted.len().min(MOST_BY_THEMSELVES)];
        let mut listed = ListedDrills {
            found: Vec::new(),
            missed: wanted.len() - asked.len(),
            too_many: BTreeSet::new(),
        };
        let list = |snapshot: &SnapshotId| self.list_beside(*snapshot);
        ask_of_each(self.store.as_ref(), asked, cancel, list, |snapshot, of| {
            let of = of?;
            // Whatever their names are: what comes after them was not seen.
            if of.len() >= MOST_OF_ONE {
                listed.too_many.insert(*snapshot);
            }
            listed.found.extend(of.iter().filter_map(ListedDrill::of));
            Ok(())
        })?;
        Ok(listed)
    }

    /// The first objects below the folder of a snapshot's drills.
    fn list_beside(&self, snapshot: SnapshotId) -> Result<Vec<ObjectInfo>> {
        let below = ObjectName::drills_of(snapshot);
        self.store.list_some(&below, MOST_OF_ONE)
    }

    pub(super) fn read_drill(&self, name: DrillName) -> Result<DrillRecord> {
        let object = ObjectName::drill(name);
        let bytes = self.store.get(&object, ObjectKind::Drill.most_stored())?;
        DrillRecord::decode(&bytes, self.sealer(), name)
            .map_err(|error| error.context(object.to_string()))
    }

    /// Deletes the drills of snapshots that were deleted: they say nothing any more. What is left,
    /// where there are very many, [`Self::delete_stray_drills`] takes.
    pub fn delete_drills(&self, deleted: &[SnapshotId], cancel: &dyn Cancel) -> Result<()> {
        let listed = self.list_drills(deleted, cancel)?.found;
        let names = listed.iter().map(|one| ObjectName::drill(one.name));
        let names: Vec<ObjectName> = names.collect();
        self.delete_each(&names, cancel, &mut |_| ())
    }

    /// Deletes drills of snapshots that are gone, as their manifests' exact names tell: a listing
    /// may be late. Of at most `most`, picked at random, so that those that stay do not keep others
    /// from going. One that is damaged goes when its snapshot is not listed, and a day old.
    pub fn delete_stray_drills(
        &self,
        is_there: &dyn Fn(SnapshotId) -> bool,
        most: usize,
        cancel: &dyn Cancel,
    ) -> Result<()> {
        let seed = ObjectId::generate().0;
        let mut strays: BTreeMap<[u8; 32], DrillName> = BTreeMap::new();
        self.store.list(&ObjectName::drills(), &mut |object| {
            let stray = ListedDrill::of(&object).filter(|one| !is_there(one.name.snapshot));
            if let Some(stray) = stray {
                let drawn = [&seed[..], &stray.name.drill.to_bytes()].concat();
                strays.insert(*blake3::hash(&drawn).as_bytes(), stray.name);
                if strays.len() > most {
                    strays.pop_last();
                }
            }
            cancel.check()
        })?;
        let names: Vec<DrillName> = strays.into_values().collect();
        let is_gone = |name: &DrillName| self.is_stray(*name);
        let mut gone = Vec::new();
        ask_of_each(self.store.as_ref(), &names, cancel, is_gone, |name, is| {
            if is? {
                gone.push(ObjectName::drill(*name));
            }
            Ok(())
        })?;
        self.delete_each(&gone, cancel, &mut |_| ())
    }

    /// Whether the snapshot of a drill, which was not listed, is gone.
    fn is_stray(&self, name: DrillName) -> Result<bool> {
        let drill = match self.read_drill(name) {
            Ok(drill) => drill,
            Err(error) if error.kind() == ErrorKind::Damaged => {
                let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
                return Ok(name.snapshot.unix_ms().saturating_add(DAY_MS) < now);
            }
            // Of a later version, or archived: it stays.
            Err(error) if matches!(error.kind(), ErrorKind::Format | ErrorKind::Archived) => {
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let manifest = format!("snapshots/{}/{}", drill.host, name.snapshot);
        let size = ObjectName::parse(&manifest).and_then(|manifest| self.store.size(&manifest));
        Ok(size.is_err_and(|error| error.kind() == ErrorKind::NotFound))
    }
}
