//! `disks`: what there is to snapshot here.

use super::args::Common;
use super::outcome::{Outcome, cells};
use crate::device::{Disk, Freezable, freezable};
use crate::engine::{Scene, Silent, find_parents};
use crate::error::Result;
use crate::model::{DevNumber, SnapshotId};
use crate::track::Tracker;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write;

pub fn run(common: &Common) -> Result<Outcome> {
    let scene = Scene::look()?;
    let tracked = match Tracker::open(&common.places()?.pins) {
        Ok(Some(tracker)) => tracker.disks().unwrap_or_default(),
        // Not root, or no BPF: nothing is tracked that could be shown.
        Ok(None) | Err(_) => Vec::new(),
    };
    // A vault that is not mounted does not keep the disks from being listed.
    let (last, unknown) = match last_snapshots(common, &scene) {
        Ok(last) => (last, None),
        Err(error) => (HashMap::new(), Some(error)),
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "DISK",
        "SIZE",
        "SERIAL",
        "TRACKED",
        "LAST SNAPSHOT",
        "MOUNTED",
    ]);
    let mut documents = Vec::new();
    for disk in scene.topology.disks() {
        let is_tracked = tracked.iter().any(|status| status.disk.dev == disk.dev());
        let last = last.get(&disk.dev()).map(ToString::to_string);
        let document = describe(&scene, disk, is_tracked, last.as_deref());
        table.add_row(cells([
            disk.name().to_owned(),
            disk.identity.size.to_string(),
            disk.identity.serial.clone().unwrap_or_else(|| "-".into()),
            if is_tracked { "yes" } else { "no" }.to_owned(),
            last.unwrap_or_else(|| "-".into()),
            mounted(&document),
        ]));
        documents.push(document);
    }
    let mut text = table.to_string();
    if let Some(error) = unknown {
        // Writing to a string cannot fail.
        let _ = write!(text, "\nthe last snapshots are not known: {error}");
    }
    Ok(Outcome::done(json!({"disks": documents}), text))
}

/// The newest snapshot of each of these disks, when a vault is named: the one that the next would
/// build on.
fn last_snapshots(common: &Common, scene: &Scene) -> Result<HashMap<DevNumber, SnapshotId>> {
    if common.vault.as_deref().is_none_or(str::is_empty) {
        return Ok(HashMap::new());
    }
    let vault = super::open_vault(common)?;
    let host = nix::unistd::gethostname().unwrap_or_default();
    let known = vault.snapshots_of(&host.to_string_lossy())?;
    let disks: Vec<Disk> = scene.topology.disks().cloned().collect();
    let found = find_parents(&vault, &known, (&scene.topology, &disks), &Silent)?;
    let found = disks.iter().zip(found);
    Ok(found
        .filter_map(|(disk, newest)| Some((disk.dev(), newest?.0)))
        .collect())
}

fn describe(scene: &Scene, disk: &Disk, is_tracked: bool, last: Option<&str>) -> Value {
    let filesystems: Vec<Value> = scene
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

fn mounted(document: &Value) -> String {
    let all = document["filesystems"].as_array();
    let targets: Vec<String> = all
        .into_iter()
        .flatten()
        .map(|filesystem| {
            let text = |key: &str| filesystem[key].as_str().unwrap_or_default().to_owned();
            match filesystem["freezable"].as_bool() {
                Some(false) => format!("{} ({}, cannot be frozen)", text("target"), text("type")),
                _ => format!("{} ({})", text("target"), text("type")),
            }
        })
        .collect();
    if targets.is_empty() {
        "-".into()
    } else {
        targets.join(", ")
    }
}
