//! `snapshot`: the main job.

use super::args::{Common, SnapshotArgs, tag};
use super::outcome::Outcome;
use super::progress::Progress;
use crate::engine::{SnapshotOptions, protectable, snapshot};
use crate::error::Result;
use crate::format::{DiskRecord, Manifest};
use crate::model::Bytes;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

pub fn run(args: &SnapshotArgs, common: &Common, progress: &Progress) -> Result<Outcome> {
    super::need_root()?;
    let begun = Instant::now();
    let tags: BTreeMap<String, String> = args
        .tags
        .iter()
        .map(|text| tag(text))
        .collect::<Result<_>>()?;
    let on_busy = args.on_busy.choice()?;
    let vault = super::open_vault(common)?;
    let (disks, left_out) = if args.all {
        protectable(&vault, &args.exclude)?
    } else {
        (args.disks.clone(), Vec::new())
    };
    let options = SnapshotOptions {
        disks,
        level: args.level.level(),
        full: args.full,
        all_blocks: args.all_blocks,
        tags,
        max_freeze: args.max_freeze,
        on_busy,
        allow_fuzzy: args.allow_fuzzy,
        workers: super::workers(),
    };
    let manifest = snapshot(&vault, &options, &common.places()?, progress)?;
    let mut json = document(&manifest);
    json["left_out"] = left_out
        .iter()
        .map(|(disk, why)| json!({"disk": disk, "reason": why}))
        .collect();
    let mut text = String::new();
    for (disk, why) in &left_out {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "left out: {disk}: {why}");
    }
    text.push_str(&summary(&manifest, begun.elapsed().as_secs_f64()));
    Ok(Outcome::done(json, text).below(is_below(&manifest)))
}

/// Whether it is less than was asked for.
fn is_below(manifest: &Manifest) -> bool {
    let mounted = manifest
        .disks
        .iter()
        .any(|disk| !disk.filesystems.is_empty());
    let nothing_to_freeze = !mounted && manifest.level == crate::model::Level::Crash;
    !manifest.warnings.is_empty()
        || (manifest.level < manifest.requested_level && !nothing_to_freeze)
}

fn summary(manifest: &Manifest, seconds: f64) -> String {
    let mut text = String::new();
    for disk in &manifest.disks {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}: {} ({}); read {}, changed {}, stored {}",
            disk.identity.name,
            disk.mode,
            disk.reason,
            disk.read_bytes,
            disk.changed_bytes,
            disk.stored_bytes
        );
    }
    for warning in &manifest.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    let names: Vec<&str> = manifest
        .disks
        .iter()
        .map(|disk| disk.identity.name.as_str())
        .collect();
    let stored = Bytes(manifest.disks.iter().map(|disk| disk.stored_bytes.0).sum());
    let frozen = manifest.freeze_us.map_or("nothing frozen".into(), |time| {
        format!("frozen for {:.1} ms", time as f64 / 1000.0)
    });
    let _ = write!(
        text,
        "snapshot {} of {}: level {}, {frozen}, {stored} stored, {seconds:.1} s",
        manifest.snapshot,
        names.join(", "),
        manifest.level
    );
    text
}

/// A snapshot as users' scripts know it.
pub fn document(manifest: &Manifest) -> Value {
    let not_run = json!({"status": "not_run"});
    let hooks = match &manifest.hooks {
        Some(hooks) => json!(hooks),
        None => json!({"prescript": not_run, "postscript": not_run}),
    };
    json!({
        "snapshot": manifest.snapshot.to_string(),
        "time": format!("{:.3}", manifest.time),
        "host": manifest.host,
        "level": manifest.level,
        "requested_level": manifest.requested_level,
        "freeze_ms": manifest.freeze_us.map(|time| time as f64 / 1000.0),
        "warnings": manifest.warnings,
        "tags": manifest.tags,
        "hooks": hooks,
        "disks": manifest.disks.iter().map(disk_document).collect::<Vec<_>>(),
    })
}

fn disk_document(disk: &DiskRecord) -> Value {
    json!({
        "disk": disk.identity.name,
        "device": format!("/dev/{}", disk.identity.name),
        "serial": disk.identity.serial,
        "size_bytes": disk.identity.size,
        "level": disk.level,
        "mode": disk.mode,
        "reason": disk.reason,
        "parent": disk.parent.map(|parent| parent.to_string()),
        "passes": disk.passes,
        "read_bytes": disk.read_bytes,
        "changed_bytes": disk.changed_bytes,
        "stored_bytes": disk.stored_bytes,
        "frozen_bytes": disk.frozen_bytes,
        "free_skipped_bytes": disk.free_skipped_bytes,
        "filesystems": disk.filesystems,
    })
}
