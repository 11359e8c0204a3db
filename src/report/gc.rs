//! What a collection found and did.

use super::text::{cells, counted, first_warnings, listed, table_text};
use super::{Report, gc_rewriting};
use crate::engine::{Amount, CollectReport, EarlierPlan, PlanOutcome, Tally};
use comfy_table::{Table, presets};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Most bytes of the list of what became of plans.
const MOST_LINES: usize = 6000;
/// Where the rest of a long list is.
const LISTS_ALL: &str = "--json lists all";

/// A collection that has ended.
pub struct Collected<'a> {
    /// What it found and did.
    pub done: &'a CollectReport,
    /// Nothing was done: what is told is what would be.
    pub dry_run: bool,
    /// How long a plan stands.
    pub grace: SignedDuration,
}

/// What `gc` reports.
pub fn report(collected: &Collected<'_>) -> Report {
    let done = collected.done;
    let mut warnings: Vec<String> = done.earlier.iter().filter_map(warning).collect();
    let rewriting = done.rewriting.as_ref();
    warnings.extend(rewriting.into_iter().flat_map(gc_rewriting::warnings));
    let planned = done.planned.as_ref().map(|planned| {
        json!({
            "plan": planned.id.map(|id| id.to_string()),
            "objects": tally(&planned.objects),
        })
    });
    let mut json = json!({
        "dry_run": collected.dry_run,
        "grace_seconds": collected.grace.as_secs(),
        "snapshots": done.snapshots,
        "needed": tally(&done.needed),
        "left_alone": tally(&done.left_alone),
        "plans": done.earlier.iter().map(plan).collect::<Vec<_>>(),
        "planned": planned,
        "at_work": done.at_work,
    });
    let rewriting = done.rewriting.as_ref();
    json["rewriting"] = rewriting.map_or(Value::Null, gc_rewriting::json);
    if !warnings.is_empty() {
        json["warnings"] = first_warnings(&warnings, LISTS_ALL).into();
    }
    Report::done(json, text(collected)).below(!warnings.is_empty())
}

pub(super) fn amount(amount: Amount) -> Value {
    json!({"objects": amount.objects, "bytes": amount.bytes})
}

pub(super) fn tally(tally: &Tally) -> Value {
    json!({
        "segments": amount(tally.segments),
        "indexes": amount(tally.indexes),
        "copies": amount(tally.copies),
        "keeps": amount(tally.keeps),
        "all": amount(tally.all()),
    })
}

fn plan(plan: &EarlierPlan) -> Value {
    let mut json = json!({
        "plan": plan.id.to_string(),
        "time": plan.put.to_string(),
        "objects": plan.objects,
        "deleted": null,
        "still_needed": null,
        "not_before": null,
        "awaits": [],
        "why": null,
    });
    json["state"] = match &plan.outcome {
        PlanOutcome::CarriedOut {
            deleted, needed, ..
        } => {
            json["deleted"] = tally(deleted);
            json["still_needed"] = (*needed).into();
            "carried_out"
        }
        PlanOutcome::TooYoung(until) => {
            json["not_before"] = until.to_string().into();
            "too_young"
        }
        PlanOutcome::Awaits(runs) => {
            json["awaits"] = runs.as_slice().into();
            "awaits_runs"
        }
        PlanOutcome::Withdrawn(why) => {
            json["why"] = why.as_str().into();
            "withdrawn"
        }
        PlanOutcome::Left(why) => {
            json["why"] = why.as_str().into();
            "left"
        }
    }
    .into();
    json
}

/// What the user should know of a plan.
fn warning(plan: &EarlierPlan) -> Option<String> {
    let id = plan.id;
    match &plan.outcome {
        PlanOutcome::Withdrawn(why) => Some(format!(
            "plan {id} was taken away, and nothing it names was deleted: {why}"
        )),
        PlanOutcome::Left(why) => Some(format!("plan {id} is left as it is: {why}")),
        _ => None,
    }
}

