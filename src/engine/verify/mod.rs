//! `verify`: whether what a vault holds is whole, in three depths, and what is lost if not.

mod against_disk;
mod damaged_segments;
mod look;
mod lost_parts;
mod lost_places;
mod may_lack;
mod needed_slots;
mod read_segments;
mod sample;
mod verify_report;

pub use against_disk::{DiskComparison, Parts, compare_with_disks};
pub use damaged_segments::Noted;
pub use lost_parts::{LostMount, LostPart};
pub use may_lack::{FreeTrace, MayLack, may_lack, may_lack_of_all};
pub use sample::{Coverage, Remembered};
pub use verify_report::{Broken, VerifyReport};

use crate::engine::monitor::Monitor;
use crate::error::Result;
use crate::format::{FooterCopiesRef, SampleMemory};
use crate::model::ObjectId;
use crate::store::{KnownDamage, SnapshotRef, Vault};
pub(super) use damaged_segments::is_damage;
use damaged_segments::{DamagedSegments, VerifiedSegments, note_damage};
use jiff::Timestamp;
use look::Look;
use lost_places::LostPlaces;
use needed_slots::{Segments, SomeSegments};
use read_segments::{ReadSegments, read_segments};
use sample::{Choice, Sampled, Sampling};
use std::collections::BTreeSet;
pub(super) use verify_report::BrokenObjects;

/// What to verify.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// How much is read.
    pub depth: VerifyDepth,
    /// How many threads.
    pub workers: usize,
}

/// How much is read of the segments. Manifests, index objects and copies of footers are read
/// always.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum VerifyDepth {
    /// Their ends: all is there, with its length, and fits together.
    Fast,
    /// So many percent of them whole, those that samples have not read for longest; of the others
    /// the ends.
    Sample(f64),
    /// All of them, every byte.
    Full,
}

/// Verifies snapshots: every index, that every run stands in a segment, and as much of the segments
/// as was asked for. What is found damaged is noted in the vault, and so is what a sample has read.
pub fn verify(
    vault: &Vault,
    snapshots: &[SnapshotRef],
    options: &VerifyOptions,
    monitor: &dyn Monitor,
) -> Result<VerifyReport> {
    let VerifyOptions { depth, workers } = *options;
    let keys = vault.check_keys()?;
    let survey = |reads| Survey {
        vault,
        snapshots,
        reads,
        workers,
        notes: true,
    };
    match depth {
        VerifyDepth::Full => survey(Reads::All).look(monitor),
        VerifyDepth::Fast => survey(Reads::Ends).look(monitor),
        VerifyDepth::Sample(percent) => {
            let now = Timestamp::now();
            let samples = vault.known_samples(now)?;
            let reads = Reads::Sample(percent, &samples.memory);
            let found = survey(reads).look(monitor)?;
            let sampled = Sampled {
                known: samples,
                whole: found.whole,
                needed: &found.needed,
                complete: found.complete,
            };
            let mut report = found.report;
            report.coverage = Some(sampled.remember(vault, now));
            report.keys = keys;
            return Ok(report);
        }
    }
    .map(|found| VerifyReport {
        keys,
        ..found.report
    })
}

/// Which segments are read whole; of the others the ends are looked at.
#[derive(Clone, Copy)]
pub(super) enum Reads<'a> {
    /// None.
    Ends,
    /// Those that are suspected, and those that were noted as damaged.
    Suspects(&'a Suspects),
    /// So many percent, by what samples remember, and those that were noted as damaged.
    Sample(f64, &'a SampleMemory),
    /// All.
    All,
}

/// Segments that may be damaged though nobody has noted it.
#[derive(Default)]
pub(super) struct Suspects {
    /// Something was wrong with these.
    pub(super) wrong: BTreeSet<ObjectId>,
    /// All but these: no earlier look has known of them. `None`: there was no earlier look.
    pub(super) unknown_but: Option<BTreeSet<ObjectId>>,
}

/// A look at snapshots.
pub(super) struct Survey<'a> {
    pub(super) vault: &'a Vault,
    pub(super) snapshots: &'a [SnapshotRef],
    pub(super) reads: Reads<'a>,
    /// How many threads.
    pub(super) workers: usize,
    /// Whether damage is noted in the vault.
    pub(super) notes: bool,
}

/// What was found.
pub(super) struct Surveyed {
    pub(super) report: VerifyReport,
    /// What is wrong, by object.
    pub(super) objects: BrokenObjects,
    /// All objects of copies of footers.
    pub(super) copies: Vec<FooterCopiesRef>,
    /// Segments that are needed.
    pub(super) needed: BTreeSet<ObjectId>,
    /// Segments that were read and are whole.
    whole: Vec<ObjectId>,
    /// No snapshot needs any other segment than those that are known of.
    complete: bool,
}

