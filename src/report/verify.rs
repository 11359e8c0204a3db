//! Whether what the vault holds is whole.

use super::Report;
use super::text::{counted, first_warnings, listed};
use crate::engine::{Noted, VerifyReport};
use crate::model::exit::DAMAGED;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Most bytes of the list of what is damaged.
const MOST_DAMAGE: usize = 9000;

/// Where the rest of a long list is.
const LISTS_ALL: &str = "--json lists all";

/// What `verify` reports.
pub fn report(report: &VerifyReport) -> Report {
    let damaged: BTreeSet<_> = report.broken.iter().map(|broken| broken.snapshot).collect();
    let warnings = warnings(report);
    let text = describe(report, damaged.len(), &warnings);
    let mut json = json!({
        "snapshots": report.snapshots,
        "segments": report.segments,
        "read_bytes": report.bytes,
        "unread_segments": report.unread,
        "damage_noted": match report.noted {
            Noted::Nothing => "nothing",
            Noted::Done => "noted",
            Noted::Failed(_) => "failed",
        },
        "damaged": report.broken.iter().map(|broken| json!({
            "snapshot": broken.snapshot.to_string(),
            "disk": broken.disk,
            "what": broken.what,
            "lost_bytes": broken.lost,
            "ranges": broken.places.iter().map(|place| json!({
                "offset": place.offset, "length": place.length,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    if !warnings.is_empty() {
        json["warnings"] = first_warnings(&warnings, LISTS_ALL).into();
    }
    let mut reported = Report::done(json, text).below(!warnings.is_empty());
    if !damaged.is_empty() {
        reported.code = DAMAGED;
    }
    reported
}

/// What is wrong though nothing is lost by it.
fn warnings(report: &VerifyReport) -> Vec<String> {
    let harmless = report.harmless.iter();
    let mut warnings: Vec<String> = harmless
        .map(|what| format!("{what}: no snapshot that was looked at has lost anything by it"))
        .collect();
    if let Noted::Failed(error) = &report.noted {
        warnings.push(format!(
            "what is damaged could not be noted in the vault for the next run: {error}"
        ));
    }
    warnings
}

/// What is damaged, and the verdict.
fn describe(report: &VerifyReport, damaged: usize, warnings: &[String]) -> String {
    let lines = report.broken.iter().flat_map(|broken| {
        let disk = broken.disk.as_deref();
        let disk = disk.map(|disk| format!(", {disk}")).unwrap_or_default();
        let places = broken.places.iter();
        let places = places.map(|place| format!("  cannot be restored: bytes {place}"));
        let head = format!("damaged: {}{disk}: {}", broken.snapshot, broken.what);
        std::iter::once(head).chain(places)
    });
    let warned = warnings.iter().map(|warning| format!("warning: {warning}"));
    let mut text = listed(lines.chain(warned), MOST_DAMAGE, LISTS_ALL);
    let snapshots = counted(report.snapshots, "snapshot");
    let segments = counted(report.segments, "segment");
    // Writing to a string cannot fail.
    let _ = match (damaged, report.unread > 0) {
        (0, true) => write!(
            text,
            "nothing {} in {snapshots}, but of the data only a sample was read: {segments}, {}",
            match report.harmless.is_empty() {
                true => "damaged was seen",
                false => "that is lost was seen",
            },
            report.bytes
        ),
        (0, false) => write!(
            text,
            "{}: {snapshots}, {segments}, {} read",
            match report.harmless.is_empty() {
                true => "all is whole",
                false => "nothing is lost",
            },
            report.bytes
        ),
        (count, sampled) => write!(
            text,
            "of a damaged one `restore --keep-going` gets what is not lost; {}\n{count} of \
             {snapshots} damaged{}",
            match report.noted {
                Noted::Done => {
                    "what is damaged was noted in the vault: the next snapshot of each disk \
                     stores it again"
                }
                Noted::Nothing => "the next snapshot of each disk stores again what it needs of it",
                Noted::Failed(_) => {
                    "take the next of each disk with `snapshot --full`, as others build on what \
                     is damaged"
                }
            },
            match (sampled, count < report.snapshots) {
                (true, _) => ", and of the data only a sample was read",
                (false, true) => "; the others are whole",
                (false, false) => "",
            }
        ),
    };
    text
}
