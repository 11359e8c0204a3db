//! What dead runs had left frozen, held or slowed down.

use super::Report;
use crate::freeze::{MountOutcome, ThawReport};
use crate::hooks::PendingReport;
use crate::model::printable::one_line;
use serde_json::json;
use std::fmt::Write;

/// What `thaw` reports.
pub fn report(report: &ThawReport, pending: &PendingReport) -> Report {
    let mut text = String::new();
    let mut mounts = Vec::new();
    for mount in &report.mounts {
        let target = mount.target.mount_point.display().to_string();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", one_line(&mount.message()));
        let (outcome, why) = (mount.outcome.word(), mount.outcome.why());
        mounts.push(json!({"target": target, "outcome": outcome, "why": why}));
    }
    let mut postscripts = Vec::new();
    for one in &pending.postscripts {
        let _ = writeln!(text, "{}", one_line(&one.message()));
        let path = one.path.display().to_string();
        postscripts.push(json!({"postscript": path, "status": one.record.status}));
    }
    if report.throttles > 0 {
        text.push_str("a run that died had slowed down what writes to disks: undone\n");
    }
    text.push_str(match (report.mounts.len(), pending.postscripts.len()) {
        (0, 0) => "no run has left anything frozen, or applications held",
        _ => "nothing of ours is frozen any more, and no application held",
    });
    let json = json!({
        "mounts": mounts,
        "postscripts": postscripts,
        "throttles": report.throttles,
    });
    Report::done(json, text)
}

/// What was undone although something failed; `None` when nothing was.
pub fn undone(report: &ThawReport, pending: &PendingReport) -> Option<String> {
    let mounts = report.mounts.iter();
    let thawed = mounts.filter(|mount| mount.outcome == MountOutcome::Thawed);
    let run = pending.postscripts.iter().filter(|one| one.is_done());
    let counts = [
        ("filesystems thawed", thawed.count()),
        ("throttles undone", report.throttles),
        ("postscripts run", run.count()),
    ];
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    let each: Vec<String> = counts
        .map(|(what, count)| format!("{what}: {count}"))
        .collect();
    (!each.is_empty()).then(|| each.join(", "))
}
