//! The newest drill of each disk of a host in a vault, of each kind, and those of its newest good
//! copy, for whoever shows how a host stands. It reads what drills say and the manifests that they
//! were of, and no data. It must never believe one that is of another manifest, nor let one that
//! cannot be read stand for nothing.

use super::monitor::Monitor;
use super::newest_good::{NewestCopies, WantedDisks};
use super::parents::likeness;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, DrillName, DrillRecord, ManifestHash};
use crate::model::{Likeness, SnapshotId};
use crate::store::{DrillKinds, NewestDrill, SnapshotRef, Vault};
use std::collections::{BTreeMap, HashMap};

/// Most drills that are read.
const MOST_READ: usize = 256;
/// Of so many snapshots at most the manifests are.
const MOST_SNAPSHOTS: usize = 64;
/// Most that are read at once; the first one alone, as it often is enough.
const MOST_AT_ONCE: usize = 16;

/// The drills of one disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskDrills {
    /// The newest ones, of whatever snapshot that has the disk.
    pub newest: DrillKinds,
    /// The newest ones of its newest good copy.
    pub of_copy: DrillKinds,
}

/// What is known of the drills of a host's disks.
#[derive(Debug, Default)]
pub struct DrilledDisks {
    /// For each disk that was asked for, what its drills say.
    pub of: Vec<DiskDrills>,
    /// Why it is not known whether there are others, where that was to be expected: there are very
    /// many.
    pub lacks: Option<String>,
    /// Why nothing is known.
    pub error: Option<Error>,
}

/// What a drilled snapshot has.
enum DrilledSnapshot {
    /// Which of the disks, and its manifest.
    Read { hash: ManifestHash, has: Vec<bool> },
    /// It was deleted meanwhile.
    Gone,
    /// It cannot be read, for this reason.
    Unread(String),
}

/// Looks for the newest drills of these disks, of which the newest good copies were `found`.
///
/// # Errors
/// A signal.
pub fn newest_drills(
    vault: &Vault,
    wanted: &WantedDisks<'_>,
    found: &NewestCopies,
    monitor: &dyn Monitor,
) -> Result<DrilledDisks> {
    let ids: Vec<SnapshotId> = found.snapshots.iter().map(|one| one.id).collect();
    let listed = vault.drill_names(&ids, monitor);
    monitor.check()?;
    let mut drilled = DrilledDisks {
        of: vec![DiskDrills::default(); wanted.disks.len()],
        ..DrilledDisks::default()
    };
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) => {
            drilled.error = Some(error);
            return Ok(drilled);
        }
    };
    drilled.lacks = listed.lacks;
    let mut search = DrillSearch {
        vault,
        wanted,
        found,
        snapshots: found.snapshots.iter().map(|one| (one.id, one)).collect(),
        known: BTreeMap::new(),
        of: &mut drilled.of,
    };
    let mut rest = listed.names.iter().take(MOST_READ);
    let mut at_once = 1;
    loop {
        let some = rest.by_ref();
        let some = some.filter(|name| search.wants(name) && search.may_look(name));
        let some: Vec<DrillName> = some.take(at_once).copied().collect();
        if some.is_empty() {
            break;
        }
        monitor.check()?;
        let read = vault.read_drills(&some, monitor)?;
        for (name, drill) in some.iter().zip(read) {
            search.take(name, drill)?;
        }
        at_once = (at_once * 2).min(MOST_AT_ONCE);
    }
    let (names, looked) = (listed.names.len(), search.known.len());
    let is_cut = names > MOST_READ || looked >= MOST_SNAPSHOTS;
    if is_cut && listed.names.last().is_some_and(|name| search.wants(name)) {
        let what = format!(
            "of {names} drills the newest {MOST_READ} were looked at, and {MOST_SNAPSHOTS} \
             snapshots at most: one of a kind that is not told may be among the others"
        );
        drilled.lacks.get_or_insert(what);
    }
    Ok(drilled)
}

