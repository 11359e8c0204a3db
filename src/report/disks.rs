//! The disks of this host.

use super::Report;
use super::text::{cells, counted, table_text};
use crate::device::{Disk, Filesystem, Freezable, HostLayout, freezable};
use crate::error::Error;
use crate::model::printable::one_line;
use crate::model::{DevNumber, SnapshotId, clip};
use crate::track::TrackedStatus;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write;

/// Longest serial number that is shown, in bytes; `--json` tells all of it.
const MOST_SERIAL: usize = 20;

/// What is known of the host's disks.
pub struct HostDisks {
    /// The disks, and what is mounted from them.
    pub layout: HostLayout,
    /// Those that are tracked.
    pub tracked: Vec<TrackedStatus>,
    /// The newest snapshot of each.
    pub last: HashMap<DevNumber, SnapshotId>,
    /// Why the newest snapshots are not known.
    pub unknown: Option<Error>,
}

/// What `disks` reports.
pub fn report(host: HostDisks) -> Report {
    let HostDisks {
        layout,
        tracked,
        last,
        unknown,
    } = host;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["DISK", "SIZE", "SERIAL", "TRACKED", "LAST SNAPSHOT"]);
    let (mut documents, mut below) = (Vec::new(), Vec::new());
    for disk in layout.topology.disks() {
        let is_tracked = tracked.iter().any(|status| status.disk.dev == disk.dev());
        let last = last.get(&disk.dev()).map(ToString::to_string);
        let document = describe(&layout, disk, is_tracked, last.as_deref());
        table.add_row(cells([
            disk.name().to_owned(),
            disk.identity.size.to_string(),
            disk.identity
                .serial
                .as_deref()
                .map_or_else(|| "-".into(), |serial| clip(serial, MOST_SERIAL)),
            if is_tracked { "yes" } else { "no" }.to_owned(),
            last.unwrap_or_else(|| "-".into()),
        ]));
        below.push(mounted(&document));
        documents.push(document);
    }
    let table = table_text(&table);
    let lines = table.lines().zip(std::iter::once(Vec::new()).chain(below));
    let lines = lines.flat_map(|(line, below)| std::iter::once(line.to_owned()).chain(below));
    let mut text = lines.collect::<Vec<_>>().join("\n");
    if let Some(error) = unknown {
        // Writing to a string cannot fail.
        let _ = write!(text, "\nthe last snapshots are not known: {error}");
    }
    Report::done(json!({"disks": documents}), text)
}

fn describe(layout: &HostLayout, disk: &Disk, is_tracked: bool, last: Option<&str>) -> Value {
    let filesystems: Vec<Value> = layout
        .mounts
        .filesystems()
        .iter()
        .filter(|filesystem| filesystem.disks.contains(&disk.dev()))
        .map(|filesystem| {
            let (can, why) = match freezable(filesystem) {
                Freezable::Yes => (true, None),
                Freezable::ReadOnly => (true, Some("read-only: needs no freezing".to_owned())),
                Freezable::No(why) => (false, Some(why)),
            };
            json!({
                "source": filesystem.source,
                "target": filesystem.target().display().to_string(),
                "type": filesystem.fstype,
                "mounts": filesystem.mounts.len(),
                "stacked": is_stacked(layout, filesystem, disk),
                "freezable": can,
                "note": why,
            })
        })
        .collect();
    json!({
        "disk": disk.name(),
        "device": disk.path.display().to_string(),
        "size_bytes": disk.identity.size,
        "logical_block_bytes": disk.identity.logical_block,
        "serial": disk.identity.serial,
        "wwn": disk.identity.wwn,
        "diskseq": disk.identity.diskseq,
        "table_id": disk.identity.table_id,
        "model": disk.model,
        "read_only": disk.read_only,
        "trackable": disk.request_based,
        "tracked": is_tracked,
        "last_snapshot": last,
        "partitions": disk.partitions,
        "filesystems": filesystems,
    })
}

/// Whether it lies in a file of a filesystem on that disk.
fn is_stacked(layout: &HostLayout, filesystem: &Filesystem, disk: &Disk) -> bool {
    let all = layout.mounts.filesystems();
    let here = |below: &DevNumber| {
        let mut found = all.iter().filter(|other| other.dev == *below);
        found.any(|other| other.disks.contains(&disk.dev()))
    };
    filesystem.below.iter().any(here)
}

/// What is mounted from a disk, a line each; what lies in files on it is counted.
fn mounted(document: &Value) -> Vec<String> {
    let all = document["filesystems"].as_array().into_iter().flatten();
    let (stacked, own): (Vec<&Value>, Vec<&Value>) =
        all.partition(|filesystem| filesystem["stacked"] == true);
    let line = |filesystem: &&Value| {
        let text = |key: &str| filesystem[key].as_str().unwrap_or_default();
        let cannot = match filesystem["freezable"].as_bool() {
            Some(false) => ", cannot be frozen",
            _ => "",
        };
        let more = match filesystem["mounts"].as_u64() {
            None | Some(0 | 1) => String::new(),
            Some(count) => format!(", at {count} places"),
        };
        let line = format!("   {} ({}{cannot}{more})", text("target"), text("type"));
        one_line(&line).into_owned()
    };
    let mut lines: Vec<String> = own.iter().map(line).collect();
    if !stacked.is_empty() {
        let count = counted(stacked.len(), "filesystem");
        lines.push(format!("   {count} in files on it"));
    }
    lines
}
