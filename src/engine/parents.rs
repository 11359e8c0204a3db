//! The newest snapshot of each disk in a vault: what the next one builds on, and what `disks`
//! names. Clocks are not believed where anything better is known. It only reads.

use super::dedup_words::DedupWords;
use super::monitor::{Event, Monitor};
use crate::device::{Disk, Topology};
use crate::error::{Error, ErrorKind, Result};
use crate::format::DiskRecord;
use crate::model::{Likeness, SnapshotId};
use crate::store::{Doubtful, History, SnapshotRef, Than, Vault};
use jiff::Timestamp;

/// Most snapshots with names from after now that are looked at.
const MOST_LOOKS: usize = 16;

/// A disk's record in a snapshot, and how sure it is that it is of this disk.
type Candidate = (Likeness, SnapshotId, DiskRecord);

/// A disk's record in the newest snapshot that has it.
pub type Newest = Option<(SnapshotId, DiskRecord)>;

/// The newest snapshot of each of these disks among `snapshots`, which are all of this host, by
/// their names.
pub fn find_parents(
    vault: &Vault,
    snapshots: &[SnapshotRef],
    topology: &Topology,
    disks: &[Disk],
    monitor: &dyn Monitor,
) -> Result<Vec<Newest>> {
    let mut parents: Vec<Option<Candidate>> = vec![None; disks.len()];
    let sure = |parent: &Option<Candidate>| matches!(parent, Some((Likeness::Same, ..)));
    let mut newest_first = oldest_first(vault, snapshots, monitor)?;
    newest_first.reverse();
    let mut manifests = vault.manifests(newest_first);
    let mut words = DedupWords::of(vault.info().dedup);
    while !parents.iter().all(sure)
        && let Some((snapshot, manifest)) = manifests.next()
    {
        monitor.check()?;
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(error) if is_not_for_us(&error) => {
                monitor.tell(Event::Warning(format!("{error}: not used as a parent")));
                continue;
            }
            Err(error) => return Err(error),
        };
        words.note(snapshot.id, manifest.dedup);
        for (disk, parent) in disks.iter().zip(&mut parents) {
            let best = parent.as_ref().map_or(Likeness::Other, |parent| parent.0);
            for record in &manifest.disks {
                let likeness = likeness(topology, disk, record);
                if likeness > best {
                    *parent = Some((likeness, snapshot.id, record.clone()));
                }
            }
        }
    }
    let changed = words.told().filter(|_| words.is_new());
    changed
        .into_iter()
        .for_each(|changed| monitor.tell(Event::Warning(changed)));
    let found = |(_, snapshot, record): Candidate| (snapshot, record);
    Ok(parents
        .into_iter()
        .map(|parent| parent.map(found))
        .collect())
}

/// The snapshots, oldest first. Their names are in that order, unless a clock was ahead or is
/// behind now: then the user is warned, and the manifests are read, which know better.
fn oldest_first(
    vault: &Vault,
    snapshots: &[SnapshotRef],
    monitor: &dyn Monitor,
) -> Result<Vec<SnapshotRef>> {
    let ahead = ahead_of_now(vault, snapshots, Timestamp::now());
    let Some(newest) = ahead.last() else {
        return Ok(snapshots.to_vec());
    };
    let others = match ahead.len() {
        1 => String::new(),
        count => format!(", and so do others ({} in all)", count),
    };
    monitor.tell(Event::Warning(format!(
        "{newest}{others}; the new snapshot counts as the newest all the same. Set the clock, or \
         `stillpoint delete` what nobody needs"
    )));
    Ok(History::read(vault, snapshots, monitor)?.order)
}

/// Those whose cut is later than now. A name is never before its cut, so few have to be read.
fn ahead_of_now(vault: &Vault, snapshots: &[SnapshotRef], now: Timestamp) -> Vec<Doubtful> {
    let now_ms = u64::try_from(now.as_millisecond()).unwrap_or_default();
    let named_later = snapshots.iter().filter(|one| one.id.unix_ms() > now_ms);
    // A later snapshot is named after them, also one that was taken while the clock was right.
    let cut_later = named_later.take(MOST_LOOKS).filter_map(|one| {
        let time = vault.manifest(one).ok()?.time;
        let doubtful = Doubtful {
            snapshot: one.id,
            time,
            than: Than::Now(now),
        };
        (time > now).then_some(doubtful)
    });
    cut_later.collect()
}

/// Damaged, deleted meanwhile, or written by a newer version: an older one will do as a parent.
fn is_not_for_us(error: &Error) -> bool {
    use ErrorKind::{Damaged, Format, NotFound};
    matches!(error.kind(), Damaged | Format | NotFound)
}

/// Whether a record is of this disk, and not of a copy that is here too.
pub(super) fn likeness(topology: &Topology, disk: &Disk, record: &DiskRecord) -> Likeness {
    let is_anothers = || {
        let mut others = topology.disks().filter(|other| other.dev() != disk.dev());
        others.any(|other| other.identity.likeness(&record.identity) == Likeness::Same)
    };
    match disk.identity.likeness(&record.identity) {
        Likeness::Maybe if is_anothers() => Likeness::Other,
        likeness => likeness,
    }
}
