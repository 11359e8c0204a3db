//! What a drill has found, and the part of a snapshot's document that tells of drills.

use super::Report;
use crate::engine::DrillReport;
use crate::error::{ErrorKind, Result};
use crate::format::{DrillOutcome, DrillRecord};
use crate::model::exit::FAILED;
use crate::model::printable::{one_line, path};
use crate::store::{Drilled, NewestDrill};
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

/// What `drill` reports.
pub fn report(done: &DrillReport) -> Report {
    let record = &done.record;
    let mut text = String::new();
    for step in &record.steps {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}  {}", mark(step.outcome), one_line(&step.what));
        if !step.said.is_empty() {
            let _ = writeln!(text, "      {}", one_line(&step.said));
        }
    }
    let id = record.snapshot;
    let seconds = record.took_ms as f64 / 1000.0;
    let kept = match &done.object {
        Ok(object) => format!("kept as {}", one_line(object)),
        Err(_) => "not kept".to_owned(),
    };
    text.push_str(&match (record.failed(), record.is_whole()) {
        (Some(step), _) => {
            let step = one_line(&step.what);
            format!("the drill of {id} failed at: {step} ({kept})")
        }
        (None, true) => format!("the drill of {id} passed in {seconds:.1} s ({kept})"),
        (None, false) => {
            format!("nothing failed in the drill of {id}, and not all could be tried ({kept})")
        }
    });
    if let Some(Ok(folder)) = &done.kept {
        let folder = path(folder);
        let _ = write!(text, "\nits screen and its console's log are in {folder}");
    }
    let mut json = document(record);
    json["kept"] = json!(done.kept.as_ref().and_then(|kept| kept.as_ref().ok()));
    json["object"] = json!(done.object.as_ref().ok());
    let mut report = Report::done(json, text).below(!record.is_whole());
    if record.failed().is_some() {
        report.code = FAILED;
    }
    if let Err(error) = &done.object {
        report.warn(&format!("the vault does not keep what came of it: {error}"));
    }
    if let Some(Err(error)) = &done.kept {
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
    let (newest, why) = match &drilled.newest {
        NewestDrill::Says(record) => (Some(record.as_ref()), None),
        NewestDrill::Unknown(why) => (None, Some(why)),
    };
    json!({
        "count": drilled.count,
        "result": newest.map_or("unknown", result),
        "why": why,
        "failed_step": newest.and_then(DrillRecord::failed).map(|step| &step.what),
        "time": newest.map(|record| format!("{:.0}", record.time)),
        "by": newest.map(|record| &record.by),
        "check": newest.and_then(|record| record.check.as_ref()),
        "booted": newest.map(|record| record.boot.as_ref().is_some_and(|boot| boot.up.is_some())),
    })
}

/// Whether the newest one has failed.
pub(super) fn has_failed(drilled: &Drilled) -> bool {
    matches!(&drilled.newest, NewestDrill::Says(record) if record.failed().is_some())
}

/// The same for people: `passed on 2026-11-30T00:00:00Z, as web1 says`.
pub(super) fn drilled_words(drilled: &Drilled) -> String {
    let record = match &drilled.newest {
        NewestDrill::Says(record) => record,
        NewestDrill::Unknown(why) => {
            return format!("unknown; of the newest drill: {}", one_line(why));
        }
    };
    let what = match record.failed() {
        Some(step) => format!("failed at: {};", one_line(&step.what)),
        None if record.is_whole() => match &record.boot {
            Some(_) => "it has booted (filesystems were not checked)".to_owned(),
            None => "passed".to_owned(),
        },
        None => "nothing was found wrong, and not all could be tried,".to_owned(),
    };
    let by = one_line(&record.by);
    format!("{what} on {:.0}, as {by} says", record.time)
}
