//! A snapshot: what `snapshot` reports of it, and its document, which `list` and `show` print too.

use super::Report;
use super::keep::kept_document;
use super::text::{first_warnings, listed, tail};
use crate::engine::LeftOut;
use crate::error::Error;
use crate::format::{DiskRecord, HookRecord, Manifest};
use crate::model::printable::one_line;
use crate::model::{Bytes, Level, Mode};
use crate::store::KeptBy;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// Most bytes of each list before the verdict. All of them and the verdict fit in 12,000 bytes, the
/// end of the output that runners keep.
const MOST_LEFT_OUT: usize = 2000;
const MOST_DISKS: usize = 3000;
const MOST_WARNINGS: usize = 4000;
/// Most bytes of the output of each hook; `show` prints all that the vault holds.
const MOST_OUTPUT: usize = 1000;
/// Most disks that the verdict names.
const MOST_NAMES: usize = 16;

/// A snapshot that was taken.
pub struct Taken {
    /// What it holds.
    pub manifest: Manifest,
    /// The disks that were left out before it began.
    pub left_out: Vec<LeftOut>,
    /// The disks that failed while the others went on, by name.
    pub failed: Vec<(String, Error)>,
    /// How long all of it took.
    pub took: Duration,
}

/// What `snapshot` reports.
pub fn report(taken: Taken) -> Report {
    let Taken {
        manifest,
        left_out,
        failed,
        took,
    } = taken;
    let amiss = left_out.iter().any(|one| one.unexpected);
    let below = is_below(&manifest) || !failed.is_empty() || amiss;
    let not_taken = left_out.into_iter().map(|one| (one.disk, one.why));
    let failed = failed.into_iter();
    let failed = failed.map(|(disk, error)| (disk, error.to_string()));
    let left_out: Vec<(String, String)> = not_taken.chain(failed).collect();
    let mut json = document(&manifest);
    let more = format!("stillpoint show {}", manifest.snapshot);
    clip_outputs(&mut json["hooks"]);
    json["warnings"] = first_warnings(&manifest.warnings, &more).into();
    json["left_out"] = left_out
        .iter()
        .map(|(disk, why)| json!({"disk": disk, "reason": why}))
        .collect();
    let lines = left_out.iter();
    let lines = lines.map(|(disk, why)| format!("left out: {disk}: {why}"));
    let mut text = listed(lines, MOST_LEFT_OUT, "stillpoint disks");
    text.push_str(&summary(&manifest, took.as_secs_f64()));
    Report::done(json, text).below(below)
}

/// Whether the snapshot is less than was asked for.
fn is_below(manifest: &Manifest) -> bool {
    let mounted = manifest
        .disks
        .iter()
        .any(|disk| !disk.filesystems.is_empty());
    // A user who asks for hooks expects something to be mounted.
    let nothing_to_freeze =
        !mounted && manifest.level == Level::Crash && manifest.requested_level < Level::Application;
    !manifest.warnings.is_empty()
        || (manifest.level < manifest.requested_level && !nothing_to_freeze)
}

fn summary(manifest: &Manifest, seconds: f64) -> String {
    let more = format!("stillpoint show {}", manifest.snapshot);
    let disks = manifest.disks.iter().map(|disk| {
        // A full copy has nothing that it could have changed since.
        let changed = match disk.mode {
            Mode::Full => String::new(),
            Mode::Incremental | Mode::Compare => format!(", changed {}", disk.changed_bytes),
        };
        let shared = match disk.shared_bytes {
            Bytes(0) => String::new(),
            bytes => format!(", {bytes} were in the vault from others"),
        };
        format!(
            "{}: {} ({}); read {}{changed}, stored {}{shared}",
            disk.identity.name, disk.mode, disk.reason, disk.read_bytes, disk.stored_bytes
        )
    });
    let mut text = listed(disks, MOST_DISKS, &more);
    let warnings = manifest.warnings.iter();
    let warnings = warnings.map(|warning| format!("warning: {warning}"));
    text.push_str(&listed(warnings, MOST_WARNINGS, &more));
    let names = manifest
        .disks
        .iter()
        .map(|disk| disk.identity.name.as_str());
    let mut names: Vec<&str> = names.take(MOST_NAMES + 1).collect();
    if names.len() > MOST_NAMES {
        names[MOST_NAMES] = "...";
    }
    let stored = Bytes(manifest.disks.iter().map(|disk| disk.stored_bytes.0).sum());
    let frozen = manifest.freeze_us.map_or("nothing frozen".into(), |time| {
        format!("frozen for {:.1} ms", time as f64 / 1000.0)
    });
    let held = manifest.hooks.as_ref().and_then(|hooks| hooks.held_us);
    let held = held.map_or(String::new(), |time| {
        format!(", applications held for {:.1} ms", milliseconds(time))
    });
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "snapshot {} of {}: level {}, {frozen}{held}, {stored} stored, {seconds:.1} s",
        manifest.snapshot,
        one_line(&names.join(", ")),
        manifest.level
    );
    text
}

