//! An alarm from what a run knows anyway: much of the disk was rewritten in place, packed before
//! and hardly packs now. It must never fail a run, hold it up for longer than a while, or ask the
//! vault for anything on a day like others.

use super::captured_disk::CapturedDisk;
use super::rewritten::Rewritten;
use crate::capture::Baseline;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::random::random;
use crate::engine::snapshot_options::SnapshotOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Compression, EncryptionAlarm, RewrittenRecord};
use crate::model::{BlockSet, Bytes, Content, ObjectId, SnapshotId};
use crate::store::{KeepTerm, SnapshotRef, Vault};
use crossbeam_channel::bounded;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fewer blocks than this are never told: 32 MiB.
const FEWEST: u64 = 512;
/// Of all that was rewritten at least one in so many.
const SHARE: u64 = 16;
/// More than so many times what is usual for the disk.
const TIMES: u64 = 3;
/// Blocks that are looked up in the parent, at most.
const MOST_LOOKED: usize = 256;
/// Fewer say nothing.
const FEWEST_LOOKED: u64 = 16;
/// Segments whose footers are read for that, at most.
const MOST_SEGMENTS: usize = 16;
/// Draws for that, at most: some fall into other segments.
const MOST_DRAWS: usize = 4096;
/// How long a run waits for these footers, of all disks together.
const PATIENCE: Duration = Duration::from_secs(20);

/// A run that has captured its disks, and looks at what it has.
pub(super) struct AlarmLook<'a> {
    /// The vault.
    vault: &'a Arc<Vault>,
    /// The name of the snapshot that is to be.
    run: SnapshotId,
    /// The host's snapshots.
    known: &'a [SnapshotRef],
    /// Whether anybody wants an alarm; the counts are kept all the same.
    is_on: bool,
    /// Who is told.
    monitor: &'a dyn Monitor,
}

/// How blocks of a sample had packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PackedSample {
    looked: u64,
    packed: u64,
}

impl<'a> AlarmLook<'a> {
    /// Of a run that is to make a snapshot of this name. `known`: the host's snapshots.
    pub(super) fn of(
        vault: &'a Arc<Vault>,
        options: &'a SnapshotOptions,
        run: SnapshotId,
        known: &'a [SnapshotRef],
        monitor: &'a dyn Monitor,
    ) -> Self {
        Self {
            vault,
            run,
            known,
            is_on: options.encryption_alarm,
            monitor,
        }
    }

    /// Notes for each disk what was rewritten, and tells what looks like encryption.
    pub(super) fn look(&self, disks: &mut [CapturedDisk]) {
        if self.vault.info().compression == Compression::None {
            // Nothing ever packs there.
            return;
        }
        let until = Instant::now() + PATIENCE;
        for disk in disks {
            let noted = Rewritten::of(disk, self.run).map(|found| {
                let name = &disk.identity.name;
                let raised = match self.is_on && is_unusual(&found.record) {
                    true => self.look_closer(name, &found, until),
                    false => None,
                };
                RewrittenRecord {
                    alarm: raised.or(found.record.alarm),
                    ..found.record
                }
            });
            disk.rewritten = noted;
        }
    }