impl Survey<'_> {
    /// Reads what is to be read, looks at the ends of the rest, says what is lost, and notes it.
    pub(super) fn look(&self, monitor: &dyn Monitor) -> Result<Surveyed> {
        let known = self.vault.known_damage()?;
        let mut look = Look::new(self.vault, monitor);
        for (snapshot, manifest) in self.vault.manifests(self.snapshots.to_vec()) {
            look.snapshot(&snapshot, manifest)?;
        }
        let segments = std::mem::take(&mut look.segments);
        let needed = segments.keys().copied().collect();
        let choice = self.choose(segments, &known);
        let copies = look.copies.iter().copied().collect();
        let read = match choice.read.is_empty() {
            true => ReadSegments::default(),
            false => read_segments(self.vault, &choice.read, self.workers, monitor)?,
        };
        look.objects.segments.extend(read.bad);
        look.look_at_ends(&choice.unread)?;
        let objects = std::mem::take(&mut look.objects);
        let bad = &objects.segments;
        let noted = |id: ObjectId| known.damage.names(id) && !bad.contains_key(&id);
        let mut report = VerifyReport {
            snapshots: look.snapshots,
            segments: choice.read.len(),
            unread: choice.unread.len(),
            bytes: read.bytes,
            broken: look.broken,
            harmless: objects.copies.values().cloned().collect(),
            dedup: Some(look.dedup),
            noted_before: choice.unread.iter().filter(|(id, _)| noted(*id)).count(),
            ..VerifyReport::default()
        };
        let all = self.judge(&mut report, &objects, &choice, known, monitor)?;
        let ids = choice.read.iter().map(|(id, _)| *id);
        Ok(Surveyed {
            report,
            whole: ids.filter(|id| !bad.contains_key(id)).collect(),
            complete: all && objects.indexes.is_empty() && objects.manifests.is_empty(),
            needed,
            copies,
            objects,
        })
    }

    fn choose(&self, segments: Segments, known: &KnownDamage) -> Choice {
        let (nothing, memory) = (SomeSegments::new(), SampleMemory::default());
        let sampling = |percent, memory, suspects| Sampling {
            percent,
            memory,
            suspects,
        };
        match self.reads {
            Reads::All => Choice {
                read: segments.into_iter().collect(),
                unread: nothing,
            },
            Reads::Ends => Choice {
                read: nothing,
                unread: segments.into_iter().collect(),
            },
            Reads::Suspects(more) => {
                let mut suspects = known.damage.segments();
                suspects.extend(&more.wrong);
                if let Some(known) = &more.unknown_but {
                    suspects.extend(segments.keys().filter(|id| !known.contains(id)));
                }
                sampling(0.0, &memory, &suspects).choose(segments)
            }
            Reads::Sample(percent, memory) => {
                sampling(percent, memory, &known.damage.segments()).choose(segments)
            }
        }
    }

    /// Says what snapshots have lost, and notes it. Returns whether these are all snapshots.
    fn judge(
        &self,
        report: &mut VerifyReport,
        objects: &BrokenObjects,
        choice: &Choice,
        known: KnownDamage,
        monitor: &dyn Monitor,
    ) -> Result<bool> {
        let vault = self.vault;
        let damaged = DamagedSegments::find(vault, objects.segments.clone(), monitor)?;
        if !damaged.is_empty() {
            let mut lost = LostPlaces::new(&damaged, vault, monitor, report);
            for (snapshot, manifest) in vault.manifests(self.snapshots.to_vec()) {
                // One that cannot be read has been reported already.
                if let Ok(manifest) = manifest {
                    lost.snapshot(snapshot.id, &manifest)?;
                }
            }
            lost.name_harmless();
        }
        if !self.notes {
            if let Some(error) = known.unreadable {
                report.noted = Noted::Failed(error);
            }
            return Ok(false);
        }
        let now = vault.snapshots();
        let all = now.as_ref().is_ok_and(|now| *now == self.snapshots);
        // What was found is reported, whatever becomes of the note.
        report.noted = match now {
            Err(error) => Noted::Failed(error),
            Ok(_) => note_damage(
                vault,
                VerifiedSegments {
                    read: &choice.read.iter().map(|(id, _)| *id).collect(),
                    damaged: &damaged,
                    complete: report.unread == 0 && all,
                    known,
                },
            ),
        };
        Ok(all)
    }
}
