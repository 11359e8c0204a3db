//! Gives up segments that are mostly dead: copies what is needed of them into new ones, and gives
//! each snapshot that leads to them another name, under which it leads to the copies. It deletes no
//! segment: what nothing leads to any more is the collector's, by its own rules.
//!
//! It is a writer like any other: it has a session, heeds plans, and puts manifests last. So what
//! it makes is as safe as a new snapshot is, and as long as the old name stands nothing has
//! changed. Killed anywhere it leaves each snapshot under its old name, its new one, or both.

mod mover;
mod moves;
mod old_names;
mod places;
mod renew;
mod rules;
mod survey;
#[cfg(test)]
mod tests;

pub use rules::{DeadSpace, RewriteRules};
pub use survey::{RewriteCost, RewritePlan, RewriteScope, plan_rewrite};

use super::monitor::{Event, Monitor};
use super::run_phase::RunPhase;
use super::session_record::session_record;
use crate::error::{ErrorKind, Result};
use crate::model::{Bytes, SnapshotId};
use crate::store::{Draft, SessionPace, Vault};
use crate::sys::machine::host_name;
use jiff::Timestamp;
use mover::Mover;
use old_names::OldNames;
use renew::{Renewal, Renewed};
use std::collections::HashMap;
use std::sync::Arc;

/// How it calls itself in its session. Collectors wait for it as for any run.
const REWRITER: &str = "gc: rewriting segments";

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct RewriteReport {
    /// Segments of which nothing is needed any more.
    pub segments: usize,
    /// Bytes of new segments.
    pub written: Bytes,
    /// Snapshots that have another name now: the old one and the new one.
    pub renamed: Vec<RenamedSnapshot>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A snapshot that has another name now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenamedSnapshot {
    /// What it was called.
    pub old: SnapshotId,
    /// What it is called.
    pub new: SnapshotId,
}

/// Carries out a plan.
///
/// # Errors
/// Something failed: each snapshot stands under its old name or its new one.
pub fn rewrite(
    vault: &Arc<Vault>,
    plan: &RewritePlan,
    pace: SessionPace,
    monitor: &dyn Monitor,
) -> Result<RewriteReport> {
    let mut report = RewriteReport::default();
    if plan.is_empty() {
        return Ok(report);
    }
    monitor.tell(Event::Phase(RunPhase::RewritingSegments {
        segments: plan.cost.segments,
        moved: plan.cost.moved,
        freed: plan.cost.freed,
        gets: plan.cost.gets,
        puts: plan.cost.puts,
    }));
    let (host, now) = (host_name(), Timestamp::now());
    let run = SnapshotId::generate(u64::try_from(now.as_millisecond()).unwrap_or_default());
    let session = vault.begin_session_at(pace, run, session_record(REWRITER, &host, now))?;
    match vault.heed_plans(run) {
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Format) => {
            report
                .warnings
                .push(format!("no segment is rewritten: {error}"));
            return Ok(report);
        }
        heeded => heeded?,
    }
    let draft = Draft::begin_in(vault, session, None);
    take_old_names_away(vault, plan, &draft, &mut report, monitor)?;
    if plan.segments.is_empty() {
        return Ok(report);
    }
    // A name that cannot be deleted would stay beside each new one.
    if let Some(first) = plan.snapshots.first() {
        vault.try_to_delete_beside(&first.snapshot)?;
    }
    let mut mover = Mover::new(vault, &draft, monitor);
    mover.most_slots = plan.most_slots;
    mover.run(&plan.segments)?;
    report.written = mover.written;
    report.warnings.append(&mut mover.left);
    let lost = std::mem::take(&mut mover.lost);
    let moves = mover.moves;
    if let Err(error) = vault.note_bad(lost, monitor) {
        let what = format!("what is damaged could not be noted, and is tried again: {error}");
        report.warnings.push(what);
    }
    if moves.is_empty() {
        return Ok(report);
    }
    let mut renewal = Renewal {
        vault,
        draft: &draft,
        moves: &moves,
        host: &host,
        parts: HashMap::new(),
        copies: draft.finish_copies()?,
        monitor,
    };
    renewal.put_parts(&plan.parts)?;
    rename(&renewal, plan, &mut report)?;
    report.segments = moves.segments().count();
    Ok(report)
}

fn take_old_names_away(
    vault: &Vault,
    plan: &RewritePlan,
    draft: &Draft,
    report: &mut RewriteReport,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut names = OldNames::new(vault, draft, monitor);
    for one in &plan.old_names {
        monitor.check()?;
        let (old, new) = (one.old.snapshot.id, one.new.snapshot.id);
        match names.take_away(one)? {
            None => report.renamed.push(RenamedSnapshot { old, new }),
            Some(why) => {
                let what = format!("a snapshot stays as {old} and as {new}: {why}");
                report.warnings.push(what);
            }
        }
    }
    Ok(())
}

fn rename(renewal: &Renewal<'_>, plan: &RewritePlan, report: &mut RewriteReport) -> Result<()> {
    for snapshot in &plan.snapshots {
        renewal.monitor.check()?;
        let old = snapshot.snapshot.id;
        match renewal.renew(snapshot)? {
            Renewed::As(new) => report.renamed.push(RenamedSnapshot { old, new }),
            Renewed::Gone => {}
            Renewed::LeftBehind(new) => report.warnings.push(format!(
                "snapshot {old} was deleted while it was renamed, and is there as {new}: delete \
                 that, too, if it is to go"
            )),
            Renewed::Left(why) => {
                let what = format!("snapshot {old} keeps its name and its segments: {why}");
                report.warnings.push(what);
            }
        }
    }
    Ok(())
}
