//! `list`: the snapshots of a vault.

use super::args::{Common, ListArgs, tag};
use super::context;
use super::listed::Shown;
use super::outcome::{Outcome, counted, listed, table_text};
use super::signals;
use crate::engine::{FreeTrace, MayLack, may_lack_of_all};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::model::SnapshotId;
use crate::model::exit::DAMAGED;
use crate::model::printable::one_line;
use crate::store::{Dated, History, Vault};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write;

/// Most bytes of the list of those whose time is doubtful.
const MOST_DOUBTS: usize = 2000;
/// Most names of disks that a hint tells.
const MOST_NAMES: usize = 16;

pub fn run(args: &ListArgs, common: &Common) -> Result<Outcome> {
    let vault = context::open_vault(common)?;
    let tags = args.tags.iter().map(|text| tag(text));
    let tags = tags.collect::<Result<Vec<_>>>()?;
    let Found {
        mut shown,
        damaged,
        dated,
        traces,
    } = read_all(&vault, args, &tags, common.json)?;
    let history = History::of(dated, Timestamp::now());
    let order = history.order.iter().rev().map(|one| one.id);
    let places: HashMap<SnapshotId, usize> = order.zip(0..).collect();
    let place = |id: &SnapshotId| places.get(id).copied();
    shown.all.sort_by_key(|one| place(&one.snapshot));
    let ids: HashSet<SnapshotId> = shown.all.iter().map(|one| one.snapshot).collect();
    let doubtful = history.doubtful.iter();
    let doubtful: Vec<_> = doubtful.filter(|one| ids.contains(&one.snapshot)).collect();
    let mut text = String::new();
    if !shown.all.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", table_text(&shown.table()));
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
        counted(shown.all.len(), "snapshot"),
        one_line(&vault.location())
    );
    let json = json!({
        "snapshots": shown.all.into_iter().filter_map(|one| one.document).collect::<Vec<_>>(),
        "left_out": shown.left_out,
        "damaged": damaged.iter().map(|(id, error)| json!({
            "snapshot": id.to_string(), "what": error.to_string(),
        })).collect::<Vec<_>>(),
        "doubtful": doubtful.iter().map(|one| json!({
            "snapshot": one.snapshot.to_string(), "what": one.to_string(),
        })).collect::<Vec<_>>(),
        "may_lack": lacking.iter().map(lacks).collect::<Vec<_>>(),
    });
    let mut outcome = Outcome::done(json, text).below(shown.left_out > 0);
    if !damaged.is_empty() {
        outcome.code = DAMAGED;
    }
    Ok(outcome)
}

/// What the manifests of a vault say.
#[derive(Default)]
struct Found {
    /// Those that fit.
    shown: Shown,
    damaged: Vec<(SnapshotId, Error)>,
    /// Of all, whether they fit or not.
    dated: Vec<Dated>,
    traces: Vec<FreeTrace>,
}

fn read_all(
    vault: &Vault,
    args: &ListArgs,
    tags: &[(String, String)],
    as_json: bool,
) -> Result<Found> {
    let snapshots = match &args.host {
        Some(host) => vault.snapshots_of(host)?,
        None => vault.snapshots()?,
    };
    let mut found = Found::default();
    let mut there = There::default();
    // The newest first, more or less: should not all be told, these are.
    for snapshot in snapshots.iter().rev() {
        signals::check()?;
        match vault.manifest(snapshot) {
            Ok(manifest) => {
                found.dated.push(Dated::new(snapshot, &manifest));
                found.traces.push(FreeTrace::of(&manifest));
                there.add(&manifest, args);
                if fits(&manifest, args, tags) {
                    found.shown.add(&manifest, as_json);
                }
            }
            // Deleted while this was listing.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::Damaged => {
                found.damaged.push((snapshot.id, error));
            }
            Err(error) => return Err(error),
        }
    }
    found.damaged.reverse();
    found.traces.reverse();
    if found.damaged.is_empty() {
        there.check(args, vault)?;
    }
    Ok(found)
}

fn lacks(one: &MayLack) -> Value {
    json!({
        "snapshot": one.snapshot.to_string(), "disk": one.disk, "what": one.in_words(),
    })
}

fn fits(manifest: &Manifest, args: &ListArgs, tags: &[(String, String)]) -> bool {
    has_disk(manifest, args)
        && tags
            .iter()
            .all(|(key, value)| manifest.tags.get(key) == Some(value))
}

/// Whether it has the disk that was named, or none was.
fn has_disk(manifest: &Manifest, args: &ListArgs) -> bool {
    let disk = args
        .disk
        .as_deref()
        .map(|disk| disk.strip_prefix("/dev/").unwrap_or(disk));
    disk.is_none_or(|wanted| {
        manifest.disks.iter().any(|disk| {
            disk.identity.name == wanted || disk.identity.serial.as_deref() == Some(wanted)
        })
    })
}

/// Which disks the snapshots have, whether they fit or not.
#[derive(Default)]
struct There {
    /// The first names.
    names: BTreeSet<String>,
    snapshots: usize,
    has_the_disk: bool,
}

impl There {
    fn add(&mut self, manifest: &Manifest, args: &ListArgs) {
        self.snapshots += 1;
        self.has_the_disk |= has_disk(manifest, args);
        for disk in &manifest.disks {
            if self.names.len() < MOST_NAMES {
                self.names.insert(disk.identity.name.clone());
            }
        }
    }

    /// A disk that no snapshot has is a wrong name, and so is a host without snapshots.
    fn check(&self, args: &ListArgs, vault: &Vault) -> Result<()> {
        let location = vault.location();
        match (&args.disk, &args.host) {
            (Some(disk), _) if self.snapshots > 0 && !self.has_the_disk => {
                let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
                let message = format!("no snapshot in {location} has a disk {disk:?}");
                let hint = format!("those there have: {}", names.join(", "));
                Err(Error::new(ErrorKind::NotFound, message).with_hint(hint))
            }
            (_, Some(host)) if self.snapshots == 0 && !vault.snapshots()?.is_empty() => {
                let message = format!("no snapshot in {location} is of a host {host:?}");
                let hint = "`stillpoint list` shows the host of each";
                Err(Error::new(ErrorKind::NotFound, message).with_hint(hint))
            }
            _ => Ok(()),
        }
    }
}
