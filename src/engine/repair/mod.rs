//! `repair`: what has rotted in a vault is made anew from what is left of it, or comes from the
//! second place; what is lost is noted, so that the next run of each host stores it again. Nothing
//! is deleted, and nothing put that was not checked. Killed at any moment it leaves a vault that is
//! no worse, and goes on when it is run again.

mod plan;

pub use plan::{Remedy, RepairDeed, RepairedObject, Unrepaired};

use crate::engine::monitor::{Event, Monitor};
use crate::engine::run_phase::RunPhase;
use crate::engine::session_record::session_record;
use crate::engine::verify::{Reads, Survey, Surveyed, Suspects, VerifyReport, is_damage};
use crate::error::{Error, ErrorKind, Result};
use crate::format::FooterCopiesRef;
use crate::store::{MirrorWriter, StoredObject, Vault};
use crate::sys::machine::host_name;
use jiff::Timestamp;
use plan::{RepairPlan, RepairSources};
use std::collections::BTreeSet;

/// Most times that the vault is looked at again: what was put right may show what else is wrong.
const MOST_ROUNDS: usize = 4;

/// How to repair.
#[derive(Clone, Copy, Debug)]
pub struct RepairOptions {
    /// Read all segments first. Else those are read that `verify` has noted, and of the others the
    /// ends.
    pub read_all: bool,
    /// How many threads.
    pub workers: usize,
}

/// What a repair has come to; where it was only asked, what it would do.
#[derive(Debug, Default)]
pub struct RepairReport {
    /// What was put right, or would be.
    pub done: Vec<RepairDeed>,
    /// What stays as it is.
    pub left: Vec<Unrepaired>,
    /// How many snapshots are in the second place alone.
    pub only_in_second: usize,
    /// How the vault is now.
    pub after: VerifyReport,
}

/// Says what [`repair`] would do. The vault is only read.
pub fn plan_repair(
    vault: &Vault,
    second: Option<&Vault>,
    options: &RepairOptions,
    monitor: &dyn Monitor,
) -> Result<RepairReport> {
    let mut repair = Repair::of(vault, second, options, monitor);
    let (found, plan) = repair.look(false)?;
    repair.report.done = plan.deeds;
    repair.report.left = plan.left;
    repair.ends_with(found.report)
}

/// Puts right what can be: byte for byte what was lost, under the names that it had. `second` is
/// another place of the same vault.
///
/// # Errors
/// What was put right before an error is right, and stays; the same command goes on.
pub fn repair(
    vault: &Vault,
    second: Option<&Vault>,
    options: &RepairOptions,
    monitor: &dyn Monitor,
) -> Result<RepairReport> {
    let mut repair = Repair::of(vault, second, options, monitor);
    let done = repair.in_rounds();
    let count = repair.report.done.len();
    match (done, count) {
        (Ok(found), _) => repair.ends_with(found.report),
        (Err(error), 0) => Err(error),
        (Err(error), 1) => Err(error.and_said("1 object was put right before")),
        (Err(error), many) => Err(error.and_said(format!("{many} objects were put right before"))),
    }
}

/// A repair at work.
struct Repair<'a> {
    vault: &'a Vault,
    second: Option<&'a Vault>,
    options: RepairOptions,
    monitor: &'a dyn Monitor,
    report: RepairReport,
    /// Segments in which something was wrong are read again. So are those that an index has named
    /// since it was put right: no `verify` can have read them.
    suspects: Suspects,
    /// What could not be put right though it was meant to be: it is not tried again.
    failed: BTreeSet<RepairedObject>,
    rounds: usize,
}

impl<'a> Repair<'a> {
    fn of(
        vault: &'a Vault,
        second: Option<&'a Vault>,
        options: &RepairOptions,
        monitor: &'a dyn Monitor,
    ) -> Self {
        Self {
            vault,
            second,
            options: *options,
            monitor,
            report: RepairReport::default(),
            suspects: Suspects::default(),
            failed: BTreeSet::new(),
            rounds: 0,
        }
    }

    /// Looks at the vault and for remedies. What is lost is noted at once where `notes` says so:
    /// whatever happens then, the next runs know.
    fn look(&mut self, notes: bool) -> Result<(Surveyed, RepairPlan)> {
        let snapshots = self.vault.snapshots()?;
        let reads = match self.options.read_all && self.rounds == 0 {
            true => Reads::All,
            false => Reads::Suspects(&self.suspects),
        };
        let survey = Survey {
            vault: self.vault,
            snapshots: &snapshots,
            reads,
            workers: self.options.workers,
            notes,
        };
        let found = survey.look(self.monitor)?;
        self.rounds += 1;
        self.suspects.wrong.extend(found.objects.segments.keys());
        let known = self.suspects.unknown_but.get_or_insert_default();
        known.extend(&found.needed);
        let sources = RepairSources {
            vault: self.vault,
            second: self.second,
            copies: &found.copies,
        };
        let plan = RepairPlan::make(&sources, &found.objects, self.monitor)?;
        Ok((found, plan))
    }

