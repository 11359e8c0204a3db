//! Snapshots that a plan has taken and does not know of any more: its notes were lost, so nothing
//! deletes them, or nothing is deleted yet. The vault is asked, as no note says it.

use super::super::args::Common;
use super::places::PlanPlaces;
use super::words::{ID, LABEL, MACHINE};
use crate::engine::{LabelledSnapshot, MOST_LABELLED, Monitor, newest_labels};
use crate::error::Result;
use crate::plan::{HoldReason, PRUNE};
use crate::report::plan::SeenPlan;
use crate::store::Vault;
use crate::sys::machine::host_name;
use jiff::Timestamp;
use std::path::Path;

/// Whose notes are looked at.
struct NotesAsk<'a> {
    /// The host's name.
    host: &'a str,
    /// The label of this machine; empty: nothing tells it from others.
    machine: &'a str,
    /// The folder of the notes.
    notes: &'a Path,
}

/// What to tell of these plans, a sentence each, by what `vault` has. Nothing is asked where no
/// plan can have lost anything.
pub fn lost_notes<'a>(
    plans: impl Iterator<Item = &'a SeenPlan>,
    vault: &Vault,
    common: &Common,
    monitor: &dyn Monitor,
) -> Result<Vec<String>> {
    let places = PlanPlaces::of(common);
    let host = host_name();
    let ask = NotesAsk {
        host: &host,
        machine: &places.machine,
        notes: &common.plan_notes,
    };
    let plans: Vec<&SeenPlan> = plans.filter(|seen| may_have_lost(seen)).collect();
    if plans.is_empty() || ask.machine.is_empty() {
        return Ok(Vec::new());
    }
    let found = newest_labels(vault, ask.host, &[LABEL, MACHINE, ID], monitor)?;
    let told = plans.into_iter().filter_map(|seen| {
        let label = |one: &LabelledSnapshot, key: &str, is: &str| {
            one.labels.get(key).is_some_and(|there| there == is)
        };
        let own = found.iter().filter(|one| {
            label(one, LABEL, seen.plan.name.as_str()) && label(one, MACHINE, ask.machine)
        });
        let own: Vec<&LabelledSnapshot> = own.collect();
        of_others(seen, &own, &ask).or_else(|| of_before(seen, &own, &ask))
    });
    Ok(told.collect())
}

/// Whether notes of it that were lost would matter, and may have been.
fn may_have_lost(seen: &SeenPlan) -> bool {
    seen.plan.retention.is_some() && (seen.plan.id.is_none() || !has_deleted(seen))
}

/// Whether its rules were carried out since anything is noted of it.
fn has_deleted(seen: &SeenPlan) -> bool {
    let step = seen.record.steps.get(PRUNE);
    let unnoted =
        seen.record.prune_held.is_some() && seen.record.hold_reason == HoldReason::Unnoted;
    step.is_some_and(|step| step.outcome.job.is_some()) && !unnoted
}

/// That snapshots bear its name and another ID, where its ID stands in its note alone.
fn of_others(seen: &SeenPlan, own: &[&LabelledSnapshot], ask: &NotesAsk<'_>) -> Option<String> {
    // One that was noted before there were IDs goes by its name.
    if seen.plan.id.is_some() || (seen.record.id.is_none() && seen.record.last.is_some()) {
        return None;
    }
    let current = seen.record.id.as_ref().map(ToString::to_string);
    let id_of = |one: &LabelledSnapshot| one.labels.get(ID).cloned();
    let mut others = own.iter().filter(|one| id_of(one) != current);
    let newest = others.next()?;
    let count = 1 + others.count();
    let id = current.or_else(|| id_of(newest));
    let id = id.map_or_else(String::new, |id| {
        format!(
            "write id = \"{id}\" into {}, and it outlasts them; ",
            seen.file.display()
        )
    });
    let (name, host, machine) = (&seen.plan.name, ask.host, ask.machine);
    Some(format!(
        "plan {name}: NOTHING DELETES {count} of the newest {MOST_LABELLED} snapshots here: they \
         bear its name and another ID, as notes of its runs were lost ({}). Its file has no id: \
         {id}`stillpoint prune --host {host} --tag plan={name} --tag plan-machine={machine} \
         --keep-last 7 --dry-run` shows what of them would go",
        ask.notes.display()
    ))
}

/// That it has taken snapshots of which nothing is noted, and deletes nothing for that.
fn of_before(seen: &SeenPlan, own: &[&LabelledSnapshot], ask: &NotesAsk<'_>) -> Option<String> {
    if has_deleted(seen) {
        return None;
    }
    let id = seen.record.id.as_ref()?.to_string();
    let since = seen.record.noted_since?;
    let is_before = |one: &&&LabelledSnapshot| {
        one.time < since && one.labels.get(ID).is_some_and(|there| *there == id)
    };
    let count = own.iter().filter(is_before).count();
    (count > 0).then(|| {
        format!(
            "plan {}: its notes of before {} WERE LOST ({count} of its snapshots are older), so \
             nothing is deleted for some runs and days. Does {} outlast a boot? If not, name a \
             folder that does: --plan-notes, or STILLPOINT_PLAN_NOTES",
            seen.plan.name,
            shown(since),
            ask.notes.display()
        )
    })
}

fn shown(time: Timestamp) -> String {
    format!("{time:.0}")
}
