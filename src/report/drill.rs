//! What a drill has found, and the part of a snapshot's document that tells of drills.

use super::Report;
use crate::engine::DrillReport;
use crate::error::{ErrorKind, Result};
use crate::format::{DrillKind, DrillOutcome, DrillRecord};
use crate::model::exit::FAILED;
use crate::model::printable::{one_line, path};
use crate::store::{DrillKinds, Drilled, NewestDrill};
use serde_json::{Value, json};
use std::fmt::Write;

fn mark(outcome: DrillOutcome) -> &'static str {
    match outcome {
        DrillOutcome::Passed => "ok",
        DrillOutcome::Failed => "!!",
        DrillOutcome::NotDone => "??",
    }
}

/// `passed`, `failed`, or `incomplete`: nothing failed, and not all was tried.
fn result(record: &DrillRecord) -> &'static str {
    match (record.failed(), record.is_whole()) {
        (Some(_), _) => "failed",
        (None, true) => "passed",
        (None, false) => "incomplete",
    }
}

fn document(record: &DrillRecord) -> Value {
    json!({
        "snapshot": record.snapshot.to_string(),
        "result": result(record),
        "failed_step": record.failed().map(|step| &step.what),
        "time": format!("{:.0}", record.time),
        "by": record.by,
        "writer": record.writer,
        "kernel": record.kernel,
        "check": record.check,
        "took_ms": record.took_ms,
        "boot": record.boot,
        "steps": record.steps,
    })
}

/// What several drills of one snapshot have found, as if they were one.
fn merged(done: &[DrillReport]) -> Option<DrillRecord> {
    let mut records = done.iter().map(|one| one.record.clone());
    let first = records.next()?;
    Some(records.fold(first, |mut all, one| {
        all.steps.extend(one.steps);
        all.took_ms = all.took_ms.saturating_add(one.took_ms);
        all.boot = all.boot.or(one.boot);
        all.check = all.check.or(one.check);
        all
    }))
}

/// What came of a drill, in a sentence.
pub fn verdict(record: &DrillRecord) -> String {
    let id = record.snapshot;
    let seconds = record.took_ms as f64 / 1000.0;
    match (record.failed(), record.is_whole()) {
        (Some(step), _) => format!("the drill of {id} failed at: {}", one_line(&step.what)),
        (None, true) => format!("the drill of {id} passed in {seconds:.1} s"),
        (None, false) => {
            format!("nothing failed in the drill of {id}, and not all could be tried")
        }
    }
}

/// What `drill` reports: of one drill, or of one of the snapshot's files and one of its machine.
pub fn report(done: &[DrillReport]) -> Report {
    let Some(record) = merged(done) else {
        return Report::done(Value::Null, String::new());
    };
    let mut text = String::new();
    for step in &record.steps {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}  {}", mark(step.outcome), one_line(&step.what));
        if !step.said.is_empty() {
            let _ = writeln!(text, "      {}", one_line(&step.said));
        }
    }
    let objects: Vec<&String> = done
        .iter()
        .filter_map(|one| one.object.as_ref().ok())
        .collect();
    let kept = done.iter().filter_map(|one| one.kept.as_ref());
    for folder in kept.clone().flatten() {
        let folder = path(folder);
        let _ = writeln!(text, "its screen and its console's log are in {folder}");
    }
    let names: Vec<String> = objects
        .iter()
        .map(|name| one_line(name).into_owned())
        .collect();
    let is_kept = match names.len() == done.len() {
        true => format!("kept as {}", names.join(" and ")),
        false if names.is_empty() => "not kept".to_owned(),
        false => format!("kept as {}, and not all of it", names.join(" and ")),
    };
    text.push_str(&format!("{} ({is_kept})", verdict(&record)));
    let mut json = document(&record);
    json["kept"] = json!(kept.clone().flatten().next());
    json["object"] = match objects.len() == done.len() {
        true => json!(objects.last()),
        false => Value::Null,
    };
    json["objects"] = json!(objects);
    let mut report = Report::done(json, text).below(!record.is_whole());
    if record.failed().is_some() {
        report.code = FAILED;
    }
    for error in done.iter().filter_map(|one| one.object.as_ref().err()) {
        report.warn(&format!("the vault does not keep what came of it: {error}"));
    }
    for error in kept.filter_map(|kept| kept.as_ref().err()) {
        report.warn(&format!(
            "the screen and the console's log are not kept: {error}"
        ));
    }
    report
}

