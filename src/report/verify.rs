//! Whether what the vault holds is whole.

use super::Report;
use super::lost_files;
pub use super::lost_files::SnapshotFiles;
use super::text::{counted, first_warnings, listed};
use crate::engine::{Broken, Coverage, Noted, Remembered, VerifyDepth, VerifyReport};
use crate::model::exit::DAMAGED;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Most bytes of the list of what is damaged.
const MOST_DAMAGE: usize = 9000;

/// Where the rest of a long list is.
const LISTS_ALL: &str = "--json lists all";

/// What `verify` reports, of a look of this depth. `files`: those that damaged snapshots have lost
/// bytes of, if that was asked.
pub fn report(report: &VerifyReport, depth: VerifyDepth, files: &[SnapshotFiles]) -> Report {
    let damaged: BTreeSet<_> = report.broken.iter().map(|broken| broken.snapshot).collect();
    let warnings = warnings(report);
    let text = describe(report, depth, files, &warnings);
    let mut json = json!({
        "snapshots": report.snapshots,
        "depth": match depth {
            VerifyDepth::Fast => "fast",
            VerifyDepth::Sample(_) => "sample",
            VerifyDepth::Full => "full",
        },
        "segments": report.segments,
        "read_bytes": report.bytes,
        "unread_segments": report.unread,
        "damage_noted": match report.noted {
            Noted::Nothing => "nothing",
            Noted::Done => "noted",
            Noted::Failed(_) => "failed",
        },
        "damaged": report.broken.iter().map(of_broken).collect::<Vec<_>>(),
    });
    if let Some(coverage) = &report.coverage {
        json["coverage"] = of_coverage(coverage);
    }
    if !files.is_empty() {
        json["lost_files"] = files.iter().map(lost_files::document).collect();
    }
    if !warnings.is_empty() {
        json["warnings"] = first_warnings(&warnings, LISTS_ALL).into();
    }
    let mut reported = Report::done(json, text).below(!warnings.is_empty());
    if !damaged.is_empty() || report.keys.none_left {
        reported.code = DAMAGED;
    }
    reported
}