    /// Looks up how blocks had packed in the parent; returns the alarm that it raises.
    fn look_closer(
        &self,
        disk: &str,
        found: &Rewritten<'_>,
        until: Instant,
    ) -> Option<EncryptionAlarm> {
        let Rewritten { record, since, .. } = found;
        let hardly = Bytes::of_blocks(record.hardly_pack);
        let places = draw(found.parent, &found.hardly_pack);
        let sample = match packed_before(self.vault, places, until) {
            Ok(sample) if sample.looked < FEWEST_LOOKED => Err("too few could be".to_owned()),
            Ok(sample) => Ok(sample),
            Err(error) => Err(error.to_string()),
        };
        let sample = match sample {
            Ok(sample) => sample,
            Err(why) => {
                self.warn(format!(
                    "{disk}: {hardly} were rewritten in place since {since} and hardly pack now, \
                     which is unusual for it; how they had packed could not be looked up ({why}), \
                     so whether this is encryption at work is not known: see `stillpoint help \
                     alarm`"
                ));
                return None;
            }
        };
        if !looks_like_encryption(record, sample) {
            return None;
        }
        let PackedSample { looked, packed } = sample;
        let alarm = EncryptionAlarm {
            told: self.run,
            clean: self.clean(found),
            looked,
            packed,
        };
        self.warn(format!(
            "{disk}: this looks like ENCRYPTION AT WORK: {hardly} were rewritten in place since \
             {since} and hardly pack now, and of {looked} blocks looked up {packed} had packed \
             well; usual for it are {} at most. The last snapshot before is {}. If nobody has \
             encrypted or packed this data on purpose, stop the machine; see `stillpoint help \
             alarm`",
            Bytes::of_blocks(record.usual),
            alarm.clean,
        ));
        Some(alarm)
    }

    /// The last snapshot before: that of an alarm of the parent's run still is. It says what it
    /// likes, so the vault must have it.
    fn clean(&self, found: &Rewritten<'_>) -> SnapshotId {
        let before = found.raised.map(|alarm| alarm.clean);
        let before = before.filter(|id| *id < found.since);
        let is_known = |id: &SnapshotId| self.known.iter().any(|one| one.id == *id);
        before.filter(is_known).unwrap_or(found.since)
    }

    fn warn(&self, warning: String) {
        self.monitor.tell(Event::Warning(warning));
    }

    /// Holds the snapshots that these alarms call the last before; returns what is to be said. The
    /// run's own snapshot is there.
    pub(super) fn hold(&self, alarms: &[EncryptionAlarm], host: &str) -> Vec<String> {
        let cleans: BTreeMap<SnapshotId, &EncryptionAlarm> =
            alarms.iter().map(|alarm| (alarm.clean, alarm)).collect();
        let hold = |(id, alarm): (SnapshotId, &EncryptionAlarm)| {
            let said = match self.hold_one(id, alarm, host) {
                Ok(hold) => format!(
                    "snapshot {id} is held, so neither prune nor delete takes it; when nobody \
                     needs it: stillpoint keep {id} --release {hold}"
                ),
                Err(error) => format!(
                    "snapshot {id}, the last before what looks like encryption, COULD NOT BE HELD: \
                     {error}; from where that is allowed: stillpoint keep {id} --hold {}",
                    alarm.hold()
                ),
            };
            self.warn(said.clone());
            said
        };
        cleans.into_iter().map(hold).collect()
    }

    /// Returns the name of the hold, of this alarm or of one before.
    fn hold_one(&self, id: SnapshotId, alarm: &EncryptionAlarm, host: &str) -> Result<String> {
        let snapshot = self.known.iter().find(|one| one.id == id);
        let snapshot = snapshot.ok_or_else(|| {
            let what = format!("snapshot {id} was not there when the run began");
            Error::new(ErrorKind::NotFound, what)
        })?;
        // What cannot be listed may be held or not: one more does no harm.
        let kept = self.vault.kept_by(id, self.monitor).unwrap_or_default();
        let mut holds = kept.holds.into_iter();
        if let Some(hold) = holds.find(|hold| EncryptionAlarm::is_hold(hold)) {
            return Ok(hold);
        }
        let term = KeepTerm::Hold(alarm.hold());
        self.vault.put_keep(snapshot, term, host)?;
        Ok(alarm.hold())
    }
}

/// Whether so much was rewritten that hardly packs that a look is worth its requests.
fn is_unusual(record: &RewrittenRecord) -> bool {
    let now = record.hardly_pack;
    let share = now.saturating_mul(SHARE) >= record.blocks;
    now >= FEWEST && share && now > record.usual.saturating_mul(TIMES)
}

/// Whether at least half of it had packed well, and that is enough to be told.
fn looks_like_encryption(record: &RewrittenRecord, sample: PackedSample) -> bool {
    let PackedSample { looked, packed } = sample;
    let turned = record.hardly_pack.saturating_mul(packed);
    packed.saturating_mul(2) >= looked && turned >= FEWEST.saturating_mul(looked)
}

