//! Disks that were restored.

use super::Report;
use super::text::listed;
use crate::engine::Restored;
use crate::format::Manifest;
use crate::model::Bytes;
use crate::model::exit::DAMAGED;
use crate::model::printable::one_line;
use crate::restore::{TableChange, TableKind};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Most bytes of the list of what is lost.
const MOST_LOST: usize = 8000;

/// What `restore` reports.
pub fn report(manifest: &Manifest, restored: &[Restored<'_>], took: Duration) -> Report {
    let mut disks: Vec<Value> = restored.iter().map(|one| document(manifest, one)).collect();
    let json = match disks.as_slice() {
        // One disk's keys are also those of the whole.
        [only] => {
            let mut whole = only.clone();
            whole["disks"] = json!([only]);
            whole
        }
        _ => json!({
            "snapshot": manifest.snapshot.to_string(),
            "host": manifest.host,
            "disks": std::mem::take(&mut disks),
        }),
    };
    let damaged: Bytes = restored.iter().map(|one| one.report.damaged_bytes).sum();
    let mut report = Report::done(json, text(manifest, restored, took, damaged));
    if damaged.0 > 0 {
        report.code = DAMAGED;
    }
    report
}

fn document(manifest: &Manifest, one: &Restored<'_>) -> Value {
    let report = &one.report;
    json!({
        "snapshot": manifest.snapshot.to_string(),
        "host": manifest.host,
        "disk": one.disk.identity.name,
        "target": one.target.display().to_string(),
        "format": one.kind.name(),
        "size_bytes": one.disk.identity.size,
        "data_bytes": report.data,
        "hole_bytes": report.holes,
        "damaged_bytes": report.damaged_bytes,
        "damaged": report.damaged.iter().map(|damage| json!({
            "offset": damage.place.offset,
            "length": damage.place.length,
            "what": damage.what,
        })).collect::<Vec<_>>(),
        "table": one.table.as_ref().map(table),
        "notes": one.notes,
    })
}

fn table(change: &TableChange) -> Value {
    json!({
        "type": match change.kind {
            TableKind::Gpt => "gpt",
            TableKind::Mbr => "mbr",
            TableKind::None => "none",
        },
        "backup_moved": change.moved,
        "grown": change.grown.map(|grown| json!({
            "partition": grown.number,
            "offset": grown.place.offset,
            "length": grown.place.length,
            "length_before": grown.before,
        })),
    })
}

fn text(manifest: &Manifest, restored: &[Restored<'_>], took: Duration, damaged: Bytes) -> String {
    let damages = restored.iter().flat_map(|one| &one.report.damaged);
    let lost = damages.map(|damage| format!("lost: bytes {}: {}", damage.place, damage.what));
    let mut text = listed(lost, MOST_LOST, "--json lists all");
    // Writing to a string cannot fail.
    for one in restored {
        if one.table.as_ref().is_some_and(|change| change.moved) {
            let target = one.target.display().to_string();
            let _ = writeln!(
                text,
                "moved: the backup GPT, to the end of {}",
                one_line(&target)
            );
        }
        if let Some(grown) = one.table.as_ref().and_then(|change| change.grown) {
            let (number, size) = (grown.number, grown.place.length);
            let before = grown.before;
            let _ = writeln!(text, "grown: partition {number}, from {before} to {size}");
        }
        for note in &one.notes {
            let _ = writeln!(text, "note: {}", one_line(note));
        }
        if restored.len() > 1 {
            let target = one.target.display().to_string();
            let (name, target) = (one_line(&one.disk.identity.name), one_line(&target));
            let report = &one.report;
            let (data, holes) = (report.data, report.holes);
            let _ = writeln!(text, "{name} to {target}: {data} of data, {holes} of holes");
        }
    }
    let what = match restored {
        [one] => format!("restored {}", one_line(&one.disk.identity.name)),
        several => format!("restored {} disks", several.len()),
    };
    let data: Bytes = restored.iter().map(|one| one.report.data).sum();
    let holes: Bytes = restored.iter().map(|one| one.report.holes).sum();
    let (snapshot, host) = (manifest.snapshot, one_line(&manifest.host));
    let _ = write!(text, "{what} of {snapshot} (host {host})");
    if let [one] = restored {
        let target = one.target.display().to_string();
        let _ = write!(text, " to {}", one_line(&target));
    }
    let seconds = took.as_secs_f64();
    let _ = write!(
        text,
        ": {data} of data, {holes} of holes, in {seconds:.1} s"
    );
    if damaged.0 > 0 {
        let _ = write!(text, "; {damaged} could not be restored");
    }
    text
}
