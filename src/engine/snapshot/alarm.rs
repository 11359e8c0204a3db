//! An alarm from what a run knows anyway: much of the disk was rewritten in place, packed before
//! and hardly packs now. It must never fail a run, hold it up for longer than a while, or ask the
//! vault for anything on a day like others.

use super::captured_disk::CapturedDisk;
use super::rewritten::Rewritten;
use crate::capture::Baseline;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::newest_good::is_held;
use crate::engine::random::random;
use crate::engine::snapshot_options::SnapshotOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Compression, EncryptionAlarm, RewrittenRecord};
use crate::model::{BlockSet, Bytes, Content, ObjectId, SnapshotId};
use crate::store::{KeepTerm, SnapshotRef, Vault};
use crate::sys::machine::host_name;
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fewer blocks than this are never told: 32 MiB.
const FEWEST: u64 = 512;
/// So many are told where they are a quarter of what hardly packs: 512 MiB.
const MUCH: u64 = 8192;
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
/// How long a run waits for the vault, of all disks together.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is asked meanwhile whether somebody stops it.
const TICK: Duration = Duration::from_millis(50);
/// What is told, in a word.
const ALARM: &str = "ENCRYPTION AT WORK";

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

    /// Notes for each disk what was rewritten, tells what looks like encryption, and holds the last
    /// snapshot before.
    pub(super) fn look(&self, disks: &mut [CapturedDisk]) {
        if self.vault.info().compression == Compression::None {
            // Nothing ever packs there.
            return;
        }
        let until = Instant::now() + PATIENCE;
        for disk in disks {
            disk.rewritten = Rewritten::of(disk, self.run).map(|found| match self.is_on {
                true => self.judge(&disk.identity.name, &found, until),
                // Who does not want it has no alarm any more.
                false => RewrittenRecord {
                    alarm: None,
                    ..found.record
                },
            });
        }
    }

    fn judge(&self, disk: &str, found: &Rewritten<'_>, until: Instant) -> RewrittenRecord {
        let mut record = found.record;
        if !record.unknown && is_unusual(&record) {
            match self.look_closer(found, until) {
                Ok(sample) if looks_like_encryption(&record, sample) => {
                    record.alarm = Some(self.raise(disk, found, sample, until));
                    return record;
                }
                Ok(_) => {}
                Err(why) => {
                    record.unknown = true;
                    self.warn(format!(
                        "{disk}: {} were rewritten in place since {} and hardly pack now, which is \
                         unusual for it; how they had packed could not be looked up ({why}), so \
                         whether this is encryption at work is not known: see `stillpoint help \
                         alarm`",
                        Bytes::of_blocks(record.hardly_pack),
                        found.since,
                    ));
                }
            }
        }
        // What could not be held then may be now, or somebody else has held it.
        if let Some(alarm) = record.alarm.as_mut().filter(|alarm| !alarm.held) {
            alarm.held = self.hold(alarm, until).is_ok();
        }
        record
    }

    /// Looks up how blocks had packed in the parent.
    fn look_closer(&self, found: &Rewritten<'_>, until: Instant) -> Result<PackedSample> {
        let places = draw(found.parent, &found.hardly_pack);
        let vault = Arc::clone(self.vault);
        let sample = self.wait_for(until, move || look_up(&vault, &places, until))?;
        match sample.looked < FEWEST_LOOKED {
            true => Err(Error::new(ErrorKind::Failed, "too few of them could be")),
            false => Ok(sample),
        }
    }

    /// Holds the last snapshot before, and tells.
    fn raise(
        &self,
        disk: &str,
        found: &Rewritten<'_>,
        sample: PackedSample,
        until: Instant,
    ) -> EncryptionAlarm {
        let PackedSample { looked, packed } = sample;
        let clean = self.clean(found, until);
        let alarm = EncryptionAlarm {
            told: self.run,
            clean,
            looked,
            packed,
            held: false,
        };
        self.warn(format!(
            "{disk}: this looks like {ALARM}: {} were rewritten in place since {} and hardly pack \
             now, and of {looked} blocks looked up {packed} had packed well; usual for it are {} \
             at most. The last snapshot before is {clean}. If nobody has encrypted or packed this \
             data on purpose, stop the machine; see `stillpoint help alarm`",
            Bytes::of_blocks(found.record.hardly_pack),
            found.since,
            Bytes::of_blocks(found.record.usual),
        ));
        let held = self.hold(&alarm, until);
        self.warn(match &held {
            Ok(hold) => format!(
                "{disk}: {clean}, the last snapshot before what looks like {ALARM}, is held, so \
                 neither prune nor delete takes it; when nobody needs it: stillpoint keep {clean} \
                 --release {hold}"
            ),
            Err(error) => format!(
                "{disk}: {clean}, the last snapshot before what looks like {ALARM}, COULD NOT BE \
                 HELD: {error}; from where that is allowed: stillpoint keep {clean} --hold {}",
                alarm.hold()
            ),
        });
        EncryptionAlarm {
            held: held.is_ok(),
            ..alarm
        }
    }

    /// The last snapshot before: that of an earlier alarm, until somebody has released it. The
    /// parent says what it likes, so the vault must have that one.
    fn clean(&self, found: &Rewritten<'_>, until: Instant) -> SnapshotId {
        let before = found.record.alarm.filter(|alarm| alarm.clean < found.since);
        let is_known = |id: SnapshotId| self.known.iter().any(|one| one.id == id);
        let stands = |alarm: &EncryptionAlarm| {
            is_known(alarm.clean) && (!alarm.held || self.is_held(alarm.clean, until))
        };
        before
            .filter(stands)
            .map_or(found.since, |alarm| alarm.clean)
    }

    /// Whether a snapshot is held by an alarm; where nobody can say, it is.
    fn is_held(&self, id: SnapshotId, until: Instant) -> bool {
        let vault = Arc::clone(self.vault);
        let kept = self.wait_for(until, move || vault.kept_by(id, &|| in_time(until)));
        kept.map_or(true, |kept| is_held(&kept))
    }

    /// Has the clean snapshot held, unless an alarm holds it already; returns the hold's name.
    fn hold(&self, alarm: &EncryptionAlarm, until: Instant) -> Result<String> {
        let id = alarm.clean;
        let snapshot = self.known.iter().find(|one| one.id == id).cloned();
        let snapshot = snapshot.ok_or_else(|| {
            let what = format!("snapshot {id} was not there when the run began");
            Error::new(ErrorKind::NotFound, what)
        })?;
        let (vault, name) = (Arc::clone(self.vault), alarm.hold());
        self.wait_for(until, move || {
            // What cannot be listed may be held or not: one more does no harm.
            let kept = vault.kept_by(id, &|| in_time(until)).unwrap_or_default();
            let mut holds = kept.holds.into_iter();
            if let Some(hold) = holds.find(|hold| EncryptionAlarm::is_hold(hold)) {
                return Ok(hold);
            }
            vault.put_keep(&snapshot, KeepTerm::Hold(name.clone()), &host_name())?;
            Ok(name)
        })
    }

    /// What a thread finds out, until then at most, or until somebody stops the run. One that is
    /// late is left behind.
    fn wait_for<T: Send + 'static>(
        &self,
        until: Instant,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (send, receive) = bounded(1);
        let work = move || {
            // Nobody may be waiting any more.
            let _ = send.send(work());
        };
        let thread = std::thread::Builder::new().name("alarm".into()).spawn(work);
        thread.map_err(|error| {
            Error::new(ErrorKind::Failed, "no thread could be started").with_source(error)
        })?;
        loop {
            match receive.recv_timeout(TICK) {
                Ok(found) => return found,
                Err(RecvTimeoutError::Timeout) => in_time(until)?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(ErrorKind::Failed, "a thread ended early"));
                }
            }
            self.monitor.check()?;
        }
    }

    fn warn(&self, warning: String) {
        self.monitor.tell(Event::Warning(warning));
    }
}

