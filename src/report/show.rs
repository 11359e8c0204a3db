//! Everything about one snapshot.

use super::drill::{drilled_document, drilled_words};
use super::keep::kept_document;
use super::snapshot::document;
use super::{Report, asked};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DamagedChunks, DiskRecord, HookRecords, Manifest, RewrittenRecord};
use crate::model::{BLOCK_SIZE, Bytes, Content, RunMap, SnapshotId, counted, printable};
use crate::store::{DrillsFound, KeptBy};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Where a disk's blocks stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockCounts {
    data: Bytes,
    zero: Bytes,
    free: Bytes,
    runs: usize,
    segments: usize,
    index_objects: usize,
    /// Those of `data` that were found damaged before; `None`: that could not be asked.
    noted_damaged: Option<Bytes>,
}

impl BlockCounts {
    /// Counts the blocks of a disk. `noted`: what was found damaged in the vault before, if that
    /// is known.
    pub fn of(map: &RunMap, disk: &DiskRecord, noted: Option<&DamagedChunks>) -> Self {
        let mut segments = BTreeSet::new();
        let (mut data, mut zero, mut free, mut damaged) = (0, 0, 0, 0);
        for run in map.iter() {
            match run.content {
                Content::Data { segment, slot } => {
                    segments.insert(segment);
                    data += run.count;
                    // A run of data is within the slots of one segment.
                    let slots = slot..slot + run.count as u32;
                    damaged += noted.map_or(0, |noted| noted.within(segment, slots).len() as u64);
                }
                Content::Zero => zero += run.count,
                Content::Free => free += run.count,
            }
        }
        Self {
            data: Bytes::of_blocks(data),
            zero: Bytes::of_blocks(zero),
            free: Bytes::of_blocks(free),
            runs: map.len(),
            segments: segments.len(),
            index_objects: disk.index.len(),
            noted_damaged: noted.map(|_| Bytes::of_blocks(damaged)),
        }
    }

    fn document(&self) -> Value {
        json!({
            "data_bytes": self.data,
            "zero_bytes": self.zero,
            "free_bytes": self.free,
            "runs": self.runs,
            "segments": self.segments,
            "index_objects": self.index_objects,
            "noted_damaged_bytes": self.noted_damaged,
        })
    }

    /// What is known to be damaged of a disk, in words; empty where nothing is.
    fn damage_text(&self, disk: &str, snapshot: SnapshotId) -> String {
        match self.noted_damaged {
            Some(Bytes(0)) => String::new(),
            Some(damaged) => format!(
                "  {damaged} of this data was found damaged before: \
                 `stillpoint verify {snapshot}` says where, `stillpoint help damage` what to do\n"
            ),
            None => format!(
                "  what was found damaged in this vault cannot be read: \
                 `stillpoint verify {snapshot}` says whether {disk} is whole\n"
            ),
        }
    }
}

/// What others have put beside a snapshot.
pub struct BesideSnapshot {
    /// What keeps it from being deleted.
    pub kept: Option<KeptBy>,
    /// What drills have found.
    pub drills: DrillsFound,
}

/// What `show` reports. `blocks`: those of each disk, in the manifest's order.
///
/// # Errors
/// The manifest cannot be copied.
pub fn report(
    manifest: &Manifest,
    blocks: &[BlockCounts],
    beside: &BesideSnapshot,
) -> Result<Report> {
    let kept = beside.kept.as_ref();
    let mut json = document(manifest);
    json["kept"] = kept_document(kept);
    let drilled = beside.drills.of.get(&manifest.snapshot);
    if drilled.is_some() || beside.drills.lacks.is_some() {
        json["drilled"] = drilled_document(drilled);
    }
    // For people: the document holds what the manifest does.
    let shown = printable::copy(manifest).map_err(|error| {
        Error::new(ErrorKind::Failed, "the snapshot cannot be shown").with_source(error)
    })?;
    let mut text = head(&shown);
    if let Some(kept) = kept {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  kept {kept}");
    }
    if let Some(drilled) = drilled {
        let _ = writeln!(text, "  drilled: {}", drilled_words(drilled));
    }
    for (disk, blocks) in shown.disks.iter().zip(blocks) {
        text.push_str(&disk_text(disk, blocks));
        text.push_str(&blocks.damage_text(&disk.identity.name, manifest.snapshot));
    }
    let documents = json["disks"].as_array_mut().into_iter().flatten();
    for (document, blocks) in documents.zip(blocks) {
        document["blocks"] = blocks.document();
    }
    if let Some(hooks) = &manifest.hooks {
        text.push_str(&hooks_text(hooks));
    }
    for warning in &shown.warnings {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "warning: {warning}");
    }
    let mut report = Report::done(json, text);
    if let Some(lacks) = &beside.drills.lacks {
        report.mention(lacks);
    }
    Ok(report)
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
    let asked = manifest.requests.map_or(String::new(), |requests| {
        format!("  {}, before this was put\n", asked(&requests))
    });
    let before: Vec<String> = manifest.rewrites.iter().map(ToString::to_string).collect();
    let before = match before.is_empty() {
        true => String::new(),
        false => format!(
            "  called {} before its blocks were moved\n",
            before.join(", ")
        ),
    };
    format!(
        "snapshot {}\n{before}  of {} at {} (kernel {}, stillpoint {})\n  level {} (asked for {}), \
         {frozen}\n{asked}  tags: {}\n",
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

/// How each hook ended, and what it printed.
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

/// What became of the parent's blocks, and whether that looked like encryption.
fn rewritten_words(rewritten: &RewrittenRecord) -> String {
    let of = |blocks: u64| Bytes(blocks.saturating_mul(BLOCK_SIZE));
    let alarm = rewritten.alarm.map(|alarm| {
        format!(
            "; what looked like ENCRYPTION AT WORK was told by {}, the last before it is {}",
            alarm.told, alarm.clean
        )
    });
    format!(
        "rewritten in place {}, of which {} hardly pack now (usual: {} at most){}",
        of(rewritten.blocks),
        of(rewritten.hardly_pack),
        of(rewritten.usual),
        alarm.unwrap_or_default()
    )
}

fn disk_text(disk: &DiskRecord, blocks: &BlockCounts) -> String {
    let serial = disk
        .identity
        .serial
        .as_deref()
        .unwrap_or("no serial number");
    let mut text = format!(
        "disk {} ({}, {serial})\n  {}: {}\n  level {}, {} passes; read {}, changed {}, stored {}, \
         read while frozen {}\n  holds {} of data in {}, {} of zeros, {} free\n",
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
        blocks.data,
        counted(blocks.segments, "segment"),
        blocks.zero,
        blocks.free,
    );
    if let Some(rewritten) = disk.rewritten {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}", rewritten_words(&rewritten));
    }
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
