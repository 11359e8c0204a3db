//! What `list` keeps of the manifests of a vault: it has a bound, however many there are and
//! whatever they say.

use super::outcome::cells;
use super::snapshot::document;
use crate::format::{DiskRecord, Manifest};
use crate::model::clip;
use crate::model::{Bytes, SnapshotId};
use comfy_table::{Table, presets};
use serde_json::Value;

/// Most bytes of memory for the documents of all snapshots together.
const MOST_DOCUMENTS: usize = 128 << 20;
/// Most bytes of a cell.
const MOST_CELL: usize = 200;

/// A snapshot as it is listed.
pub struct Listed {
    pub snapshot: SnapshotId,
    row: [String; 9],
    /// If there is room for it, and it was asked for.
    pub document: Option<Value>,
}

/// What is kept of the manifests of a vault, one of which is in memory at a time: it has a bound
/// however many there are, and whatever they say.
#[derive(Default)]
pub struct Shown {
    pub all: Vec<Listed>,
    /// Of the documents.
    weight: usize,
    /// Documents for which there was no room.
    pub left_out: usize,
}

impl Shown {
    /// Keeps what is shown of it.
    pub fn add(&mut self, manifest: &Manifest, as_json: bool) {
        let document = as_json.then(|| document(manifest)).filter(|document| {
            self.weight = self.weight.saturating_add(weight(document));
            self.weight <= MOST_DOCUMENTS
        });
        self.left_out += usize::from(as_json && document.is_none());
        self.all.push(Listed {
            snapshot: manifest.snapshot,
            row: row(manifest),
            document,
        });
    }

    /// For people.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "ID",
            "TIME (UTC)",
            "HOST",
            "DISKS",
            "SIZE",
            "LEVEL",
            "MODE",
            "STORED",
            "TAGS",
        ]);
        table.add_rows(self.all.iter().map(|one| &one.row));
        table
    }
}

/// Most bytes that a value takes in memory, or written down.
fn weight(value: &Value) -> usize {
    const EACH: usize = 64;
    // A control character is written as six.
    let text = |text: &str| {
        let plain = text.bytes().filter(|byte| matches!(byte, b' '..=b'~'));
        let plain = plain.count();
        EACH + plain + 6 * (text.len() - plain)
    };
    match value {
        Value::String(string) => text(string),
        Value::Array(values) => EACH + values.iter().map(weight).sum::<usize>(),
        Value::Object(keys) => {
            let each = keys.iter().map(|(key, value)| text(key) + weight(value));
            EACH + each.sum::<usize>()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => EACH,
    }
}

fn row(manifest: &Manifest) -> [String; 9] {
    let each = |what: &dyn Fn(&DiskRecord) -> String| {
        let mut all: Vec<String> = manifest.disks.iter().map(what).collect();
        all.dedup();
        all.join(",")
    };
    let size = manifest
        .disks
        .iter()
        .map(|disk| disk.identity.size)
        .sum::<Bytes>();
    let stored = manifest
        .disks
        .iter()
        .map(|disk| disk.stored_bytes)
        .sum::<Bytes>();
    let tags: Vec<String> = manifest
        .tags
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let row = cells([
        manifest.snapshot.to_string(),
        manifest.time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        manifest.host.clone(),
        each(&|disk| disk.identity.name.clone()),
        size.to_string(),
        manifest.level.to_string(),
        each(&|disk| disk.mode.to_string()),
        stored.to_string(),
        tags.join(" "),
    ]);
    row.map(|cell| clip(&cell, MOST_CELL))
}
