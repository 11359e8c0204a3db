//! `show`: everything about one snapshot.

use super::args::{Common, ShowArgs};
use super::context;
use super::find::find_snapshot;
use super::outcome::Outcome;
use super::progress::Progress;
use super::signals;
use super::snapshot::document;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, HookRecords, Manifest};
use crate::model::{BLOCK_SIZE, Bytes, Content, RunMap, block_count, printable};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;

pub fn run(args: &ShowArgs, common: &Common, progress: &Progress) -> Result<Outcome> {
    let vault = context::open_vault(common)?;
    let manifest = vault.manifest(&find_snapshot(&vault, &args.id, &[], progress)?)?;
    let mut json = document(&manifest);
    // For people: the document holds what the manifest does.
    let shown = printable::copy(&manifest).map_err(|error| {
        Error::new(ErrorKind::Failed, "the snapshot cannot be shown").with_source(error)
    })?;
    let mut text = head(&shown);
    for (number, disk) in shown.disks.iter().enumerate() {
        let count = block_count(disk.identity.size);
        let map = vault.read_index(&disk.index, count, &signals::check)?;
        let blocks = blocks(&map, disk);
        text.push_str(&disk_text(disk, &blocks));
        if let Some(entry) = json
            .get_mut("disks")
            .and_then(|disks| disks.get_mut(number))
        {
            entry["blocks"] = blocks;
        }
    }
    if let Some(hooks) = &manifest.hooks {
        text.push_str(&hooks_text(hooks));
    }
    for warning in &shown.warnings {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "warning: {warning}");
    }
    Ok(Outcome::done(json, text))
}

fn head(manifest: &Manifest) -> String {
    let tags: Vec<String> = manifest
        .tags
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let frozen = manifest.freeze_us.map_or("nothing frozen".into(), |time| {
        format!("frozen for {:.1} ms", time as f64 / 1000.0)
    });
    format!(
        "snapshot {}\n  of {} at {} (kernel {}, stillpoint {})\n  level {} (asked for {}), \
         {frozen}\n  tags: {}\n",
        manifest.snapshot,
        manifest.host,
        manifest.time,
        manifest.kernel,
        manifest.writer,
        manifest.level,
        manifest.requested_level,
        if tags.is_empty() {
            "none".into()
        } else {
            tags.join(" ")
        },
    )
}

/// What became of the hooks, and what they said.
fn hooks_text(hooks: &HookRecords) -> String {
    let ms = |time: u64| format!("{:.1} ms", time as f64 / 1000.0);
    let held = hooks
        .held_us
        .map_or("were not held, or not to the end".into(), |time| {
            format!("were held for {}", ms(time))
        });
    let mut text = format!("hooks: applications {held}\n");
    for (name, hook) in [
        ("prescript", &hooks.prescript),
        ("postscript", &hooks.postscript),
    ] {
        let took = hook.took_us.map(|time| format!(", {}", ms(time)));
        let why = hook.reason.as_ref().map(|why| format!(": {why}"));
        let (took, why) = (took.unwrap_or_default(), why.unwrap_or_default());
        let line = format!("  {name}: {}{took}{why}", hook.status.in_words());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", printable::one_line(&line));
        for said in hook.output.iter().flat_map(|output| output.lines()) {
            let _ = writeln!(text, "    {}", printable::one_line(said));
        }
    }
    text
}

/// Where the disk's blocks stand.
fn blocks(map: &RunMap, disk: &DiskRecord) -> Value {
    let mut segments = BTreeSet::new();
    let (mut data, mut zero, mut free) = (0, 0, 0);
    for run in map.iter() {
        match run.content {
            Content::Data { segment, .. } => {
                segments.insert(segment);
                data += run.count;
            }
            Content::Zero => zero += run.count,
            Content::Free => free += run.count,
        }
    }
    json!({
        "data_bytes": data * BLOCK_SIZE,
        "zero_bytes": zero * BLOCK_SIZE,
        "free_bytes": free * BLOCK_SIZE,
        "runs": map.len(),
        "segments": segments.len(),
        "index_objects": disk.index.len(),
    })
}

fn disk_text(disk: &DiskRecord, blocks: &Value) -> String {
    let serial = disk
        .identity
        .serial
        .as_deref()
        .unwrap_or("no serial number");
    let bytes = |key: &str| Bytes(blocks[key].as_u64().unwrap_or_default());
    let mut text = format!(
        "disk {} ({}, {serial})\n  {}: {}\n  level {}, {} passes; read {}, changed {}, stored {}, \
         read while frozen {}\n  holds {} of data in {} segments, {} of zeros, {} free\n",
        disk.identity.name,
        disk.identity.size,
        disk.mode,
        disk.reason,
        disk.level,
        disk.passes,
        disk.read_bytes,
        disk.changed_bytes,
        disk.stored_bytes,
        disk.frozen_bytes,
        bytes("data_bytes"),
        blocks["segments"],
        bytes("zero_bytes"),
        bytes("free_bytes"),
    );
    for filesystem in &disk.filesystems {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  {} on {} at {}: {}",
            filesystem.fstype,
            filesystem.source,
            filesystem.target,
            if filesystem.frozen {
                "frozen"
            } else {
                "not frozen"
            }
        );
    }
    text
}
