//! What came to a vault's second place, and what could not.

use super::Report;
use super::text::{counted, first_warnings, listed};
use crate::engine::MirrorReport;
use crate::model::exit::DAMAGED;
use crate::model::printable::one_line;
use crate::model::{RequestCounts, SnapshotId};
use serde_json::json;

/// Most bytes of the list of what was wrong.
const MOST_LINES: usize = 9000;

/// Where the rest of a long list is.
const LISTS_ALL: &str = "--json lists all";

/// A mirror that has ended.
pub struct Mirrored<'a> {
    /// What came of it.
    pub done: &'a MirrorReport,
    /// Where the source is.
    pub from: String,
    /// Where the second place is.
    pub to: String,
    /// What was asked of it, if somebody counted.
    pub asked_there: Option<RequestCounts>,
    /// Nothing was put: what is told is what would be done.
    pub dry_run: bool,
    /// The snapshots were named one by one: one that is gone was asked for.
    pub named: bool,
}

/// What `mirror` reports.
pub fn report(mirrored: &Mirrored<'_>) -> Report {
    let done = mirrored.done;
    let mut warnings = done.warnings.clone();
    if mirrored.named {
        let gone = done.gone.iter();
        warnings.extend(gone.map(|id| format!("{id} was asked for, and was deleted meanwhile")));
    }
    let ids = |ids: &[SnapshotId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut json = json!({
        "from": mirrored.from,
        "to": mirrored.to,
        "dry_run": mirrored.dry_run,
        "snapshots": done.snapshots,
        "there_before": done.there,
        "sent": ids(&done.sent),
        "sent_objects": done.objects,
        "sent_bytes": done.bytes,
        "requests_there": mirrored.asked_there,
        "gone": ids(&done.gone),
        "damaged": done.damaged.iter().map(|damage| json!({
            "snapshot": damage.snapshot.to_string(),
            "what": damage.what,
            "there": damage.there,
        })).collect::<Vec<_>>(),
        "wrong": done.wrong.iter().map(|wrong| json!({
            "object": wrong.object,
            "what": wrong.what,
            "replaced": wrong.replaced,
        })).collect::<Vec<_>>(),
    });
    if !warnings.is_empty() {
        json["warnings"] = first_warnings(&warnings, LISTS_ALL).into();
    }
    let mut report = Report::done(json, text(mirrored, &warnings)).below(!warnings.is_empty());
    if !done.damaged.is_empty() || !done.wrong.is_empty() {
        report.code = DAMAGED;
    }
    report
}

fn text(mirrored: &Mirrored<'_>, warnings: &[String]) -> String {
    let done = mirrored.done;
    let damaged = done.damaged.iter().map(|damage| {
        let became = match damage.there {
            true => "what came there before was left alone",
            false => "it was not mirrored",
        };
        let (snapshot, what) = (damage.snapshot, &damage.what);
        format!("damaged in the source: {snapshot}: {what}; {became}")
    });
    let wrong = done.wrong.iter().map(|wrong| {
        let became = match (wrong.replaced, mirrored.dry_run) {
            (true, _) => "; the source's was put in its place",
            (false, true) => "; nothing was put, as this was only asked",
            (false, false) => "",
        };
        let (object, what) = (&wrong.object, &wrong.what);
        format!("wrong in the second place: {object}: {what}{became}")
    });
    let gone = done.gone.iter();
    let gone = gone.map(|id| format!("{id} was deleted in the source meanwhile"));
    let warned = warnings.iter().map(|warning| format!("warning: {warning}"));
    let asked = mirrored.asked_there.iter();
    let asked = asked.map(|there| format!("asked of the second place: {there}"));
    let lines = damaged.chain(wrong).chain(gone).chain(warned).chain(asked);
    let mut text = listed(lines, MOST_LINES, LISTS_ALL);
    text.push_str(&verdict(mirrored));
    text
}

fn verdict(mirrored: &Mirrored<'_>) -> String {
    let done = mirrored.done;
    let to = one_line(&mirrored.to);
    let objects = usize::try_from(done.objects).unwrap_or(usize::MAX);
    let sent = format!("{}, {}", counted(objects, "object"), done.bytes);
    let before = match done.there {
        0 => String::new(),
        there => format!("; {there} there before"),
    };
    let failed = match done.damaged.iter().filter(|damage| !damage.there).count() {
        0 => String::new(),
        failed => format!("; {failed} of {} could not be", done.snapshots),
    };
    let did = match (mirrored.dry_run, done.sent.is_empty()) {
        (_, true) if objects == 0 && failed.is_empty() => {
            let all = counted(done.there, "snapshot");
            return format!("nothing is missing in {to}: {all}");
        }
        (true, true) => "would send".into(),
        (false, true) => "sent".into(),
        (dry_run, false) => {
            let did = if dry_run { "would mirror" } else { "mirrored" };
            format!("{did} {}:", counted(done.sent.len(), "snapshot"))
        }
    };
    format!("{did} {sent}, to {to}{before}{failed}")
}