/// Whether a warning is of an alarm: these go before all others.
pub(super) fn is_alarm(warning: &str) -> bool {
    warning.contains(ALARM)
}

fn in_time(until: Instant) -> Result<()> {
    match Instant::now() < until {
        true => Ok(()),
        false => {
            let what = format!("the vault has not answered within {PATIENCE:?}");
            Err(Error::new(ErrorKind::Failed, what))
        }
    }
}

/// Whether so much was rewritten that hardly packs that a look is worth its requests.
fn is_unusual(record: &RewrittenRecord) -> bool {
    let now = record.hardly_pack;
    let share = now.saturating_mul(SHARE) >= record.blocks;
    now >= FEWEST && share && now > record.usual.saturating_mul(TIMES)
}

/// Whether at least half of it had packed well, and that is enough to be told; of much a quarter.
fn looks_like_encryption(record: &RewrittenRecord, sample: PackedSample) -> bool {
    let PackedSample { looked, packed } = sample;
    let turned = record.hardly_pack.saturating_mul(packed);
    let are = |blocks: u64| turned >= blocks.saturating_mul(looked);
    let half = packed.saturating_mul(2) >= looked;
    let quarter = packed.saturating_mul(4) >= looked;
    (half && are(FEWEST)) || (quarter && are(MUCH))
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

fn look_up(
    vault: &Vault,
    places: &BTreeSet<(ObjectId, u32)>,
    until: Instant,
) -> Result<PackedSample> {
    let segments: BTreeSet<ObjectId> = places.iter().map(|(segment, _)| *segment).collect();
    let segments: Vec<ObjectId> = segments.into_iter().collect();
    vault.fetch_footers(&segments, &|| in_time(until))?;
    let mut sample = PackedSample::default();
    for (segment, slot) in places {
        in_time(until)?;
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
            ..RewrittenRecord::default()
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
        assert!(!looks_like_encryption(&record(4096, 4096, 0), less));
        let quarter = PackedSample {
            looked: 256,
            packed: 64,
        };
        assert!(looks_like_encryption(&record(32768, 32768, 0), quarter));
        assert!(!looks_like_encryption(&record(32767, 32767, 0), quarter));
        let fewer = PackedSample {
            looked: 256,
            packed: 63,
        };
        assert!(!looks_like_encryption(&record(1 << 20, 1 << 20, 0), fewer));
        let all = PackedSample {
            looked: 16,
            packed: 16,
        };
        assert!(looks_like_encryption(&record(512, 512, 0), all));
    }
}
