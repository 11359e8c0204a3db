//! The newest good copy of each disk in a vault, for whoever asks how old it is: complete, of one
//! instant, of this very disk. It reads manifests, newest first, and no data.

use super::monitor::Monitor;
use super::parents::likeness;
use crate::device::{Disk, Topology};
use crate::error::{Error, ErrorKind, Result};
use crate::format::EncryptionAlarm;
use crate::model::{Level, Likeness, SnapshotId};
use crate::store::{KeptBy, SnapshotRef, Vault};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// Most snapshots that are looked at: newer ones than these there are none of.
const MOST_LOOKS: usize = 64;
/// Most snapshots before alarms that are asked about: of others the alarms stand.
const MOST_ALARMS: usize = 16;
/// A cut that is later than now by no more than this is of now: clocks differ.
const SLACK: SignedDuration = SignedDuration::from_mins(5);

/// A copy of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoodCopy {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The instant of its cut.
    pub time: Timestamp,
    /// How consistent it is.
    pub level: Level,
    /// What looked like encryption at work on the disk: when this was taken, or before it, and what
    /// was held for it is held still.
    pub alarm: Option<EncryptionAlarm>,
}

/// What was found of a host's disks in a vault.
#[derive(Debug, Default)]
pub struct NewestCopies {
    /// For each disk that was asked for, the newest good copy.
    pub copies: Vec<Option<GoodCopy>>,
    /// Snapshots from after now: their age says nothing, and they are not among the copies.
    pub ahead: Vec<GoodCopy>,
    /// Snapshots that cannot be read.
    pub unread: Vec<Error>,
    /// How many older ones were not looked at, though a disk is without a copy.
    pub left_out: usize,
    /// Whether `verify` has noted anything of this vault as damaged.
    pub noted_damage: bool,
    /// All snapshots of the host by their names, newest first.
    pub snapshots: Vec<SnapshotRef>,
}

/// Looks for the newest good copy of each of these disks among the snapshots of `host`.
///
/// # Errors
/// The vault cannot be asked.
pub fn newest_good(
    vault: &Vault,
    wanted: &WantedDisks<'_>,
    monitor: &dyn Monitor,
) -> Result<NewestCopies> {
    let mut snapshots = vault.snapshots_of(wanted.host)?;
    snapshots.reverse();
    let count = snapshots.len();
    let newest = snapshots.iter().take(MOST_LOOKS).cloned().collect();
    let mut found = NewestCopies {
        copies: vec![None; wanted.disks.len()],
        noted_damage: count > 0 && vault.has_noted_damage()?,
        snapshots,
        ..NewestCopies::default()
    };
    let latest = wanted.now.checked_add(SLACK).unwrap_or(Timestamp::MAX);
    let mut manifests = vault.manifests(newest);
    while found.copies.iter().any(Option::is_none)
        && let Some((snapshot, manifest)) = manifests.next()
    {
        monitor.check()?;
        let manifest = match manifest {
            Ok(manifest) => manifest,
            // It was deleted meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Format) => {
                found.unread.push(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let copy = |level: Level| GoodCopy {
            snapshot: snapshot.id,
            time: manifest.time,
            level,
            alarm: None,
        };
        if manifest.time > latest {
            found.ahead.push(copy(manifest.level));
            continue;
        }
        for (disk, place) in wanted.disks.iter().zip(&mut found.copies) {
            let mut records = manifest.disks.iter();
            let record = records.find(|record| {
                record.level > Level::Fuzzy
                    && likeness(wanted.topology, disk, record) == Likeness::Same
            });
            // Names are about in the order of time; of two the later cut counts.
            let newer =
                record.filter(|_| place.as_ref().is_none_or(|old| old.time < manifest.time));
            if let Some(record) = newer {
                *place = Some(GoodCopy {
                    alarm: record.rewritten.and_then(|noted| noted.alarm),
                    ..copy(record.level)
                });
            }
        }
    }
    if found.copies.iter().any(Option::is_none) {
        found.left_out = count.saturating_sub(MOST_LOOKS);
    }
    forget_released(vault, &mut found.copies, monitor);
    Ok(found)
}

/// Forgets alarms whose holds were released. Nothing is asked where there is none; what cannot be
/// asked stands.
fn forget_released(vault: &Vault, copies: &mut [Option<GoodCopy>], monitor: &dyn Monitor) {
    let mut stand: BTreeMap<SnapshotId, bool> = BTreeMap::new();
    for copy in copies.iter_mut().flatten() {
        let Some(alarm) = copy.alarm.filter(|alarm| alarm.held) else {
            continue;
        };
        if stand.len() < MOST_ALARMS && !stand.contains_key(&alarm.clean) {
            let kept = vault.kept_by(alarm.clean, monitor);
            stand.insert(alarm.clean, kept.map_or(true, |kept| is_held(&kept)));
        }
        copy.alarm = copy
            .alarm
            .filter(|_| stand.get(&alarm.clean) != Some(&false));
    }
}

/// Whether an alarm's hold is among what keeps a snapshot, or may be.
pub(super) fn is_held(kept: &KeptBy) -> bool {
    let mut holds = kept.holds.iter();
    holds.any(|hold| EncryptionAlarm::is_hold(hold)) || !kept.unreadable.is_empty()
}

/// Which disks are asked about.
#[derive(Clone, Copy, Debug)]
pub struct WantedDisks<'a> {
    /// The host's name.
    pub host: &'a str,
    /// All of its devices.
    pub topology: &'a Topology,
    /// The disks.
    pub disks: &'a [Disk],
    /// When.
    pub now: Timestamp,
}
