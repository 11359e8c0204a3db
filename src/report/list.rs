//! The snapshots of a vault. One manifest is in memory at a time, and what is kept of all of them
//! has a bound, however many there are and whatever they hold.

use super::Report;
use super::drill::{drilled_document, drilled_words, has_failed};
use super::keep::kept_document;
use super::snapshot::document;
use super::text::{cells, counted, listed, table_text};
use crate::engine::{FreeTrace, MayLack, may_lack_of_all};
use crate::error::Error;
use crate::format::{DiskRecord, Manifest};
use crate::model::clip;
use crate::model::exit::DAMAGED;
use crate::model::printable::one_line;
use crate::model::{Bytes, SnapshotId};
use crate::store::{Dated, Drilled, DrillsFound, History, KeptBy};
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::num::NonZeroUsize;

/// Most bytes of memory for the documents of all snapshots together.
const MOST_DOCUMENTS: usize = 128 << 20;
/// Most bytes of a cell.
const MOST_CELL: usize = 200;

/// Most bytes of the list of those that are kept.
const MOST_KEPT: usize = 4000;
/// Most bytes of the list of those whose time is doubtful.
const MOST_DOUBTS: usize = 2000;

/// A snapshot as it is listed.
struct Listed {
    snapshot: SnapshotId,
    row: [String; 9],
    /// What keeps it from being deleted.
    kept: KeptBy,
    /// What drills have found.
    drilled: Option<Drilled>,
    /// If there is room for it, and it was asked for.
    document: Option<Value>,
}

/// What is kept of the snapshots of a vault.
#[derive(Default)]
pub struct Listing {
    /// Whether the documents are asked for, too.
    as_json: bool,
    shown: Vec<Listed>,
    /// Bytes of the documents.
    weight: usize,
    /// Documents for which there was no room.
    left_out: usize,
    damaged: Vec<(SnapshotId, Error)>,
    /// Something is noted as damaged in the vault.
    noted_damage: bool,
    /// Why it is not known of all whether they were drilled.
    lacks_drills: Option<String>,
    /// Of all snapshots, shown or not.
    dated: Vec<Dated>,
    traces: Vec<FreeTrace>,
}

impl Listing {
    /// An empty list. `as_json`: its document will be asked for.
    pub fn new(as_json: bool) -> Self {
        Self {
            as_json,
            ..Self::default()
        }
    }

    /// Takes note of a snapshot, by whose time and maps others are judged.
    pub fn note(&mut self, dated: Dated, manifest: &Manifest) {
        self.dated.push(dated);
        self.traces.push(FreeTrace::of(manifest));
    }

    /// Adds a snapshot to those that are shown, and what its manifest says of how long it is
    /// kept. Where not all documents have room, those that were added first are there.
    pub fn show(&mut self, manifest: &Manifest, kept: KeptBy) {
        let document = self.as_json.then(|| document(manifest));
        let document = document.filter(|document| {
            self.weight = self.weight.saturating_add(weight(document));
            self.weight <= MOST_DOCUMENTS
        });
        self.left_out += usize::from(self.as_json && document.is_none());
        self.shown.push(Listed {
            snapshot: manifest.snapshot,
            row: row(manifest),
            kept,
            drilled: None,
            document,
        });
    }

    /// Leaves so many of those that are shown: the newest, in the order of their time.
    pub fn only_last(&mut self, last: NonZeroUsize) {
        let order = History::of(self.dated.clone(), Timestamp::now()).order;
        let shown = self.shown();
        let newest = order.iter().rev().map(|one| one.id);
        let newest = newest.filter(|id| shown.contains(id)).take(last.get());
        let newest: HashSet<SnapshotId> = newest.collect();
        self.shown.retain(|one| newest.contains(&one.snapshot));
    }

    /// The snapshots that are shown.
    pub fn shown(&self) -> HashSet<SnapshotId> {
        self.shown.iter().map(|one| one.snapshot).collect()
    }

    /// Adds what else keeps those that are shown.
    pub fn add_keeps(&mut self, mut keeps: BTreeMap<SnapshotId, KeptBy>) {
        for one in &mut self.shown {
            one.kept
                .add(keeps.remove(&one.snapshot).unwrap_or_default());
        }
    }

    /// Adds what drills have found of those that are shown.
    pub fn add_drills(&mut self, mut drills: DrillsFound) {
        for one in &mut self.shown {
            one.drilled = drills.of.remove(&one.snapshot);
        }
        self.lacks_drills = drills.lacks;
    }

    /// Adds a snapshot whose manifest is damaged.
    pub fn damaged(&mut self, snapshot: SnapshotId, why: Error) {
        self.damaged.push((snapshot, why));
    }