/// What is lost, as a document.
pub(super) fn of_broken(broken: &Broken) -> Value {
    json!({
        "snapshot": broken.snapshot.to_string(),
        "disk": broken.disk,
        "what": broken.what,
        "lost_bytes": broken.lost,
        "ranges": broken.places.iter().map(|place| json!({
            "offset": place.offset, "length": place.length,
        })).collect::<Vec<_>>(),
        "partitions": broken.parts.iter().map(|part| json!({
            "partition": part.partition,
            "offset": part.place.offset,
            "length": part.place.length,
            "lost_bytes": part.lost,
            "mounted": part.mounted.iter().map(|mount| json!({
                "target": mount.target, "type": mount.fstype,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    })
}

/// What is lost, in lines.
pub(super) fn lines_of(broken: &Broken) -> Vec<String> {
    let disk = broken.disk.as_deref();
    let disk = disk.map(|disk| format!(", {disk}")).unwrap_or_default();
    let mut lines = vec![format!(
        "damaged: {}{disk}: {}",
        broken.snapshot, broken.what
    )];
    let places = broken.places.iter();
    lines.extend(places.map(|place| format!("  cannot be restored: bytes {place}")));
    lines.extend(broken.parts.iter().map(|part| {
        let mounts = part.mounted.iter();
        let mounts: Vec<String> = mounts
            .map(|mount| format!("{} on {}", mount.fstype, mount.target))
            .collect();
        let mounts = match mounts.is_empty() {
            true => String::new(),
            false => format!(" ({})", mounts.join(", ")),
        };
        match part.partition {
            Some(number) => format!("  {} of it in partition {number}{mounts}", part.lost),
            None if part.is_disk => {
                format!(
                    "  {} of it on the disk, of which no partitions are known{mounts}",
                    part.lost
                )
            }
            None => format!("  {} of it outside of partitions{mounts}", part.lost),
        }
    }));
    lines
}

fn of_coverage(coverage: &Coverage) -> Value {
    json!({
        "needed_segments": coverage.of,
        "covered_segments": coverage.covered,
        "samples": coverage.samples,
        "oldest": coverage.oldest.map(|oldest| oldest.to_string()),
        "remembered": match coverage.remembered {
            Remembered::Done => "done",
            Remembered::NotFolded(_) => "old_ones_stay",
            Remembered::Failed(_) => "failed",
        },
    })
}

/// What is wrong though nothing is lost by it.
fn warnings(report: &VerifyReport) -> Vec<String> {
    let harmless = report.harmless.iter();
    let mut warnings: Vec<String> = harmless
        .map(|what| format!("{what}: no snapshot that was looked at has lost anything by it"))
        .collect();
    let keys = report.keys.bad.iter();
    warnings.extend(keys.map(|what| format!("{what}: it opens the vault no more")));
    if report.keys.none_left {
        warnings.push(
            "no key is left in the vault: put the folder keys back from a copy of it: without one \
             nobody can ever restore from it"
                .into(),
        );
    }
    if let Noted::Failed(error) = &report.noted {
        warnings.push(format!(
            "what is damaged could not be noted in the vault for the next run: {error}"
        ));
    }
    if report.noted_before > 0 {
        warnings.push(format!(
            "{} not read now, and an earlier verify has noted damage in them: `stillpoint verify \
             --all` says what is lost",
            match report.noted_before {
                1 => "1 segment was".to_owned(),
                many => format!("{many} segments were"),
            }
        ));
    }
    if let Some(Coverage {
        remembered: Remembered::Failed(error),
        ..
    }) = &report.coverage
    {
        warnings.push(format!(
            "the vault does not remember what this sample has read, so the next one may read the \
             same: {error}"
        ));
    }
    warnings
}

/// What is damaged, and the verdict.
fn describe(
    report: &VerifyReport,
    depth: VerifyDepth,
    files: &[SnapshotFiles],
    warnings: &[String],
) -> String {
    let damaged: BTreeSet<_> = report.broken.iter().map(|broken| broken.snapshot).collect();
    let lines = report.broken.iter().flat_map(lines_of);
    let lines = lines.chain(files.iter().flat_map(lost_files::lines));
    let warned = warnings.iter().map(|warning| format!("warning: {warning}"));
    let covered = report.coverage.as_ref().into_iter().flat_map(in_words);
    let mut text = listed(lines.chain(warned), MOST_DAMAGE, LISTS_ALL);
    covered.for_each(|line| {
        text.push_str(&line);
        text.push('\n');
    });
    text.push_str(&match damaged.len() {
        0 => nothing_lost(report, depth),
        count => lost(report, depth, count),
    });
    text
}

/// What samples have come round to, in lines.
fn in_words(coverage: &Coverage) -> Vec<String> {
    let mut lines = Vec::new();
    let time = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S").to_string();
    if let Some(oldest) = coverage.oldest {
        let samples = match coverage.samples {
            1 => "this sample".to_owned(),
            many => format!("the last {many} samples"),
        };
        let left = coverage.of.saturating_sub(coverage.covered);
        lines.push(match left {
            0 => format!(
                "as the vault remembers, everything was read within {samples}, the oldest at {}",
                time(oldest)
            ),
            left => format!(
                "as the vault remembers, {} of {} were read within {samples}, since {}; {left} \
                 not yet",
                coverage.covered,
                counted(coverage.of, "segment"),
                time(oldest)
            ),
        });
    }
    if let Remembered::NotFolded(error) = &coverage.remembered {
        lines.push(format!(
            "records of earlier samples could not be deleted, and are not needed any more: {error}"
        ));
    }
    lines
}

fn nothing_lost(report: &VerifyReport, depth: VerifyDepth) -> String {
    let snapshots = counted(report.snapshots, "snapshot");
    let segments = counted(report.segments, "segment");
    let bytes = report.bytes;
    let is_clean =
        report.harmless.is_empty() && report.keys.bad.is_empty() && !report.keys.none_left;
    let seen = if is_clean {
        "damaged was"
    } else {
        "that is lost was"
    };
    match (depth, report.unread) {
        (VerifyDepth::Fast, unread) => {
            let all = match is_clean && report.noted_before == 0 {
                _ if report.keys.none_left => "all data is there, and no key for it",
                true => "all is there and fits together",
                false => "all that is needed is there",
            };
            let segments = counted(unread, "segment");
            format!("{all}: {snapshots}, {segments}, of whose data nothing was read")
        }
        (VerifyDepth::Sample(percent), unread) if unread > 0 => {
            let all = report.segments + unread;
            format!(
                "nothing {seen} seen in {snapshots}, but of the data only a sample was read: \
                 {percent} %, {} of {}, {bytes}",
                report.segments,
                counted(all, "segment")
            )
        }
        _ => {
            let all = match (is_clean, report.keys.none_left) {
                (true, _) => "all is whole",
                (false, false) => "nothing is lost",
                (false, true) => "all data is there, and no key for it",
            };
            format!("{all}: {snapshots}, {segments}, {bytes} read")
        }
    }
}

fn lost(report: &VerifyReport, depth: VerifyDepth, damaged: usize) -> String {
    let snapshots = counted(report.snapshots, "snapshot");
    format!(
        "of a damaged one `restore --keep-going` gets what is not lost, and `verify ID --files` \
         names the files that are hit; {}\n`stillpoint repair` \
         puts right what can be; with a second copy: `stillpoint repair --from VAULT`\n{damaged} \
         of {snapshots} damaged{}",
        match report.noted {
            Noted::Done => {
                "what is damaged was noted in the vault: the next snapshot of each disk stores it \
                 again"
            }
            Noted::Nothing => "the next snapshot of each disk stores again what it needs of it",
            Noted::Failed(_) => {
                "take the next of each disk with `snapshot --full`, as others build on what is \
                 damaged"
            }
        },
        match (depth, report.unread > 0, damaged < report.snapshots) {
            (VerifyDepth::Fast, ..) => ", and of the data nothing was read",
            (VerifyDepth::Sample(_), true, _) => ", and of the data only a sample was read",
            (_, _, true) => "; the others are whole",
            (_, _, false) => "",
        }
    )
}
