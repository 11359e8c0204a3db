//! `verify`: whether what a vault holds is whole, in three depths, and what is lost if not.

mod against_disk;
mod damaged_segments;
mod look;
mod lost_places;
mod may_lack;
mod needed_slots;
mod read_segments;
mod sample;
mod verify_report;

pub use against_disk::{DiskComparison, Parts, compare_with_disks};
pub use damaged_segments::Noted;
pub use may_lack::{FreeTrace, MayLack, may_lack, may_lack_of_all};
pub use sample::{Coverage, Remembered};
pub use verify_report::{Broken, VerifyReport};

use crate::engine::monitor::Monitor;
use crate::error::Result;
use crate::model::ObjectId;
use crate::store::{KnownDamage, KnownSamples, SnapshotRef, Vault};
pub(super) use damaged_segments::is_damage;
use damaged_segments::{DamagedSegments, VerifiedSegments, note_damage};
use jiff::Timestamp;
use look::Look;
use lost_places::LostPlaces;
use needed_slots::SomeSegments;
use read_segments::{ReadSegments, read_segments};
use sample::{Choice, Sampled, Sampling};
use std::collections::BTreeSet;
use verify_report::BrokenObjects;

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
    let known = vault.known_damage()?;
    let mut look = Look::new(vault, monitor);
    for (snapshot, manifest) in vault.manifests(snapshots.to_vec()) {
        look.snapshot(&snapshot, manifest)?;
    }
    let now = Timestamp::now();
    let samples = match options.depth {
        VerifyDepth::Sample(_) => vault.known_samples(now)?,
        VerifyDepth::Fast | VerifyDepth::Full => KnownSamples::default(),
    };
    let segments = std::mem::take(&mut look.segments);
    let needed: BTreeSet<ObjectId> = segments.keys().copied().collect();
    let choice = match options.depth {
        VerifyDepth::Full => Choice {
            read: segments.into_iter().collect(),
            unread: SomeSegments::new(),
        },
        VerifyDepth::Fast => Choice {
            read: SomeSegments::new(),
            unread: segments.into_iter().collect(),
        },
        VerifyDepth::Sample(percent) => {
            let sampling = Sampling {
                percent,
                memory: &samples.memory,
                damaged: &known.damage,
            };
            sampling.choose(segments)
        }
    };
    let mut found = judge(look, &choice, known, snapshots, options.workers)?;
    if matches!(options.depth, VerifyDepth::Sample(_)) {
        let sampled = Sampled {
            known: samples,
            whole: found.whole,
            needed: &needed,
            complete: found.complete,
        };
        found.report.coverage = Some(sampled.remember(vault, now));
    }
    Ok(found.report)
}

/// What was judged.
pub(super) struct Judged {
    pub(super) report: VerifyReport,
    /// What is wrong, by object.
    pub(super) objects: BrokenObjects,
    /// Segments that were read and are whole.
    pub(super) whole: Vec<ObjectId>,
    /// No snapshot needs any other segment than those that are known of.
    pub(super) complete: bool,
}

/// Reads what was chosen, looks at the ends of the rest, says what is lost, and notes it.
fn judge(
    mut look: Look<'_>,
    choice: &Choice,
    known: KnownDamage,
    snapshots: &[SnapshotRef],
    workers: usize,
) -> Result<Judged> {
    let (vault, monitor) = (look.vault, look.monitor);
    let read = match choice.read.is_empty() {
        true => ReadSegments::default(),
        false => read_segments(vault, &choice.read, workers, monitor)?,
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
        noted_before: choice.unread.iter().filter(|(id, _)| noted(*id)).count(),
        ..VerifyReport::default()
    };
    let ids = choice.read.iter().map(|(id, _)| *id);
    let whole = ids.clone().filter(|id| !bad.contains_key(id)).collect();
    let damaged = DamagedSegments::find(vault, bad.clone(), monitor)?;
    if !damaged.is_empty() {
        let mut lost = LostPlaces::new(&damaged, vault, monitor, &mut report);
        for (snapshot, manifest) in vault.manifests(snapshots.to_vec()) {
            // One that cannot be read has been reported already.
            if let Ok(manifest) = manifest {
                lost.snapshot(snapshot.id, &manifest)?;
            }
        }
        lost.name_harmless();
    }
    let now = vault.snapshots();
    let all = now.as_ref().is_ok_and(|now| *now == snapshots);
    // What was found is reported, whatever becomes of the note.
    report.noted = match now {
        Err(error) => Noted::Failed(error),
        Ok(_) => note_damage(
            vault,
            VerifiedSegments {
                read: &ids.collect(),
                damaged: &damaged,
                complete: report.unread == 0 && all,
                known,
            },
        ),
    };
    let complete = all && objects.indexes.is_empty() && objects.manifests.is_empty();
    Ok(Judged {
        report,
        objects,
        whole,
        complete,
    })
}