/// The snapshot as scripts know it.
pub fn document(manifest: &Manifest) -> Value {
    // As its run was told. What others have said since, `list` and `show` know.
    let kept = manifest
        .kept_until(None)
        .map(|_| KeptBy::manifest(manifest, None));
    let not_run = json!({"status": "not_run", "reason": null, "output": null, "took_ms": null});
    let hooks = match &manifest.hooks {
        Some(hooks) => json!({
            "prescript": hook_document(&hooks.prescript),
            "postscript": hook_document(&hooks.postscript),
            "held_ms": hooks.held_us.map(milliseconds),
        }),
        None => json!({"prescript": not_run, "postscript": not_run, "held_ms": null}),
    };
    json!({
        "snapshot": manifest.snapshot.to_string(),
        "time": format!("{:.3}", manifest.time),
        "host": manifest.host,
        "level": manifest.level,
        "requested_level": manifest.requested_level,
        "freeze_ms": manifest.freeze_us.map(milliseconds),
        "warnings": manifest.warnings,
        "tags": manifest.tags,
        "hooks": hooks,
        "requests": manifest.requests,
        "looked": manifest.looked,
        "kept": kept_document(kept.as_ref()),
        "disks": manifest.disks.iter().map(disk_document).collect::<Vec<_>>(),
    })
}

/// Keeps what hooks printed short, so that the rest stays within the end that runners keep.
fn clip_outputs(hooks: &mut Value) {
    for hook in ["prescript", "postscript"] {
        let output = &mut hooks[hook]["output"];
        if let Some(text) = output.as_str() {
            *output = tail(text, MOST_OUTPUT).into();
        }
    }
}

fn hook_document(hook: &HookRecord) -> Value {
    json!({
        "status": hook.status,
        "reason": hook.reason,
        "output": hook.output,
        "took_ms": hook.took_us.map(milliseconds),
    })
}

fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

fn disk_document(disk: &DiskRecord) -> Value {
    json!({
        "disk": disk.identity.name,
        "device": disk.identity.path().display().to_string(),
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
        "resumed_bytes": disk.resumed_bytes,
        "shared_bytes": disk.shared_bytes,
        "rewritten": disk.rewritten,
        "frozen_bytes": disk.frozen_bytes,
        "free_skipped_bytes": disk.free_skipped_bytes,
        "filesystems": disk.filesystems,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectId;

    fn manifest(disks: usize, warnings: usize) -> Manifest {
        let id = ObjectId([7; 16]).to_string();
        let disk = |number: usize| {
            json!({
                "identity": {"name": format!("vd{number}"), "dev": {"major": 1, "minor": 2},
                    "size": 1 << 20, "logical_block": 512},
                "level": "filesystem", "mode": "full", "reason": "r".repeat(3000),
                "all_blocks": false, "passes": 1, "read_bytes": 1, "changed_bytes": 1,
                "stored_bytes": 1, "frozen_bytes": 1, "free_skipped_bytes": 1,
                "filesystems": [], "index": [],
            })
        };
        let manifest = json!({
            "format": 1, "snapshot": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "vault": id,
            "time": "2026-01-01T00:00:00Z", "started": "2026-01-01T00:00:00Z", "host": "h",
            "kernel": "k", "writer": "w", "level": "filesystem", "requested_level": "filesystem",
            "freeze_us": 1000, "tags": {},
            "warnings": (0..warnings).map(|n| format!("{n}: {}", "w".repeat(3000)))
                .collect::<Vec<_>>(),
            "disks": (0..disks).map(disk).collect::<Vec<_>>(),
        });
        serde_json::from_value(manifest).unwrap()
    }

    #[test]
    fn the_verdict_and_the_reasons_fit_the_end_that_runners_keep() {
        let manifest = manifest(3000, 5000);
        let left_out = "x".repeat(MOST_LEFT_OUT + 100);
        let text = format!("{left_out}{}", summary(&manifest, 1.0));
        assert!(text.len() < 12_000, "{}", text.len());
        let verdict = text.lines().last().unwrap();
        assert!(
            verdict.starts_with("snapshot 01ARZ3NDEKTSV4RRFFQ69G5FAV of vd0"),
            "{verdict}"
        );
        assert!(verdict.contains("vd15, ...: level filesystem"), "{verdict}");
        assert!(
            text.contains("more lines like these: stillpoint show 01ARZ3NDEK"),
            "{text}"
        );
        assert!(text.contains("warning: 0: www"));
        let few = summary(&super::tests::manifest(2, 2), 1.0);
        assert!(!few.contains("more lines"), "{few}");
    }
}