/// A time as people read it.
fn clock(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn text(collected: &Collected<'_>) -> String {
    let done = collected.done;
    let mut text = table(collected);
    text.push('\n');
    let lines = done
        .earlier
        .iter()
        .filter_map(|plan| line(plan, collected.dry_run));
    let rewriting = done.rewriting.iter();
    let rewriting = rewriting.flat_map(|one| gc_rewriting::lines(one, collected.dry_run));
    let runs = done.at_work.iter().map(|run| format!("at work: {run}"));
    text.push_str(&listed(
        lines.chain(rewriting).chain(runs),
        MOST_LINES,
        LISTS_ALL,
    ));
    text.push_str(&verdict(collected));
    text
}

/// What becomes of a plan, where that is not all told by the table.
fn line(plan: &EarlierPlan, dry_run: bool) -> Option<String> {
    let (id, put) = (plan.id, clock(plan.put));
    Some(match &plan.outcome {
        PlanOutcome::CarriedOut { needed, stays, .. } => {
            let did = if dry_run { "would be" } else { "was" };
            let needed = match needed {
                0 => String::new(),
                needed => format!("; {} of it stay, as snapshots need them after all", needed),
            };
            let stays = match stays {
                false => "",
                true => "; it stands until the next gc, which takes it away",
            };
            format!("plan {id} of {put} {did} carried out{needed}{stays}")
        }
        PlanOutcome::TooYoung(until) => {
            format!(
                "plan {id} of {put} may be carried out from {} on",
                clock(*until)
            )
        }
        PlanOutcome::Awaits(runs) => format!(
            "plan {id} of {put} waits for {}: {}",
            counted(runs.len(), "run"),
            runs.join("; ")
        ),
        PlanOutcome::Withdrawn(_) | PlanOutcome::Left(_) => {
            format!("warning: {}", warning(plan)?)
        }
    })
}

/// Objects of one fate, by sort.
fn table(collected: &Collected<'_>) -> String {
    let done = collected.done;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let head = ["", "SEGMENTS", "INDEX", "FOOTERS", "KEEPS", "BYTES"];
    table.set_header(cells(head.map(str::to_owned)));
    let mut row = |what: &str, tally: &Tally| {
        let sorts = [tally.segments, tally.indexes, tally.copies, tally.keeps];
        let [segments, indexes, copies, keeps] = sorts.map(|one| one.objects.to_string());
        let bytes = tally.all().bytes.to_string();
        table.add_row(cells([
            what.into(),
            segments,
            indexes,
            copies,
            keeps,
            bytes,
        ]));
    };
    row("needed", &done.needed);
    row("left alone", &done.left_alone);
    let planned = done.planned.as_ref().map(|planned| planned.objects);
    row("planned", &planned.unwrap_or_default());
    let did = if collected.dry_run {
        "would be deleted"
    } else {
        "deleted"
    };
    row(did, &deleted(done));
    table_text(&table)
}

/// What all plans that were carried out have deleted.
fn deleted(done: &CollectReport) -> Tally {
    let mut sum = Tally::default();
    for plan in &done.earlier {
        if let PlanOutcome::CarriedOut { deleted, .. } = &plan.outcome {
            sum += *deleted;
        }
    }
    sum
}

fn verdict(collected: &Collected<'_>) -> String {
    let done = collected.done;
    let deleted = deleted(done).all();
    let did = if collected.dry_run {
        "would delete"
    } else {
        "deleted"
    };
    let next = match &done.planned {
        None => "nothing more is planned".to_owned(),
        Some(planned) => {
            let all = planned.objects.all();
            let hours = counted(collected.grace.as_hours(), "hour");
            let would = if collected.dry_run {
                "would be planned"
            } else {
                "planned"
            };
            format!(
                "{}, {} {would}: a gc in {hours} or later deletes what nothing needs then",
                counted(all.objects, "object"),
                all.bytes
            )
        }
    };
    format!(
        "{did} {}, {}; {next}",
        counted(deleted.objects, "object"),
        deleted.bytes
    )
}