    /// Looks and repairs until there is nothing more to do; returns what was found last.
    fn in_rounds(&mut self) -> Result<Surveyed> {
        loop {
            let (found, mut plan) = self.look(true)?;
            plan.deeds
                .retain(|deed| !self.failed.contains(&deed.object));
            let failed = std::mem::take(&mut self.report.left).into_iter();
            let failed = failed.filter(|left| self.failed.contains(&left.object));
            plan.left.extend(failed);
            self.report.left = plan.left;
            if plan.deeds.is_empty() {
                return Ok(found);
            }
            if self.rounds > MOST_ROUNDS {
                let what = "what was put right is damaged again, more than once";
                return Err(Error::new(ErrorKind::Failed, what)
                    .with_hint("is somebody else at work there? is its disk failing?"));
            }
            self.carry_out(plan.deeds, &found.copies)?;
        }
    }

    fn carry_out(&mut self, deeds: Vec<RepairDeed>, copies: &[FooterCopiesRef]) -> Result<()> {
        let phase = RunPhase::Repairing(deeds.len());
        self.monitor.tell(Event::Phase(phase));
        let record = session_record("repair", &host_name(), Timestamp::now());
        let writer = match self.second {
            Some(second) => MirrorWriter::begin(self.vault, second, record)?,
            None => MirrorWriter::begin_alone(self.vault, record)?,
        };
        for deed in deeds {
            self.monitor.check()?;
            match self.carry_out_one(&writer, &deed, copies) {
                Ok(true) => self.report.done.push(deed),
                // The snapshot was deleted meanwhile.
                Ok(false) => {}
                Err(error) if is_damage(&error) => {
                    self.failed.insert(deed.object.clone());
                    self.report.left.push(Unrepaired {
                        object: deed.object,
                        what: deed.what,
                        why: error.to_string(),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Puts one object right; returns whether it was still to be.
    fn carry_out_one(
        &self,
        writer: &MirrorWriter<'_>,
        deed: &RepairDeed,
        copies: &[FooterCopiesRef],
    ) -> Result<bool> {
        let lost = || Error::new(ErrorKind::Damaged, "what could replace it is gone");
        let source = match (deed.remedy, self.second) {
            (Remedy::FromSecond, Some(second)) => Some(second),
            (Remedy::FromSecond, None) => return Err(lost()),
            (Remedy::Rebuild, _) => None,
        };
        let object: StoredObject = match (&deed.object, source) {
            (RepairedObject::Manifest(snapshot), Some(second)) => {
                let (object, _) = second.stored_manifest(snapshot)?;
                // Right before it is put: one that was deleted meanwhile does not come back, and
                // one that is whole is not replaced.
                match self.vault.manifest(snapshot) {
                    Ok(_) => return Ok(false),
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                    Err(error) if is_damage(&error) => {}
                    Err(error) => return Err(error),
                }
                // Not taken back where the session is gone: the snapshot is no new one.
                writer.replace(&object)?;
                return Ok(true);
            }
            (RepairedObject::Index(id), Some(second)) => second.stored_index(*id)?,
            (RepairedObject::Segment(id), Some(second)) => second.stored_segment(*id, 0)?,
            (RepairedObject::Copies(copies), Some(second)) => second.stored_copies(*copies)?,
            (RepairedObject::Segment(id), None) => {
                let made = self.vault.rebuilt_segment(*id, copies)?;
                made.ok_or_else(lost)?
            }
            (RepairedObject::Copies(copies), None) => {
                let made = self.vault.rebuilt_copies(*copies)?;
                made.ok_or_else(lost)?
            }
            (RepairedObject::Manifest(_) | RepairedObject::Index(_), None) => return Err(lost()),
        };
        writer.put_right(&object)?;
        Ok(true)
    }

    fn ends_with(mut self, after: VerifyReport) -> Result<RepairReport> {
        if let Some(second) = self.second {
            let here: BTreeSet<_> = self.vault.snapshots()?.into_iter().collect();
            let there = second.snapshots()?;
            let only = there.iter().filter(|one| !here.contains(one));
            self.report.only_in_second = only.count();
        }
        self.report.after = after;
        Ok(self.report)
    }
}
