//! What the newest drills of snapshots say, of each kind: that filesystems were opened, that a
//! machine was booted. It must never take an older drill for the newest, nor what it cannot read
//! for nothing: that hides all that is older.

use super::ask::ask_of_each;
use super::drills::{ListedDrill, MOST_LISTED, MOST_OF_ONE};
use super::vault::Vault;
use crate::error::Result;
use crate::format::{DrillKind, DrillName, DrillRecord, ManifestHash};
use crate::model::{Cancel, SnapshotId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Of one snapshot so many drills are read, newest first, until each kind is known.
const MOST_READ: usize = 16;
/// Beside the newest of each, so many are read of all snapshots.
const MOST_FURTHER: usize = 256;

/// A snapshot whose drills are asked for.
#[derive(Clone, Debug)]
pub struct DrillsWanted {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its manifest, as it was read: a drill of another one says nothing of it.
    pub manifest: ManifestHash,
}

/// What is known of the drills of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drilled {
    /// The newest one, of whatever kind.
    pub newest: NewestDrill,
    /// The newest one of each kind.
    pub kinds: DrillKinds,
    /// How many there are, whatever they say.
    pub count: usize,
}

/// What the newest drill says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewestDrill {
    /// This, in the word of who put it, with the step alone that decides.
    Says(Box<DrillRecord>),
    /// Nobody knows, for this reason: older ones do not count.
    Unknown(String),
}

/// What is known of the drills of several snapshots.
#[derive(Debug, Default)]
pub struct DrillsFound {
    /// Of those that have any.
    pub of: BTreeMap<SnapshotId, Drilled>,
    /// Why it is not known of all others that they have none.
    pub lacks: Option<String>,
}

/// The newest drill of each kind; `None`: there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrillKinds {
    /// By which filesystems were opened and checked, and a script saw the tree.
    pub opened: Option<NewestDrill>,
    /// By which a machine was booted.
    pub booted: Option<NewestDrill>,
}

impl DrillKinds {
    /// Whether each kind is known.
    pub fn is_full(&self) -> bool {
        self.opened.is_some() && self.booted.is_some()
    }

    /// Whether a drill of this kind, or one of which nobody knows its kind, would be the newest.
    pub fn lack(&self, kind: Option<DrillKind>) -> bool {
        match kind {
            Some(DrillKind::Opened) => self.opened.is_none(),
            Some(DrillKind::Booted) => self.booted.is_none(),
            Some(DrillKind::Other) => false,
            None => !self.is_full(),
        }
    }

    /// Takes the next older drill. One that cannot be read may be of any kind, so it stands for
    /// all that are not known yet.
    pub fn take(&mut self, older: &NewestDrill) {
        let kind = older.kind();
        if kind.is_none_or(|kind| kind == DrillKind::Opened) {
            self.opened.get_or_insert_with(|| older.clone());
        }
        if kind.is_none_or(|kind| kind == DrillKind::Booted) {
            self.booted.get_or_insert_with(|| older.clone());
        }
    }

    /// Those that there are.
    pub fn each(&self) -> impl Iterator<Item = &NewestDrill> {
        [&self.opened, &self.booted].into_iter().flatten()
    }
}

impl NewestDrill {
    /// What a drill says of the snapshot with this manifest; `None`: nobody knows which one is
    /// meant.
    pub fn of(drill: Result<DrillRecord>, manifest: Option<&ManifestHash>) -> Self {
        match drill {
            Ok(drill) if Some(&drill.manifest) == manifest => {
                Self::Says(Box::new(drill.in_short()))
            }
            Ok(drill) => Self::Unknown(format!(
                "it was of another manifest than the one that is there: {} by {}",
                drill.drill, drill.by
            )),
            Err(error) => Self::Unknown(format!("it cannot be read: {error}")),
        }
    }

    /// What it was; `None`: nobody knows.
    pub fn kind(&self) -> Option<DrillKind> {
        match self {
            Self::Says(record) => Some(record.tried()),
            Self::Unknown(_) => None,
        }
    }

    /// Whether all was tried and nothing failed, in its own word.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Says(record) if record.is_whole())
    }

    /// Whether it has failed, in its own word.
    pub fn has_failed(&self) -> bool {
        matches!(self, Self::Says(record) if record.failed().is_some())
    }
}

/// The drills of some snapshots, newest first.
#[derive(Debug, Default)]
pub struct DrillNames {
    /// Their names.
    pub names: Vec<DrillName>,
    /// Why these may not be all.
    pub lacks: Option<String>,
}

/// How far the drills of one snapshot were read, from the newest on.
struct DrillWalk {
    /// Newest first.
    names: Vec<DrillName>,
    read: usize,
    newest: Option<NewestDrill>,
    kinds: DrillKinds,
}

impl DrillWalk {
    fn of(mut listed: Vec<&ListedDrill>) -> Self {
        listed.sort_by_key(|one| Reverse(one.rank()));
        Self {
            names: listed.iter().map(|one| one.name).collect(),
            read: 0,
            newest: None,
            kinds: DrillKinds::default(),
        }
    }

    /// The next one that is to be read.
    fn wanted(&self) -> Option<DrillName> {
        let wants = !self.kinds.is_full() && self.read < MOST_READ;
        self.names.get(self.read).copied().filter(|_| wants)
    }

    fn take(&mut self, says: NewestDrill) {
        self.read += 1;
        self.kinds.take(&says);
        self.newest.get_or_insert(says);
    }