/// Who looks for them.
struct DrillSearch<'a> {
    vault: &'a Vault,
    wanted: &'a WantedDisks<'a>,
    found: &'a NewestCopies,
    snapshots: HashMap<SnapshotId, &'a SnapshotRef>,
    /// The snapshots that were looked at.
    known: BTreeMap<SnapshotId, DrilledSnapshot>,
    of: &'a mut [DiskDrills],
}

impl DrillSearch<'_> {
    /// Whether a drill may be the newest one of something.
    fn wants(&self, name: &DrillName) -> bool {
        let copies = self.found.copies.iter().zip(self.of.iter());
        let mut copies = copies.filter_map(|(copy, of)| Some((copy.as_ref()?, of)));
        copies.any(|(copy, of)| {
            let is_of_copy = copy.snapshot == name.snapshot;
            !of.newest.is_full() || (is_of_copy && !of.of_copy.is_full())
        })
    }

    /// Whether its snapshot may be looked at.
    fn may_look(&self, name: &DrillName) -> bool {
        self.known.len() < MOST_SNAPSHOTS || self.known.contains_key(&name.snapshot)
    }

    /// Takes the next older drill.
    fn take(&mut self, name: &DrillName, drill: Result<DrillRecord>) -> Result<()> {
        // Of one kind each, the older one counts for nothing, and its manifest is not needed.
        let kind = drill.as_ref().ok().map(DrillRecord::tried);
        let is_own = |copy: SnapshotId| copy == name.snapshot;
        let lacks = |kinds: &DrillKinds| kinds.lack(kind);
        let copies = self.found.copies.iter().zip(self.of.iter());
        let mut copies = copies.filter_map(|(copy, of)| Some((copy.as_ref()?, of)));
        let counts = |of: &DiskDrills, copy: SnapshotId| {
            lacks(&of.newest) || (is_own(copy) && lacks(&of.of_copy))
        };
        if !copies.any(|(copy, of)| counts(of, copy.snapshot)) {
            return Ok(());
        }
        self.look(name.snapshot)?;
        let (says, has) = match self.known.get(&name.snapshot) {
            Some(DrilledSnapshot::Read { hash, has }) => {
                (NewestDrill::of(drill, Some(hash)), Some(has))
            }
            Some(DrilledSnapshot::Unread(why)) => {
                let why = format!("its snapshot {} cannot be read: {why}", name.snapshot);
                (NewestDrill::Unknown(why), None)
            }
            Some(DrilledSnapshot::Gone) | None => return Ok(()),
        };
        for (at, of) in self.of.iter_mut().enumerate() {
            // Whoever cannot read it does not know of which disks it was.
            let is_there = has.is_none_or(|has| has.get(at) == Some(&true));
            let copy = self.found.copies.get(at).and_then(Option::as_ref);
            let Some(copy) = copy.filter(|_| is_there) else {
                continue;
            };
            of.newest.take(&says);
            if is_own(copy.snapshot) {
                of.of_copy.take(&says);
            }
        }
        Ok(())
    }

    /// Looks at a snapshot that was drilled, once.
    fn look(&mut self, id: SnapshotId) -> Result<()> {
        if self.known.contains_key(&id) {
            return Ok(());
        }
        let read = match self.snapshots.get(&id) {
            Some(snapshot) => self.vault.manifest_hashed(snapshot),
            None => Err(Error::new(ErrorKind::NotFound, "it is not listed")),
        };
        let known = match read {
            Ok(read) => DrilledSnapshot::Read {
                has: self.has(&read.manifest.disks),
                hash: read.hash,
            },
            Err(error) => match error.kind() {
                ErrorKind::NotFound => DrilledSnapshot::Gone,
                ErrorKind::Interrupted(_) => return Err(error),
                _ => DrilledSnapshot::Unread(error.to_string()),
            },
        };
        self.known.insert(id, known);
        Ok(())
    }

    fn has(&self, records: &[DiskRecord]) -> Vec<bool> {
        let is_one = |disk| {
            let mut records = records.iter();
            records.any(|record| likeness(self.wanted.topology, disk, record) == Likeness::Same)
        };
        self.wanted.disks.iter().map(is_one).collect()
    }
}
