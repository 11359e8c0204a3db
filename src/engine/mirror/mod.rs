//! `mirror`: the same vault in a second place. What is missing there is put, newest snapshot first:
//! of each its segments, then copies of footers and index objects, and its manifest last of all, so
//! that a snapshot is there wholly or not at all, whenever this ends. Nothing is deleted, and no
//! damage is carried.

mod carry;
mod condemned;
mod lacking;
mod other_names;
mod outcome;
mod sealed;
mod source_needs;

pub use outcome::{MirrorReport, SourceDamage, WrongObject};
pub use sealed::mirror_sealed;

use crate::engine::monitor::{Event, Monitor};
use crate::engine::run_phase::RunPhase;
use crate::engine::session_record::session_record;
use crate::engine::verify::is_damage;
use crate::error::{ErrorKind, Result};
use crate::format::{FooterCopiesRef, lengths_with};
use crate::model::{Bytes, ObjectId, SnapshotId};
use crate::store::{ManifestPut, MirrorWriter, NeededSegments, SnapshotRef, StoredObject, Vault};
use crate::sys::machine::host_name;
use carry::{Carried, Carrier, CarryProgress, Load, put};
use condemned::AllNeeded;
use jiff::Timestamp;
use lacking::{Inventory, Standing, unless_damaged};
use other_names::BothPlaces;
use source_needs::{SnapshotNeeds, SourceNeeds, copies_named_by};
use std::collections::{BTreeMap, BTreeSet};

/// Most reasons that are given for one snapshot.
const MOST_REASONS: usize = 3;

/// Mirrors snapshots of `source` to `target`, a vault of the same ID.
///
/// # Errors
/// Of kind `Usage` where both are one place. What came to the target before an error is whole
/// there, and the next mirror goes on from it.
pub fn mirror(
    source: &Vault,
    target: &Vault,
    snapshots: &[SnapshotRef],
    monitor: &dyn Monitor,
) -> Result<MirrorReport> {
    // Before anything is listed: what is relied on from here on is left alone.
    let record = session_record("mirror", &host_name(), Timestamp::now());
    let writer = MirrorWriter::begin(target, source, record)?;
    // Nothing ever comes there that nobody could open.
    let warned = [target.bring_keys(source)?, target.no_locks_there()?].concat();
    let mut report = run(source, Some(target), Some(&writer), snapshots, monitor)?;
    report.warnings.splice(0..0, warned);
    Ok(report)
}

/// What [`mirror`] would do; nothing is put, and segments are not read. `target` is `None` where
/// nothing is there yet.
pub fn plan_mirror(
    source: &Vault,
    target: Option<&Vault>,
    snapshots: &[SnapshotRef],
    monitor: &dyn Monitor,
) -> Result<MirrorReport> {
    run(source, target, None, snapshots, monitor)
}

fn run(
    source: &Vault,
    target: Option<&Vault>,
    writer: Option<&MirrorWriter<'_>>,
    snapshots: &[SnapshotRef],
    monitor: &dyn Monitor,
) -> Result<MirrorReport> {
    let needs = SourceNeeds::read(source, snapshots, monitor)?;
    monitor.tell(Event::Phase(RunPhase::ListingPlaces));
    let mut inventory = Inventory::list(source, target, &needs, monitor)?;
    let others = target.map(|target| {
        let both = BothPlaces {
            target,
            needs: &needs,
            inventory: &inventory,
            monitor,
        };
        both.there_under_others()
    });
    let others = others.transpose()?.unwrap_or_default();
    let progress = CarryProgress::of(inventory.bytes_to_put());
    let mut run = MirrorRun {
        source,
        target,
        writer,
        monitor,
        report: MirrorReport {
            snapshots: needs.snapshots.len(),
            gone: needs.gone.clone(),
            warnings: std::mem::take(&mut inventory.warnings),
            ..MirrorReport::default()
        },
        needs: &needs,
        inventory,
        progress,
        others,
        lost: BTreeMap::new(),
        looked_at: BTreeSet::new(),
        told: BTreeSet::new(),
    };
    for one in &needs.snapshots {
        if let Err(error) = run.snapshot(one) {
            // What was put right is no longer damaged, however this ends.
            run.forget_healed();
            return Err(match (writer.is_some(), run.report.sent.len()) {
                (false, _) | (_, 0) => error,
                (_, 1) => error.and_said("1 snapshot had come to the second place before"),
                (_, sent) => error.and_said(format!(
                    "{sent} snapshots had come to the second place before"
                )),
            });
        }
    }
    run.forget_healed();
    Ok(run.report)
}

