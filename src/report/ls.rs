//! What is at a path in a snapshot, and what was mounted where.

use super::Report;
use super::cp::is_of_the_moment;
use super::text::{cells, counted, listed, table_text};
use crate::engine::{ListOutcome, ListedEntry};
use crate::export::{HostMount, HostPlaces, LeftOutPlace, NodeKind};
use crate::format::Manifest;
use crate::model::exit::{BELOW, DAMAGED};
use crate::model::printable;
use comfy_table::{Table, presets};
use jiff::Timestamp;
use nix::sys::stat::{FileStat, major, minor};
use serde_json::{Map, Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Most entries in a document.
const MOST_ENTRIES: usize = 1 << 16;
/// Most places that are named as they are not in the snapshot.
const MOST_MISSED: usize = 20;
/// Most bytes of the list of what cannot be listed.
const MOST_UNLISTED: usize = 8000;

/// A line for people. `named` is the path that was asked for.
pub fn line(entry: &ListedEntry, named: &Path, long: bool) -> String {
    let name = printable::path(shown(entry, named));
    if !long {
        return name;
    }
    let elsewhere = entry.elsewhere.as_ref().map(|fstype| {
        let fstype = printable::one_line(fstype);
        format!(" ({fstype}, not in the snapshot)")
    });
    let link = entry
        .link
        .as_ref()
        .map(|to| format!(" -> {}", printable::path(to)));
    let ends = [link, elsewhere].into_iter().flatten().collect::<String>();
    let Some(stat) = &entry.stat else {
        return format!("d????????? {:>58}{name}{ends}", "");
    };
    format!(
        "{}{} {:>3} {:>5} {:>5} {:>12} {} {name}{ends}",
        letter(entry.kind),
        permissions(stat.st_mode),
        stat.st_nlink,
        stat.st_uid,
        stat.st_gid,
        size_or_device(entry.kind, stat),
        time(stat),
    )
}

/// The path from what was named on; that itself by its own name.
fn shown<'a>(entry: &'a ListedEntry, named: &'a Path) -> &'a Path {
    match entry.path.as_os_str().is_empty() {
        true => named,
        false => &entry.path,
    }
}

fn letter(kind: Option<NodeKind>) -> char {
    match kind {
        Some(NodeKind::File) => '-',
        Some(NodeKind::Directory) => 'd',
        Some(NodeKind::Link) => 'l',
        Some(NodeKind::BlockDevice) => 'b',
        Some(NodeKind::CharacterDevice) => 'c',
        Some(NodeKind::Fifo) => 'p',
        Some(NodeKind::Socket) => 's',
        None => '?',
    }
}

fn kind_name(kind: Option<NodeKind>) -> &'static str {
    match kind {
        Some(NodeKind::File) => "file",
        Some(NodeKind::Directory) => "directory",
        Some(NodeKind::Link) => "symlink",
        Some(NodeKind::BlockDevice) => "block_device",
        Some(NodeKind::CharacterDevice) => "character_device",
        Some(NodeKind::Fifo) => "fifo",
        Some(NodeKind::Socket) => "socket",
        None => "unknown",
    }
}

/// As ls(1) has them.
fn permissions(mode: u32) -> String {
    let special = |bit: u32, set: char, at: u32| {
        let may_run = mode & (1 << at) != 0;
        match (mode & bit != 0, may_run) {
            (true, true) => set,
            (true, false) => set.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        }
    };
    let bit = |at: u32, letter: char| if mode & (1 << at) != 0 { letter } else { '-' };
    [
        bit(8, 'r'),
        bit(7, 'w'),
        special(0o4000, 's', 6),
        bit(5, 'r'),
        bit(4, 'w'),
        special(0o2000, 's', 3),
        bit(2, 'r'),
        bit(1, 'w'),
        special(0o1000, 't', 0),
    ]
    .iter()
    .collect()
}

fn size_or_device(kind: Option<NodeKind>, stat: &FileStat) -> String {
    match kind {
        Some(NodeKind::BlockDevice | NodeKind::CharacterDevice) => {
            format!("{}, {}", major(stat.st_rdev), minor(stat.st_rdev))
        }
        _ => stat.st_size.to_string(),
    }
}

/// To the second; what no calendar has as the number of seconds.
fn time(stat: &FileStat) -> String {
    let time = Timestamp::from_second(stat.st_mtime);
    time.map_or_else(|_| stat.st_mtime.to_string(), |time| time.to_string())
}

/// A path for a document: as text, and by its bytes where it is none.
pub(super) fn put_path(document: &mut Map<String, Value>, key: &str, path: &Path) {
    document.insert(key.into(), json!(path.to_string_lossy()));
    if path.to_str().is_none() {
        let bytes = hex::encode(path.as_os_str().as_bytes());
        document.insert(format!("{key}_hex"), json!(bytes));
    }
}

/// What `ls` has found, for a document.
pub struct TreeListing {
    head: Map<String, Value>,
    entries: Vec<Value>,
    left_out: u64,
}

impl TreeListing {
    /// Of a path in a snapshot.
    pub fn new(manifest: &Manifest, path: &Path) -> Self {
        let mut head = head(manifest);
        put_path(&mut head, "path", path);
        Self {
            head,
            entries: Vec::new(),
            left_out: 0,
        }
    }

