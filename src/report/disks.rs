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

/// Longest serial number that is shown, in bytes; `--json` shows all of it.
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
        let mounted = Mounted::of(&layout, disk);
        documents.push(document(disk, is_tracked, last.as_deref(), &mounted));
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
        below.push(lines(&mounted));
    }
    let table = table_text(&table);
    let rows = table.lines().zip(std::iter::once(Vec::new()).chain(below));
    let rows = rows.flat_map(|(row, below)| std::iter::once(row.to_owned()).chain(below));
    let mut text = rows.collect::<Vec<_>>().join("\n");
    if let Some(error) = unknown {
        // Writing to a string cannot fail.
        let _ = write!(text, "\nthe last snapshots are not known: {error}");
    }
    Report::done(json!({"disks": documents}), text)
}

/// A filesystem on a disk.
struct Mounted<'a> {
    filesystem: &'a Filesystem,
    target: String,
    /// It lies in a file of a filesystem on that disk.
    stacked: bool,
    freezable: bool,
    note: Option<String>,
}

impl<'a> Mounted<'a> {
    /// Those of a disk.
    fn of(layout: &'a HostLayout, disk: &Disk) -> Vec<Self> {
        let all = layout.mounts.filesystems().iter();
        let here = all.filter(|filesystem| filesystem.disks.contains(&disk.dev()));
        let mounted = here.map(|filesystem| {
            let (freezable, note) = match freezable(filesystem) {
                Freezable::Yes => (true, None),
                Freezable::ReadOnly => (true, Some("read-only: needs no freezing".to_owned())),
                Freezable::No(why) => (false, Some(why)),
            };
            Self {
                filesystem,
                target: filesystem.target().display().to_string(),
                stacked: is_stacked(layout, filesystem, disk),
                freezable,
                note,
            }
        });
        mounted.collect()
    }

    fn document(&self) -> Value {
        json!({
            "source": self.filesystem.source,
            "target": self.target,
            "type": self.filesystem.fstype,
            "mounts": self.filesystem.mounts.len(),
            "stacked": self.stacked,
            "freezable": self.freezable,
            "note": self.note,
        })
    }

    fn line(&self) -> String {
        let cannot = match self.freezable {
            true => "",
            false => ", cannot be frozen",
        };
        let more = match self.filesystem.mounts.len() {
            0 | 1 => String::new(),
            count => format!(", at {count} places"),
        };
        let (target, fstype) = (&self.target, &self.filesystem.fstype);
        one_line(&format!("   {target} ({fstype}{cannot}{more})")).into_owned()
    }
}

/// The disk as scripts know it.
fn document(disk: &Disk, is_tracked: bool, last: Option<&str>, mounted: &[Mounted<'_>]) -> Value {
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
        "filesystems": mounted.iter().map(Mounted::document).collect::<Vec<_>>(),
    })
}

/// Whether the filesystem lies in a file of another one on that disk.
fn is_stacked(layout: &HostLayout, filesystem: &Filesystem, disk: &Disk) -> bool {
    let all = layout.mounts.filesystems();
    let here = |below: &DevNumber| {
        let mut found = all.iter().filter(|other| other.dev == *below);
        found.any(|other| other.disks.contains(&disk.dev()))
    };
    filesystem.below.iter().any(here)
}

/// What is mounted from a disk, a line each; what lies in files on it is counted.
fn lines(mounted: &[Mounted<'_>]) -> Vec<String> {
    let own = mounted.iter().filter(|one| !one.stacked);
    let mut lines: Vec<String> = own.map(Mounted::line).collect();
    let stacked = mounted.len() - lines.len();
    if stacked > 0 {
        let count = counted(stacked, "filesystem");
        lines.push(format!("   {count} in files on it"));
    }
    lines
}
