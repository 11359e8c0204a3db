//! The keys of an encrypted vault, and what was done to them.

use super::Report;
use crate::model::SnapshotId;
use crate::model::printable::one_line;
use crate::store::KeyFound;
use serde_json::json;
use std::path::PathBuf;

/// What was done to the keys of a vault.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    /// The key that is there now.
    pub added: Option<SnapshotId>,
    /// The key that is gone.
    pub removed: Option<SnapshotId>,
    /// The new one is in the place of the one that was given.
    pub changed: bool,
    /// Where a writer's key was written to.
    pub file: Option<PathBuf>,
}

/// The keys that are there, and what was done.
pub fn report(keys: &[KeyFound], change: &KeyChange) -> Report {
    let each = keys.iter().map(|key| match &key.entry {
        Ok(entry) => json!({
            "key": key.id.to_string(),
            "label": entry.label(),
            "made": entry.made(),
            "problem": null,
        }),
        Err(why) => json!({
            "key": key.id.to_string(),
            "label": null,
            "made": null,
            "problem": why,
        }),
    });
    let file = change.file.as_ref().map(|file| file.display().to_string());
    let json = json!({
        "keys": each.collect::<Vec<_>>(),
        "added": change.added.map(|id| id.to_string()),
        "removed": change.removed.map(|id| id.to_string()),
        "writer_file": file,
    });
    let mut lines: Vec<String> = keys.iter().map(line).collect();
    lines.push(verdict(keys.len(), change, file.as_deref()));
    Report::done(json, lines.join("\n")).below(keys.iter().any(|key| key.entry.is_err()))
}

fn line(key: &KeyFound) -> String {
    match &key.entry {
        Ok(entry) => format!(
            "{}  {}  {}",
            key.id,
            entry.made().strftime("%Y-%m-%d %H:%M UTC"),
            one_line(entry.label())
        ),
        Err(why) => format!("{}  cannot be read: {}", key.id, one_line(why)),
    }
}

fn verdict(left: usize, change: &KeyChange, file: Option<&str>) -> String {
    let opens = "who had the old one, and a copy of it, can still open a copy of the vault";
    match change {
        KeyChange {
            added: Some(id),
            changed: true,
            ..
        } => format!(
            "the new passphrase opens the vault, as key {id}; the old one no longer does: {opens}"
        ),
        KeyChange {
            removed: Some(id), ..
        } => format!("key {id} is gone; {opens}"),
        KeyChange {
            added: Some(id), ..
        } => format!("key {id} opens the vault, too"),
        _ => match (file, left) {
            (Some(file), _) => format!(
                "a writer's key is in {}: it takes snapshots, and reads no data of any",
                one_line(file)
            ),
            (None, 1) => "1 key opens the vault".into(),
            (None, many) => format!("{many} keys open the vault"),
        },
    }
}