    fn end(mut self) -> Drilled {
        let left = self.names.len() - self.read;
        if left > 0 {
            self.kinds.take(&NewestDrill::Unknown(format!(
                "none of its {} newest drills was of this kind, and the others were not read",
                self.read
            )));
        }
        Drilled {
            newest: self.newest.unwrap_or_else(not_read),
            kinds: self.kinds,
            count: self.names.len(),
        }
    }
}

impl Vault {
    /// What the newest drills of these snapshots say; the first ones go before where there are too
    /// many. What cannot be asked for is said in it.
    ///
    /// # Errors
    /// Those of `cancel`.
    pub fn drilled(&self, wanted: &[DrillsWanted], cancel: &dyn Cancel) -> Result<DrillsFound> {
        let snapshots: Vec<SnapshotId> = wanted.iter().map(|one| one.snapshot).collect();
        let listed = self.list_drills(&snapshots, cancel);
        cancel.check()?;
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                let lacks = format!("whether there were drills is not known: {error}");
                return Ok(DrillsFound {
                    of: BTreeMap::new(),
                    lacks: Some(lacks),
                });
            }
        };
        let lacks = missed(listed.missed);
        let mut each: BTreeMap<SnapshotId, Vec<&ListedDrill>> = BTreeMap::new();
        for one in &listed.found {
            each.entry(one.name.snapshot).or_default().push(one);
        }
        let mut of = BTreeMap::new();
        // What comes after those that were listed may be newer.
        for snapshot in &listed.too_many {
            let count = each.remove(snapshot).map_or(0, |all| all.len());
            let mut kinds = DrillKinds::default();
            kinds.take(&not_read());
            let newest = not_read();
            let drilled = Drilled {
                newest,
                kinds,
                count,
            };
            of.insert(*snapshot, drilled);
        }
        let walks = each.into_iter();
        let walks = walks.map(|(snapshot, all)| (snapshot, DrillWalk::of(all)));
        let walks = self.walk(walks.collect(), wanted, cancel)?;
        let walked = walks.into_iter();
        of.extend(walked.map(|(snapshot, walk)| (snapshot, walk.end())));
        Ok(DrillsFound { of, lacks })
    }

    /// Reads the drills of snapshots, the newest of each first, until what they say of each kind
    /// is known.
    fn walk(
        &self,
        mut walks: BTreeMap<SnapshotId, DrillWalk>,
        wanted: &[DrillsWanted],
        cancel: &dyn Cancel,
    ) -> Result<BTreeMap<SnapshotId, DrillWalk>> {
        // Of two manifests of one name, of two hosts, nobody knows which one is meant.
        let mut manifests: HashMap<SnapshotId, Option<&ManifestHash>> = HashMap::new();
        for one in wanted {
            let known = manifests.entry(one.snapshot);
            known
                .and_modify(|known| *known = None)
                .or_insert(Some(&one.manifest));
        }
        let mut most = usize::MAX;
        let mut further = MOST_FURTHER;
        loop {
            let names = walks.values().filter_map(DrillWalk::wanted).take(most);
            let names: Vec<DrillName> = names.collect();
            if names.is_empty() {
                return Ok(walks);
            }
            let read = |name: &DrillName| self.read_drill(*name);
            ask_of_each(self.store.as_ref(), &names, cancel, read, |name, drill| {
                let manifest = manifests.get(&name.snapshot).copied().flatten();
                if let Some(walk) = walks.get_mut(&name.snapshot) {
                    walk.take(NewestDrill::of(drill, manifest));
                }
                Ok(())
            })?;
            // The newest of each is read, whatever that costs.
            if most != usize::MAX {
                further -= names.len().min(further);
            }
            most = further;
        }
    }

    /// The names of the drills of these snapshots, newest first.
    ///
    /// # Errors
    /// They cannot be listed; those of `cancel`.
    pub fn drill_names(&self, snapshots: &[SnapshotId], cancel: &dyn Cancel) -> Result<DrillNames> {
        if snapshots.is_empty() {
            return Ok(DrillNames::default());
        }
        let listed = self.list_drills(snapshots, cancel)?;
        let too_many = listed.too_many.iter().map(|snapshot| {
            format!("snapshot {snapshot} has more than {MOST_OF_ONE} drills, which hide others")
        });
        let lacks = missed(listed.missed).into_iter().chain(too_many).next();
        let mut found = listed.found;
        found.sort_by_key(|one| Reverse(one.rank()));
        Ok(DrillNames {
            names: found.iter().map(|one| one.name).collect(),
            lacks,
        })
    }

    /// Reads these drills.
    ///
    /// # Errors
    /// Those of `cancel`.
    pub fn read_drills(
        &self,
        names: &[DrillName],
        cancel: &dyn Cancel,
    ) -> Result<Vec<Result<DrillRecord>>> {
        let mut all = Vec::with_capacity(names.len());
        let read = |name: &DrillName| self.read_drill(*name);
        ask_of_each(self.store.as_ref(), names, cancel, read, |_, drill| {
            all.push(drill);
            Ok(())
        })?;
        Ok(all)
    }
}

/// What is told where a vault has so many drills that some snapshots were not asked about.
fn missed(snapshots: usize) -> Option<String> {
    (snapshots > 0).then(|| {
        format!(
            "this vault has more than {MOST_LISTED} drills: of {snapshots} snapshots it was not \
             asked whether they were drilled; `stillpoint show ID` does"
        )
    })
}

/// What is told of drills that are not read.
fn not_read() -> NewestDrill {
    NewestDrill::Unknown(format!(
        "there are more than {MOST_OF_ONE} objects, and which is the newest is not known"
    ))
}