    /// Adds that something is noted as damaged in the vault.
    pub fn note_damage(&mut self) {
        self.noted_damage = true;
    }

    /// Whether nothing is shown.
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// Whether a damaged manifest was met.
    pub fn has_damage(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// What `list` reports of them, in the order of their time. They were added newest first.
    pub fn report(mut self, location: &str) -> Report {
        self.damaged.reverse();
        self.traces.reverse();
        let now = Timestamp::now();
        let history = History::of(std::mem::take(&mut self.dated), now);
        let order = history.order.iter().rev().map(|one| one.id);
        let places: HashMap<SnapshotId, usize> = order.zip(0..).collect();
        self.shown
            .sort_by_key(|one| places.get(&one.snapshot).copied());
        let ids: HashSet<SnapshotId> = self.shown.iter().map(|one| one.snapshot).collect();
        let doubtful = history.doubtful.iter();
        let doubtful: Vec<_> = doubtful.filter(|one| ids.contains(&one.snapshot)).collect();
        let mut lacking = may_lack_of_all(&self.traces);
        lacking.retain(|one| ids.contains(&one.snapshot));
        let mut text = String::new();
        if !self.shown.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", table_text(&self.table()));
        }
        for (id, error) in &self.damaged {
            let _ = writeln!(text, "damaged: {id}: {error}");
        }
        text.push_str(&listed(self.kept_lines(now), MOST_KEPT, "--json lists all"));
        text.push_str(&listed(self.drill_lines(), MOST_KEPT, "--json lists all"));
        let doubts = doubtful.iter().rev().map(|one| format!("clock: {one}"));
        text.push_str(&listed(doubts, MOST_DOUBTS, "--json lists all"));
        let lines = lacking.iter().map(MayLack::in_words);
        text.push_str(&listed(lines, MOST_DOUBTS, "--json lists all"));
        if self.noted_damage {
            text.push_str(
                "damage was found in this vault before: `stillpoint verify --all` says which \
                 snapshots it harms\n",
            );
        }
        let count = counted(self.shown.len(), "snapshot");
        let _ = write!(text, "{count} in {}", one_line(location));
        let named =
            |id: &SnapshotId, what: String| json!({"snapshot": id.to_string(), "what": what});
        let damaged = self.damaged.iter();
        let damaged: Vec<Value> = damaged.map(|(id, e)| named(id, e.to_string())).collect();
        let doubtful = doubtful.iter();
        let doubtful = doubtful.map(|one| named(&one.snapshot, one.to_string()));
        let has_damage = self.has_damage();
        let documents = self.shown.into_iter().filter_map(|one| {
            let mut document = one.document?;
            document["kept"] = kept_document(one.kept.at(now).as_ref());
            if one.drilled.is_some() || self.lacks_drills.is_some() {
                document["drilled"] = drilled_document(one.drilled.as_ref());
            }
            Some(document)
        });
        let json = json!({
            "snapshots": documents.collect::<Vec<_>>(),
            "left_out": self.left_out,
            "damaged": damaged,
            "noted_damage": self.noted_damage,
            "doubtful": doubtful.collect::<Vec<_>>(),
            "may_lack": lacking.iter().map(lacks).collect::<Vec<_>>(),
        });
        let mut report = Report::done(json, text).below(self.left_out > 0);
        if let Some(lacks) = &self.lacks_drills {
            report.mention(lacks);
        }
        if has_damage {
            report.code = DAMAGED;
        }
        report
    }

    /// What drills have found.
    fn drill_lines(&self) -> Vec<String> {
        let drilled = self.shown.iter();
        let drilled = drilled.filter_map(|one| Some((one.snapshot, one.drilled.as_ref()?)));
        let mut drilled: Vec<_> = drilled.collect();
        // Not all of the text may have room.
        drilled.sort_by_key(|(_, drilled)| !has_failed(drilled));
        drilled
            .into_iter()
            .map(|(snapshot, drilled)| format!("drilled: {snapshot}: {}", drilled_words(drilled)))
            .collect()
    }

    /// What keeps those that are kept.
    fn kept_lines(&self, now: Timestamp) -> Vec<String> {
        let kept = self.shown.iter();
        let kept = kept.filter_map(|one| Some((one.snapshot, one.kept.clone().at(now)?)));
        kept.map(|(snapshot, kept)| format!("kept: {snapshot} {kept}"))
            .collect()
    }

    fn table(&self) -> Table {
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
        table.add_rows(self.shown.iter().map(|one| &one.row));
        table
    }
}

fn lacks(one: &MayLack) -> Value {
    json!({
        "snapshot": one.snapshot.to_string(), "disk": one.disk, "what": one.in_words(),
    })
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