/// Where some of these blocks stood, picked at random, in few segments.
fn draw(parent: &Baseline, blocks: &BlockSet) -> BTreeSet<(ObjectId, u32)> {
    let mut segments = BTreeSet::new();
    let mut places = BTreeSet::new();
    for _ in 0..MOST_DRAWS {
        let block = blocks.nth(random() % blocks.len().max(1));
        let content = block.and_then(|block| parent.map().get(block));
        let Some(Content::Data { segment, slot }) = content else {
            continue;
        };
        if segments.len() < MOST_SEGMENTS || segments.contains(&segment) {
            segments.insert(segment);
            places.insert((segment, slot));
        }
        if places.len() == MOST_LOOKED {
            break;
        }
    }
    places
}

/// Looks up how these had packed, until then at most. A thread that is late is left behind: it
/// only reads.
fn packed_before(
    vault: &Arc<Vault>,
    places: BTreeSet<(ObjectId, u32)>,
    until: Instant,
) -> Result<PackedSample> {
    let (send, receive) = bounded(1);
    let vault = Arc::clone(vault);
    let look = move || {
        // Nobody may be waiting any more.
        let _ = send.send(look_up(&vault, &places, until));
    };
    let thread = std::thread::Builder::new().name("alarm".into()).spawn(look);
    thread.map_err(|error| {
        Error::new(ErrorKind::Failed, "no thread could be started").with_source(error)
    })?;
    receive.recv_deadline(until).unwrap_or_else(|_| {
        let what = format!("the vault has not answered within {PATIENCE:?}");
        Err(Error::new(ErrorKind::Failed, what))
    })
}

fn look_up(
    vault: &Vault,
    places: &BTreeSet<(ObjectId, u32)>,
    until: Instant,
) -> Result<PackedSample> {
    let in_time = || match Instant::now() < until {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Failed, "it took too long")),
    };
    let segments: BTreeSet<ObjectId> = places.iter().map(|(segment, _)| *segment).collect();
    let segments: Vec<ObjectId> = segments.into_iter().collect();
    vault.fetch_footers(&segments, &in_time)?;
    let mut sample = PackedSample::default();
    for (segment, slot) in places {
        in_time()?;
        match vault.chunk(*segment, *slot) {
            Ok(chunk) => {
                sample.looked += 1;
                sample.packed += u64::from(chunk.packs_well());
            }
            // Of one segment: the others may say enough.
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Archived) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(blocks: u64, hardly_pack: u64, usual: u64) -> RewrittenRecord {
        RewrittenRecord {
            blocks,
            hardly_pack,
            usual,
            alarm: None,
        }
    }

    #[test]
    fn what_is_little_or_usual_is_no_reason_to_look() {
        assert!(is_unusual(&record(512, 512, 0)));
        assert!(!is_unusual(&record(511, 511, 0)));
        // One in sixteen of what was rewritten.
        assert!(is_unusual(&record(8192, 512, 0)));
        assert!(!is_unusual(&record(8193, 512, 0)));
        // Three times as much as usual is not enough, one block more is.
        assert!(!is_unusual(&record(3000, 3000, 1000)));
        assert!(is_unusual(&record(3001, 3001, 1000)));
        assert!(!is_unusual(&record(u64::MAX, u64::MAX, u64::MAX)));
    }

    #[test]
    fn half_of_it_must_have_packed_and_that_must_be_enough() {
        let half = PackedSample {
            looked: 256,
            packed: 128,
        };
        assert!(looks_like_encryption(&record(1024, 1024, 0), half));
        assert!(!looks_like_encryption(&record(1023, 1023, 0), half));
        let less = PackedSample {
            looked: 256,
            packed: 127,
        };
        assert!(!looks_like_encryption(&record(1 << 20, 1 << 20, 0), less));
        let all = PackedSample {
            looked: 16,
            packed: 16,
        };
        assert!(looks_like_encryption(&record(512, 512, 0), all));
    }
}