/// A mirror at work.
struct MirrorRun<'a> {
    source: &'a Vault,
    target: Option<&'a Vault>,
    /// `None`: nothing is put, and counted only.
    writer: Option<&'a MirrorWriter<'a>>,
    monitor: &'a dyn Monitor,
    needs: &'a SourceNeeds,
    inventory: Inventory<'a>,
    progress: CarryProgress,
    report: MirrorReport,
    /// Those that are in the second place under other names.
    others: BTreeSet<SnapshotId>,
    /// Segments that the source has lost, and why.
    lost: BTreeMap<ObjectId, String>,
    /// Objects of copies of footers that were looked at.
    looked_at: BTreeSet<FooterCopiesRef>,
    /// What was told to be wrong in the second place.
    told: BTreeSet<String>,
}

impl MirrorRun<'_> {
    fn forget_healed(&mut self) {
        if let (Some(target), true) = (self.target, self.writer.is_some())
            && let Err(error) = self.inventory.forget_healed(target)
        {
            let what = format!("what was put right there is still noted as damaged: {error}");
            self.report.warnings.push(what);
        }
    }

    fn snapshot(&mut self, one: &SnapshotNeeds) -> Result<()> {
        self.monitor.check()?;
        let there = !matches!(self.inventory.of_manifest(&one.snapshot), Standing::Missing);
        if let Some(what) = &one.damage {
            return self.damaged(one, what.clone(), there);
        }
        if self.is_whole(one) || self.others.contains(&one.snapshot.id) {
            self.report.there += 1;
            return Ok(());
        }
        let phase = RunPhase::Mirroring(one.snapshot.id);
        self.monitor.tell(Event::Phase(phase));
        let read = self.source.stored_manifest(&one.snapshot);
        let required = read.and_then(|(object, manifest)| {
            let required = self.source.segments_required_by(&manifest, self.monitor);
            required.map(|required| (object, required, copies_named_by(&manifest)))
        });
        let (object, required, copies) = match required {
            Ok(both) => both,
            Err(error) if is_damage(&error) => return self.damaged(one, error.to_string(), there),
            Err(error) => return Err(error),
        };
        let needs = AllNeeded {
            indexes: &one.indexes,
            segments: &required,
            copies: &copies,
        };
        let writes_to = self.target.filter(|_| self.writer.is_some());
        if writes_to.is_some_and(|target| needs.are_condemned(target)) {
            self.report
                .warnings
                .push(condemned::in_words(one.snapshot.id));
            return Ok(());
        }
        let lost = self.segments(&required, there)?;
        let reasons: Vec<&str> = lost.values().map(String::as_str).collect();
        let reasons = reasons.get(..MOST_REASONS).unwrap_or(&reasons).join("; ");
        let is_right = lost.is_empty() || (there && self.has_right(&lost, &required)?);
        if !is_right {
            return self.damaged(one, reasons, false);
        }
        for copies in copies {
            self.copies(copies)?;
        }
        for id in &one.indexes {
            if let Some(what) = self.index(*id, there)? {
                return self.damaged(one, what, false);
            }
        }
        self.manifest(one, &object)?;
        match lost.is_empty() {
            true => Ok(()),
            // The second place has what the source has lost, and all else by now.
            false => self.damaged(one, reasons, true),
        }
    }

    /// Whether all that a snapshot names is in the second place.
    fn is_whole(&self, one: &SnapshotNeeds) -> bool {
        let is_there = |standing| matches!(standing, Standing::There);
        is_there(self.inventory.of_manifest(&one.snapshot))
            && (one.indexes.iter()).all(|id| is_there(self.inventory.of_index(*id)))
            && (self.needs.named_by(one)).all(|id| is_there(self.inventory.of_segment(id)))
    }

    /// Puts the segments that are not there; returns why some cannot be had. `there`: a snapshot in
    /// the second place needs them already.
    fn segments(
        &mut self,
        required: &NeededSegments,
        there: bool,
    ) -> Result<BTreeMap<ObjectId, String>> {
        let mut lost = BTreeMap::new();
        let mut loads = Vec::new();
        let mut wrong = BTreeMap::new();
        for (&segment, &slots) in required {
            let replaces = match self.inventory.of_segment(segment) {
                Standing::There => continue,
                Standing::Missing if there => {
                    // A listing may be older than what it lacks.
                    if let Some(target) = self.target
                        && let Some(length) = target.size_of_segment(segment)?
                        && self.inventory.length_of_segment(segment)? == Some(length)
                    {
                        self.inventory.found_segment(segment, length);
                        continue;
                    }
                    wrong.insert(segment, missing_there());
                    false
                }
                Standing::Missing => false,
                Standing::Wrong(what) => {
                    wrong.insert(segment, what);
                    true
                }
            };
            match self.lost.get(&segment) {
                Some(what) => drop(lost.insert(segment, what.clone())),
                None => loads.push(Load {
                    segment,
                    slots,
                    replaces,
                }),
            }
        }
        for carried in self.carry(&loads)? {
            match carried {
                Carried::Put(id, length) => {
                    self.count(length);
                    self.inventory.put_segment(id, length);
                    if let Some(what) = wrong.remove(&id) {
                        self.wrong(format!("segment {id}"), what, true);
                    }
                }
                Carried::Damaged(id, what) => {
                    lost.insert(id, what.clone());
                    self.lost.insert(id, what);
                }
            }
        }
        Ok(lost)
    }

    /// Whether the second place has segments that the source has lost: these are read there. Those
    /// that are wrong there, too, are noted.
    fn has_right(
        &mut self,
        lost: &BTreeMap<ObjectId, String>,
        required: &NeededSegments,
    ) -> Result<bool> {
        let Some(target) = self.target else {
            return Ok(false);
        };
        let mut all = true;
        for id in lost.keys() {
            self.monitor.check()?;
            let slots = required.get(id).copied().unwrap_or_default();
            match target.stored_segment(*id, slots) {
                Ok(_) => {}
                Err(error) if is_damage(&error) => {
                    all = false;
                    self.wrong(format!("segment {id}"), error.to_string(), false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    fn carry(&self, loads: &[Load]) -> Result<Vec<Carried>> {
        if let Some(writer) = self.writer {
            let carrier = Carrier {
                source: self.source,
                writer,
                monitor: self.monitor,
                progress: &self.progress,
            };
            return carrier.carry(loads);
        }
        let would = |load: &Load| {
            let id = load.segment;
            let length = self.inventory.length_of_segment(id)?;
            Ok(match length {
                Some(length) => Carried::Put(id, length),
                None => Carried::Damaged(id, format!("segment {id} is not in the vault")),
            })
        };
        loads.iter().map(would).collect()
    }

    /// Puts copies of footers that are not there. Those that the source has not, or not whole, are
    /// no loss: whoever reads does without.
    fn copies(&mut self, copies: FooterCopiesRef) -> Result<()> {
        self.monitor.check()?;
        if !self.looked_at.insert(copies) {
            return Ok(());
        }
        let there = self.target.map(|target| target.size_of_copies(copies));
        let there = there.transpose()?.flatten();
        if there == Some(copies.bytes) {
            return Ok(());
        }
        let length = match self.writer {
            None => self.source.size_of_copies(copies)?,
            Some(writer) => match self.source.stored_copies(copies) {
                Ok(object) => {
                    match there {
                        Some(_) => writer.replace(&object)?,
                        None => writer.put(&object)?,
                    }
                    Some(object.length())
                }
                Err(error) if is_damage(&error) => None,
                Err(error) => return Err(error),
            },
        };
        length.into_iter().for_each(|length| self.count(length));
        Ok(())
    }

    /// Puts an index object where it is not there; returns why it cannot be had.
    fn index(&mut self, id: ObjectId, there: bool) -> Result<Option<String>> {
        let standing = self.inventory.of_index(id);
        if let (Standing::Missing, true, Some(target)) = (&standing, there, self.target)
            && let Some(length) = target.size_of_index(id)?
            && length == self.inventory.length_of_index(id)
        {
            self.inventory.has_index(id, length);
            return Ok(None);
        }
        let length = match (&standing, self.writer) {
            (Standing::There, _) => return Ok(None),
            (_, None) => self.inventory.length_of_index(id),
            (standing, Some(writer)) => {
                let object = match self.source.stored_index(id) {
                    Ok(object) => object,
                    Err(error) if is_damage(&error) => return Ok(Some(error.to_string())),
                    Err(error) => return Err(error),
                };
                put(writer, &object, standing)?;
                object.length()
            }
        };
        self.count(length);
        self.inventory.has_index(id, length);
        match standing {
            Standing::Wrong(what) => self.wrong(format!("index {id}"), what, true),
            Standing::Missing if there => self.wrong(format!("index {id}"), missing_there(), true),
            _ => {}
        }
        Ok(None)
    }

    /// Makes the snapshot exist in the second place.
    fn manifest(&mut self, one: &SnapshotNeeds, object: &StoredObject) -> Result<()> {
        self.monitor.check()?;
        let id = one.snapshot.id;
        let standing = self.inventory.of_manifest(&one.snapshot);
        if let Standing::Wrong(what) = &standing {
            let name = format!("the manifest of {id}");
            // A manifest is not named by its contents: of two that are whole neither is the right
            // one.
            let other = self.target.map(|target| target.manifest(&one.snapshot));
            let left = match other.transpose() {
                Ok(_) => "both are whole".into(),
                Err(error) if error.kind() == ErrorKind::Format => error.to_string(),
                Err(error) if is_damage(&error) => String::new(),
                Err(error) => return Err(error),
            };
            if !left.is_empty() {
                let what = format!("{what}, and {left}: it was left as it is");
                self.wrong(name, what, false);
                return Ok(());
            }
            self.wrong(name, what.clone(), true);
        }
        if matches!(standing, Standing::There) {
            self.report.there += 1;
            return Ok(());
        }
        if let Some(writer) = self.writer {
            let how = ManifestPut {
                replaces: matches!(standing, Standing::Wrong(_)),
                ..ManifestPut::default()
            };
            writer.put_manifest(object, how)?;
        }
        self.count(object.length());
        self.report.sent.push(id);
        Ok(())
    }

    fn count(&mut self, length: u64) {
        self.report.objects += 1;
        self.report.bytes += Bytes(length);
    }

    fn wrong(&mut self, object: String, what: String, replaced: bool) {
        if !self.told.insert(object.clone()) {
            return;
        }
        self.report.wrong.push(WrongObject {
            object,
            what,
            replaced: replaced && self.writer.is_some(),
        });
    }

    /// Notes that a snapshot is damaged in the source, unless it was deleted there meanwhile.
    /// `there`: it may be whole in the second place, which is asked.
    fn damaged(&mut self, one: &SnapshotNeeds, what: String, there: bool) -> Result<()> {
        let snapshot: SnapshotId = one.snapshot.id;
        if !self.source.has_snapshot(&one.snapshot)? {
            self.report.gone.push(snapshot);
            return Ok(());
        }
        let there = match self.target.filter(|_| there) {
            Some(target) => self.has_whole(target, one)?,
            None => false,
        };
        self.report.damaged.push(SourceDamage {
            snapshot,
            what,
            there,
        });
        Ok(())
    }

    /// Whether a snapshot can be read in the second place: its manifest and index objects are read
    /// there, and so are the segments of which something is known to be wrong.
    fn has_whole(&self, target: &Vault, one: &SnapshotNeeds) -> Result<bool> {
        let read = target.manifest(&one.snapshot);
        let required =
            read.and_then(|manifest| target.segments_required_by(&manifest, self.monitor));
        let Some(required) = unless_damaged(required)? else {
            return Ok(false);
        };
        let sizes = target.segment_sizes(&required.keys().copied().collect(), self.monitor)?;
        for (&id, &slots) in &required {
            self.monitor.check()?;
            let holds = match sizes.get(&id) {
                // A listing may be older than what it lacks.
                None => target.size_of_segment(id)?,
                length => length.copied(),
            };
            let suspect = self.inventory.is_noted(id)
                || matches!(self.inventory.of_segment(id), Standing::Wrong(_));
            if !holds.is_some_and(|length| lengths_with(slots).contains(&length))
                || (suspect && unless_damaged(target.stored_segment(id, slots))?.is_none())
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn missing_there() -> String {
    "it was missing there, and a snapshot needs it".into()
}