/// Adds to a report what came of clearing away drills of deleted snapshots, which do no harm. To a
/// key that may not, it is no less than was asked for.
///
/// # Errors
/// A signal.
pub fn add_cleared(report: &mut Report, cleared: Result<()>) -> Result<()> {
    let Err(error) = cleared else {
        return Ok(());
    };
    let what = format!("drills of deleted snapshots are not cleared away, and do no harm: {error}");
    match error.kind() {
        ErrorKind::Interrupted(_) => return Err(error),
        ErrorKind::Unsupported => report.mention(&what),
        _ => report.warn(&what),
    }
    Ok(())
}

/// What is known of a snapshot's drills, for programs; `None`: nothing is known.
pub(super) fn drilled_document(drilled: Option<&Drilled>) -> Value {
    let Some(drilled) = drilled else {
        return Value::Null;
    };
    let newest = match &drilled.newest {
        NewestDrill::Says(record) => Some(record.as_ref()),
        NewestDrill::Unknown(_) => None,
    };
    let mut json = says_document(&drilled.newest);
    json["count"] = json!(drilled.count);
    json["booted"] =
        json!(newest.map(|record| record.boot.as_ref().is_some_and(|boot| boot.up.is_some())));
    json["kinds"] = json!({
        "opened": drilled.kinds.opened.as_ref().map(says_document),
        "booted": drilled.kinds.booted.as_ref().map(says_document),
    });
    json
}

/// What one drill says, for programs.
pub(super) fn says_document(says: &NewestDrill) -> Value {
    let (record, why) = match says {
        NewestDrill::Says(record) => (Some(record.as_ref()), None),
        NewestDrill::Unknown(why) => (None, Some(why)),
    };
    json!({
        "result": record.map_or("unknown", result),
        "why": why,
        "failed_step": record.and_then(DrillRecord::failed).map(|step| &step.what),
        "time": record.map(|record| format!("{:.0}", record.time)),
        "by": record.map(|record| &record.by),
        "check": record.and_then(|record| record.check.as_ref()),
    })
}

/// Whether the newest one of a kind has failed.
pub(super) fn has_failed(drilled: &Drilled) -> bool {
    drilled.kinds.each().any(NewestDrill::has_failed) || drilled.newest.has_failed()
}

/// The same for people: `passed on 2026-11-30T00:00:00Z, as web1 says`. Of each kind the newest.
pub(super) fn drilled_words(drilled: &Drilled) -> String {
    let DrillKinds { opened, booted } = &drilled.kinds;
    match (opened, booted) {
        (None, None) => says_words(&drilled.newest),
        (Some(one), None) => says_words(one),
        (None, Some(one)) if one.is_whole() => {
            format!("{} (filesystems were not checked)", says_words(one))
        }
        (None, Some(one)) => says_words(one),
        (Some(one), Some(other)) if one == other => says_words(one),
        (Some(opened), Some(booted)) => {
            let (opened, booted) = (says_words(opened), says_words(booted));
            format!("of its filesystems: {opened}; of its boot: {booted}")
        }
    }
}

/// What one drill says, in words.
pub(super) fn says_words(says: &NewestDrill) -> String {
    let record = match says {
        NewestDrill::Says(record) => record,
        NewestDrill::Unknown(why) => {
            return format!("unknown; of the newest drill: {}", one_line(why));
        }
    };
    let what = match record.failed() {
        Some(step) => format!("failed at: {};", one_line(&step.what)),
        None if record.is_whole() => match record.tried() {
            DrillKind::Booted => "it has booted".to_owned(),
            _ => "passed".to_owned(),
        },
        None => "nothing was found wrong, and not all could be tried,".to_owned(),
    };
    let by = one_line(&record.by);
    format!("{what} on {:.0}, as {by} says", record.time)
}