    /// Adds what was found, as long as there is room.
    pub fn add(&mut self, entry: &ListedEntry, named: &Path) {
        if self.entries.len() >= MOST_ENTRIES {
            self.left_out += 1;
            return;
        }
        let mut document = Map::new();
        put_path(&mut document, "path", shown(entry, named));
        document.insert("type".into(), json!(kind_name(entry.kind)));
        if let Some(stat) = &entry.stat {
            let more = json!({
                "mode": format!("{:04o}", stat.st_mode & 0o7777),
                "links": stat.st_nlink,
                "owner": stat.st_uid,
                "group": stat.st_gid,
                "size_bytes": stat.st_size,
                "modified": {"seconds": stat.st_mtime, "nanoseconds": stat.st_mtime_nsec},
            });
            if let Value::Object(more) = more {
                document.extend(more);
            }
            if matches!(
                entry.kind,
                Some(NodeKind::BlockDevice | NodeKind::CharacterDevice)
            ) {
                let device = json!({"major": major(stat.st_rdev), "minor": minor(stat.st_rdev)});
                document.insert("device".into(), device);
            }
        }
        if let Some(link) = &entry.link {
            put_path(&mut document, "link", link);
        }
        if let Some(fstype) = &entry.elsewhere {
            document.insert("not_in_snapshot".into(), json!(fstype));
        }
        self.entries.push(document.into());
    }

    /// What `ls` reports. The lines for people were written before.
    pub fn report(self, outcome: &ListOutcome) -> Report {
        let unlisted = &outcome.unlisted;
        let mut document = self.head;
        document.insert("entries".into(), json!(self.entries));
        document.insert("left_out".into(), json!(self.left_out));
        let unread: Vec<Value> = unlisted
            .iter()
            .map(|one| {
                let mut document = Map::new();
                put_path(&mut document, "path", &one.place);
                document.insert("what".into(), json!(one.why));
                document.into()
            })
            .collect();
        document.insert("unread".into(), json!(unread));
        let left_out = outcome.left_out.iter().map(|place| {
            let mut document = Map::new();
            put_path(&mut document, "path", &place.place);
            document.insert("type".into(), json!(place.fstype));
            Value::from(document)
        });
        let left_out: Vec<Value> = left_out.collect();
        document.insert("not_in_snapshot".into(), json!(left_out));
        document.insert("warnings".into(), json!(outcome.warnings));
        let mut report = Report::done(document.into(), String::new());
        let is_missed = |place: &LeftOutPlace| !is_of_the_moment(&place.fstype);
        let missed = outcome.left_out.iter().filter(|place| is_missed(place));
        for place in missed.clone().take(MOST_MISSED) {
            let fstype = printable::one_line(&place.fstype);
            let place = printable::path(&place.place);
            let line = format!("not in the snapshot: {place} ({fstype} was mounted there)\n");
            report.text.push_str(&line);
        }
        if self.left_out > 0 || missed.count() > 0 || !outcome.warnings.is_empty() {
            report.code = BELOW;
        }
        if !unlisted.is_empty() {
            let lines = unlisted
                .iter()
                .map(|one| format!("cannot list {}: {}", printable::path(&one.place), one.why));
            report
                .text
                .push_str(&listed(lines, MOST_UNLISTED, "--json lists more"));
            let count = counted(unlisted.len(), "place");
            report
                .text
                .push_str(&format!("{count} could not be listed"));
            let damaged = unlisted.iter().any(|one| !one.unopened);
            report.code = if damaged { DAMAGED } else { BELOW };
        }
        report
    }
}

fn head(manifest: &Manifest) -> Map<String, Value> {
    let mut head = Map::new();
    head.insert("snapshot".into(), json!(manifest.snapshot.to_string()));
    head.insert("host".into(), json!(manifest.host));
    head
}

/// What was mounted where, in the words of the record.
pub fn mounts(manifest: &Manifest) -> Report {
    let places = HostPlaces::recorded(manifest);
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["PLACE", "TYPE", "DISK", "SOURCE", "FOLDER"]);
    let mut documents = Vec::new();
    for (place, mount) in places.places() {
        let mut document = Map::new();
        put_path(&mut document, "place", place);
        let row = match mount {
            HostMount::Elsewhere { fstype } => {
                document.insert("type".into(), json!(fstype));
                document.insert("in_snapshot".into(), json!(false));
                let fstype = format!("{fstype}, not in it");
                [
                    printable::path(place),
                    fstype,
                    String::new(),
                    String::new(),
                    String::new(),
                ]
            }
            HostMount::Here { filesystem, root } => {
                let Some(found) = filesystem.in_record(manifest) else {
                    continue;
                };
                let (disk, record) = (found.disk, found.record);
                document.insert("type".into(), json!(record.fstype));
                document.insert("in_snapshot".into(), json!(true));
                document.insert("disk".into(), json!(disk.identity.name));
                document.insert("source".into(), json!(record.source));
                put_path(&mut document, "folder", root);
                [
                    printable::path(place),
                    record.fstype.clone(),
                    disk.identity.name.clone(),
                    record.source.clone(),
                    printable::path(root),
                ]
            }
        };
        table.add_row(cells(row));
        documents.push(Value::from(document));
    }
    let mut document = head(manifest);
    document.insert("mounts".into(), json!(documents));
    let (snapshot, host) = (manifest.snapshot, printable::one_line(&manifest.host));
    let verdict = match documents.len() {
        0 => {
            "nothing that it has was mounted: name a filesystem with --disk and --partition".into()
        }
        count => counted(count, "mount"),
    };
    let text = format!(
        "{}\n{snapshot} (host {host}): {verdict}",
        table_text(&table)
    );
    let text = if documents.is_empty() {
        format!("{snapshot} (host {host}): {verdict}")
    } else {
        text
    };
    let mut report = Report::done(document.into(), text);
    for doubt in places.doubts() {
        report.warn(doubt);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_shown_as_ls_does() {
        for (mode, text) in [
            (0o644, "rw-r--r--"),
            (0o4751, "rwsr-x--x"),
            (0o6000, "--S--S---"),
            (0o1777, "rwxrwxrwt"),
            (0o1000, "--------T"),
        ] {
            assert_eq!(permissions(mode), text);
        }
    }
}
