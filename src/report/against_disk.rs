//! A snapshot beside the disks that it was taken of.

use super::Report;
use super::text::{counted, listed};
use crate::engine::{DiskComparison, Parts};
use crate::model::exit::{BELOW, DAMAGED};
use crate::model::{Bytes, SnapshotId};
use serde_json::{Value, json};
use std::fmt::Write;

/// Most bytes of the list of what differs.
const MOST_PARTS: usize = 8000;

/// What `verify --against-disk` reports.
pub fn report(snapshot: SnapshotId, found: &[DiskComparison]) -> Report {
    let compared: Bytes = found.iter().map(|one| one.compared).sum();
    let json = json!({
        "snapshots": 1,
        "segments": 0,
        "read_bytes": 0,
        "unread_segments": 0,
        "damage_noted": "nothing",
        "damaged": [],
        "snapshot": snapshot.to_string(),
        "against_disk": found.iter().map(document).collect::<Vec<_>>(),
    });
    let wrong = found.iter().any(|one| one.wrong.bytes.0 > 0);
    let unknown = found
        .iter()
        .any(|one| one.unknown.bytes.0 > 0 || one.lost.0 > 0);
    let mut text = listed(found.iter().flat_map(lines), MOST_PARTS, "--json lists all");
    let disks = counted(found.len(), "disk");
    // Writing to a string cannot fail.
    let _ = match (wrong, unknown) {
        (true, _) => write!(
            text,
            "{} is NOT what was on the disk: take the next with `snapshot --full`, and please \
             report this",
            snapshot
        ),
        (false, true) => write!(
            text,
            "{}: nothing wrong was found on {disks}, but not all could be judged",
            snapshot
        ),
        (false, false) => write!(
            text,
            "{} is what {disks} had at its cut: {compared} compared",
            snapshot
        ),
    };
    let mut report = Report::done(json, text);
    report.code = match (wrong, unknown) {
        (true, _) => DAMAGED,
        (false, true) => BELOW,
        (false, false) => report.code,
    };
    report
}

fn document(one: &DiskComparison) -> Value {
    let parts = |parts: &Parts| {
        let ranges = parts.first.iter().map(|part| {
            json!({
                "offset": part.offset, "length": part.length,
            })
        });
        json!({"bytes": parts.bytes, "ranges": ranges.collect::<Vec<_>>()})
    };
    json!({
        "disk": one.disk,
        "device": one.device,
        "compared_bytes": one.compared,
        "changed_bytes": one.changed,
        "free_bytes": one.free,
        "wrong": parts(&one.wrong),
        "unknown": parts(&one.unknown),
        "lost_bytes": one.lost,
        "unproven": one.unproven,
    })
}

fn lines(one: &DiskComparison) -> Vec<String> {
    let disk = &one.disk;
    let mut lines = vec![format!(
        "{disk}: {} compared, {} written since the cut, {} free space",
        one.compared, one.changed, one.free
    )];
    let named = |what: &str, parts: &Parts| {
        let each = parts.first.iter();
        let each = each.map(|part| format!("  {what}: {disk}: bytes {part}"));
        each.collect::<Vec<_>>()
    };
    if let Some(why) = &one.unproven {
        lines.push(format!(
            "{disk}: what was written since is not known: {why}"
        ));
    }
    if one.lost.0 > 0 {
        lines.push(format!(
            "{disk}: {} are lost in the vault and were not compared: `verify` shows more",
            one.lost
        ));
    }
    if one.unknown.bytes.0 > 0 {
        lines.push(format!(
            "{disk}: {} differ, and it is not known whether they may: written since, set aside for \
             a file, or free space of a filesystem that is not mounted now",
            one.unknown.bytes
        ));
        lines.extend(named("differs", &one.unknown));
    }
    if one.wrong.bytes.0 > 0 {
        lines.push(format!(
            "{disk}: {} differ that were not written since the cut, and are not free space",
            one.wrong.bytes
        ));
        lines.extend(named("wrong", &one.wrong));
    }
    lines
}
