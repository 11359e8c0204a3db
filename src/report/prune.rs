//! What a prune deletes, or would, and why each other snapshot stays.

use super::Report;
use super::keep::kept_document as kept_by_document;
use super::text::{cells, counted, listed, table_text};
use crate::engine::{ByTime, Judged, PrunePlan, RetentionRules, StayReason};
use crate::model::clip;
use crate::model::exit::DAMAGED;
use crate::model::printable::one_line;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use std::fmt::Write;

/// Most bytes of a cell.
const MOST_CELL: usize = 200;
/// Most bytes of the list of what could not be judged.
const MOST_DAMAGED: usize = 4000;

/// A plan, and whether it was carried out.
pub struct PruneReport<'a> {
    /// The plan.
    pub plan: &'a PrunePlan,
    /// The rules that it is by.
    pub rules: RetentionRules,
    /// Where the vault is.
    pub location: &'a str,
    /// It was only asked what would go.
    pub dry_run: bool,
}

/// What `prune` reports.
pub fn report(prune: &PruneReport<'_>) -> Report {
    let plan = prune.plan;
    let (kept, removed): (Vec<&Judged>, Vec<&Judged>) =
        plan.judged.iter().partition(|one| !one.goes());
    let is_last_good = |one: &&&Judged| {
        one.stays
            .iter()
            .any(|why| matches!(why, StayReason::LastGood(_)))
    };
    let last_good: Vec<&&Judged> = kept.iter().filter(is_last_good).collect();
    let damaged = plan
        .unread
        .iter()
        .map(|one| json!({"snapshot": one.snapshot.to_string(), "what": one.why.to_string()}));
    let json = json!({
        "dry_run": prune.dry_run,
        "rules": rules_document(&prune.rules),
        "removed": removed.iter().map(|one| head(one)).collect::<Vec<_>>(),
        "kept": kept.iter().map(|one| kept_document(one)).collect::<Vec<_>>(),
        "last_good": last_good.iter().map(|one| one.snapshot.id.to_string()).collect::<Vec<_>>(),
        "not_judged": plan.others,
        "damaged": damaged.collect::<Vec<_>>(),
        "reclaimed_bytes": 0,
    });
    let mut text = String::new();
    if !plan.judged.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", table_text(&table(prune)));
    }
    let lines = plan.unread.iter();
    let lines = lines.map(|one| format!("damaged, and left alone: {}: {}", one.snapshot, one.why));
    text.push_str(&listed(lines, MOST_DAMAGED, "--json lists all"));
    for one in &last_good {
        let _ = writeln!(
            text,
            "left although no rule keeps it: {} is the last good one, or none is known to be good \
             (--take-last-good takes it too)",
            one.snapshot.id
        );
    }
    let did = if prune.dry_run {
        "would delete"
    } else {
        "deleted"
    };
    let others = match plan.others {
        0 => String::new(),
        others => format!("; {others} were not asked for"),
    };
    let _ = write!(
        text,
        "{did} {} in {}, {} stay{others}",
        counted(removed.len(), "snapshot"),
        one_line(prune.location),
        kept.len() + plan.unread.len(),
    );
    let mut report = Report::done(json, text).below(!last_good.is_empty());
    for warning in &plan.warnings {
        report.warn(warning);
    }
    if !plan.unread.is_empty() {
        report.code = DAMAGED;
    }
    report
}

fn table(prune: &PruneReport<'_>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "TIME (UTC)", "HOST", "DISKS", "", "WHY"]);
    let goes = if prune.dry_run { "would go" } else { "goes" };
    table.add_rows(prune.plan.judged.iter().map(|one| {
        let why: Vec<String> = one.stays.iter().map(|why| in_words(why, one)).collect();
        let (verdict, why) = match one.goes() {
            true => (goes, "no rule keeps it".to_owned()),
            false => ("stays", why.join("; ")),
        };
        let row = cells([
            one.snapshot.id.to_string(),
            one.cut.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            one.host.clone(),
            one.disks.join(","),
            verdict.to_owned(),
            why,
        ]);
        row.map(|cell| clip(&cell, MOST_CELL))
    }));
    table
}

fn head(one: &Judged) -> Value {
    json!({
        "snapshot": one.snapshot.id.to_string(),
        "time": format!("{:.3}", one.cut),
        "received": format!("{:.3}", one.received),
        "host": one.host,
        "disks": one.disks,
    })
}

fn kept_document(one: &Judged) -> Value {
    let mut document = head(one);
    let why = one.stays.iter().map(|why| reason_document(why, one));
    document["why"] = why.collect();
    document
}

fn reason_document(why: &StayReason, of: &Judged) -> Value {
    let what = in_words(why, of);
    match why {
        StayReason::Rule { rule, by, disks } => {
            let by = match by {
                ByTime::Cut => "cut",
                ByTime::Received => "received",
            };
            json!({"reason": rule.word(), "by": by, "disks": disks, "what": what})
        }
        StayReason::Kept(kept) => {
            json!({"reason": "kept", "kept": kept_by_document(Some(kept)), "what": what})
        }
        StayReason::Locked(until) => {
            json!({"reason": "locked", "until": format!("{until:.3}"), "what": what})
        }
        StayReason::LastGood(disks) => {
            json!({"reason": "last_good", "disks": disks, "what": what})
        }
        StayReason::LastAsAsked(disks) => {
            json!({"reason": "last_as_asked", "disks": disks, "what": what})
        }
        StayReason::FromLater => json!({"reason": "from_later", "what": what}),
        StayReason::SameAs(_) => json!({"reason": "same", "what": what}),
    }
}

/// A reason for people. Disks are named where the snapshot has others.
fn in_words(why: &StayReason, of: &Judged) -> String {
    let of_disks = |disks: &[String]| match disks.len() < of.disks.len() {
        true => format!(" of {}", disks.join(", ")),
        false => String::new(),
    };
    match why {
        StayReason::Rule { rule, by, disks } => {
            let by = match by {
                ByTime::Cut => "",
                ByTime::Received => ", by when it came to the vault",
            };
            format!("{}{}{by}", rule.word(), of_disks(disks))
        }
        StayReason::Kept(kept) => format!("kept {kept}"),
        StayReason::Locked(until) => format!("locked until {until:.0}"),
        StayReason::LastGood(disks) => format!("last good one{}", of_disks(disks)),
        StayReason::LastAsAsked(disks) => format!(
            "last one for which applications were quiesced{}",
            of_disks(disks)
        ),
        StayReason::FromLater => "from a clock that was ahead, or this one is behind".into(),
        StayReason::SameAs(other) => format!("the same as {other}, which stays"),
    }
}

fn rules_document(rules: &RetentionRules) -> Value {
    let some = |count: u32| (count > 0).then_some(count);
    json!({
        "last": some(rules.last),
        "hourly": some(rules.hourly),
        "daily": some(rules.daily),
        "weekly": some(rules.weekly),
        "monthly": some(rules.monthly),
        "yearly": some(rules.yearly),
        "within_seconds": rules.within.map(|within| within.as_secs()),
    })
}
