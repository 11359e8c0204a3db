//! `list`: the snapshots of a vault.

use super::args::{Common, ListArgs, tag};
use super::exit::DAMAGED;
use super::outcome::{Outcome, cells, counted, listed};
use super::snapshot::document;
use crate::engine::{FreeTrace, MayLack, may_lack_of_all};
use crate::error::{ErrorKind, Result};
use crate::format::Manifest;
use crate::model::printable::one_line;
use crate::model::{Bytes, SnapshotId};
use crate::store::{Dated, History};
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

/// Most bytes of the list of those whose time is doubtful.
const MOST_DOUBTS: usize = 2000;

pub fn run(args: &ListArgs, common: &Common) -> Result<Outcome> {
    let vault = super::open_vault(common)?;
    let tags = args.tags.iter().map(|text| tag(text));
    let tags = tags.collect::<Result<Vec<_>>>()?;
    let snapshots = match &args.host {
        Some(host) => vault.snapshots_of(host)?,
        None => vault.snapshots()?,
    };
    let mut shown = Vec::new();
    let mut damaged = Vec::new();
    let (mut dated, mut traces) = (Vec::new(), Vec::new());
    for snapshot in &snapshots {
        super::signals::check()?;
        match vault.manifest(snapshot) {
            Ok(manifest) => {
                dated.push(Dated::new(snapshot, &manifest));
                traces.push(FreeTrace::of(&manifest));
                if fits(&manifest, args, &tags) {
                    shown.push(manifest);
                }
            }
            // Deleted while this was listing.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::Damaged => damaged.push((snapshot.id, error)),
            Err(error) => return Err(error),
        }
    }
    let history = History::of(dated, Timestamp::now());
    let order = history.order.iter().rev().map(|one| one.id);
    let places: HashMap<SnapshotId, usize> = order.zip(0..).collect();
    shown.sort_by_key(|manifest| places.get(&manifest.snapshot).copied());
    let ids: HashSet<SnapshotId> = shown.iter().map(|manifest| manifest.snapshot).collect();
    let doubtful = history.doubtful.iter();
    let doubtful: Vec<_> = doubtful.filter(|one| ids.contains(&one.snapshot)).collect();
    let mut text = String::new();
    if !shown.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", table(&shown));
    }
    for (id, error) in &damaged {
        let _ = writeln!(text, "damaged: {id}: {error}");
    }
    let doubts = doubtful.iter().rev().map(|one| format!("clock: {one}"));
    text.push_str(&listed(doubts, MOST_DOUBTS, "--json tells all"));
    let mut lacking = may_lack_of_all(&traces);
    lacking.retain(|one| ids.contains(&one.snapshot));
    let lines = lacking.iter().map(MayLack::in_words);
    text.push_str(&listed(lines, MOST_DOUBTS, "--json tells all"));
    let _ = write!(
        text,
        "{} in {}",
        counted(shown.len(), "snapshot"),
        one_line(&vault.location())
    );
    let json = json!({
        "snapshots": shown.iter().map(document).collect::<Vec<_>>(),
        "damaged": damaged.iter().map(|(id, error)| json!({
            "snapshot": id.to_string(), "what": error.to_string(),
        })).collect::<Vec<_>>(),
        "doubtful": doubtful.iter().map(|one| json!({
            "snapshot": one.snapshot.to_string(), "what": one.to_string(),
        })).collect::<Vec<_>>(),
        "may_lack": lacking.iter().map(lacks).collect::<Vec<_>>(),
    });
    let mut outcome = Outcome::done(json, text);
    if !damaged.is_empty() {
        outcome.code = DAMAGED;
    }
    Ok(outcome)
}

fn lacks(one: &MayLack) -> Value {
    json!({
        "snapshot": one.snapshot.to_string(), "disk": one.disk, "what": one.in_words(),
    })
}

fn fits(manifest: &Manifest, args: &ListArgs, tags: &[(String, String)]) -> bool {
    let disk = args
        .disk
        .as_deref()
        .map(|disk| disk.strip_prefix("/dev/").unwrap_or(disk));
    let has_disk = disk.is_none_or(|wanted| {
        manifest.disks.iter().any(|disk| {
            disk.identity.name == wanted || disk.identity.serial.as_deref() == Some(wanted)
        })
    });
    has_disk
        && tags
            .iter()
            .all(|(key, value)| manifest.tags.get(key) == Some(value))
}

fn table(manifests: &[Manifest]) -> Table {
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
    for manifest in manifests {
        let each = |what: &dyn Fn(&crate::format::DiskRecord) -> String| {
            let mut all: Vec<String> = manifest.disks.iter().map(what).collect();
            all.dedup();
            all.join(",")
        };
        let size = Bytes(manifest.disks.iter().map(|disk| disk.identity.size.0).sum());
        let stored = Bytes(manifest.disks.iter().map(|disk| disk.stored_bytes.0).sum());
        let tags: Vec<String> = manifest
            .tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        table.add_row(cells([
            manifest.snapshot.to_string(),
            manifest.time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            manifest.host.clone(),
            each(&|disk| disk.identity.name.clone()),
            size.to_string(),
            manifest.level.to_string(),
            each(&|disk| disk.mode.to_string()),
            stored.to_string(),
            tags.join(" "),
        ]));
    }
    table
}
