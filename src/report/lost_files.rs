//! The files that damaged snapshots have lost bytes of.

use super::ls::put_path;
use crate::engine::{LostFile, LostFiles};
use crate::error::Result;
use crate::model::{Bytes, SnapshotId, printable};
use serde_json::{Map, Value, json};

/// Most files of a document: it is one line.
const MOST_FILES: usize = 1000;

/// Those of one snapshot, or why they cannot be told.
#[derive(Debug)]
pub struct SnapshotFiles {
    /// Which snapshot.
    pub snapshot: SnapshotId,
    /// Its files.
    pub lost: Result<LostFiles>,
}

/// As a document.
pub(super) fn document(files: &SnapshotFiles) -> Value {
    let snapshot = files.snapshot.to_string();
    match &files.lost {
        Err(error) => json!({
            "snapshot": snapshot,
            "files": [],
            "more_files": null,
            "in_no_file_bytes": null,
            "not_asked": [error.to_string()],
        }),
        Ok(lost) => {
            let shown = lost.files.iter().take(MOST_FILES);
            let more = lost.files.len().saturating_sub(MOST_FILES) as u64 + lost.more;
            json!({
                "snapshot": snapshot,
                "files": shown.map(of_file).collect::<Vec<_>>(),
                "more_files": more,
                "in_no_file_bytes": lost.in_no_file,
                "not_asked": lost.unasked,
            })
        }
    }
}

fn of_file(file: &LostFile) -> Value {
    let mut document = Map::new();
    put_path(&mut document, "path", &file.path);
    document.insert("filesystem".into(), json!(file.filesystem));
    document.insert("mounted".into(), json!(file.was_mounted));
    document.insert("lost_bytes".into(), json!(file.lost));
    document.into()
}

/// In lines.
pub(super) fn lines(files: &SnapshotFiles) -> Vec<String> {
    let snapshot = files.snapshot;
    let lost = match &files.lost {
        Err(error) => {
            return vec![format!(
                "files of {snapshot} that are hit: not found out: {error}"
            )];
        }
        Ok(lost) => lost,
    };
    let mut lines = Vec::new();
    if !lost.files.is_empty() {
        lines.push(format!("files of {snapshot} that have lost bytes:"));
    }
    let shown = lost.files.iter();
    lines.extend(shown.map(|file| {
        let place = match file.was_mounted {
            true => String::new(),
            false => format!(" in {}", file.filesystem),
        };
        format!(
            "  {}{place}: {} of it",
            printable::path(&file.path),
            file.lost
        )
    }));
    if lost.more > 0 {
        lines.push(format!("  and {} more files", lost.more));
    }
    if lost.in_no_file > Bytes(0) {
        lines.push(format!(
            "  {} of {snapshot} in no file that was found: what a filesystem keeps for itself, \
             free space, or what could not be asked",
            lost.in_no_file
        ));
    }
    let unasked = lost.unasked.iter();
    lines.extend(unasked.map(|what| format!("  not asked, so there may be more: {what}")));
    lines
}
