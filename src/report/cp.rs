//! Files and trees that were copied from snapshots.

use super::Report;
use super::text::{counted, listed};
use crate::engine::CopyResult;
use crate::export::{FailureCause, LeftOutPlace, TreeCopyOutcome};
use crate::format::is_the_kernels_own;
use crate::model::exit::{BELOW, DAMAGED};
use crate::model::{Bytes, SnapshotId, printable};
use serde_json::{Value, json};
use std::path::Path;

/// Most bytes of the list of what was not copied.
const MOST_FAILURES: usize = 8000;

/// What was copied from one snapshot.
pub struct CopiedFrom {
    /// Which.
    pub snapshot: SnapshotId,
    /// Of which host.
    pub host: String,
    /// What came of it.
    pub result: CopyResult,
}

/// What `cp` reports.
pub fn report(all: &[CopiedFrom]) -> Report {
    let mut sum = TreeCopyOutcome::default();
    for one in all {
        sum.add(one.result.outcome.clone());
    }
    let tops = all.iter().flat_map(|one| {
        one.result.tops.iter().map(|top| {
            json!({
                "snapshot": one.snapshot.to_string(),
                "host": one.host,
                "from": top.from.to_string_lossy(),
                "to": top.to.to_string_lossy(),
                "link": top.link.as_ref().map(|link| link.to_string_lossy()),
            })
        })
    });
    let warnings: Vec<&String> = all.iter().flat_map(|one| &one.result.warnings).collect();
    let json = json!({
        "warnings": warnings,
        "copied": tops.collect::<Vec<Value>>(),
        "files": sum.files,
        "directories": sum.directories,
        "symlinks": sum.symlinks,
        "special_files": sum.specials,
        "hard_links": sum.hard_links,
        "hard_links_lost": sum.unlinked,
        "data_bytes": sum.data,
        "unread": sum.unread,
        "not_made": sum.unmade,
        "not_opened": sum.unopened,
        "failed": sum.failures.iter().map(|failure| json!({
            "path": failure.place.to_string_lossy(),
            "what": failure.what,
            "cause": cause(failure.cause),
        })).collect::<Vec<_>>(),
        "not_in_snapshot": sum.left_out.iter().map(|place| json!({
            "path": place.place.to_string_lossy(),
            "type": place.fstype,
        })).collect::<Vec<_>>(),
        "not_taken": sum.lost.iter().map(|(what, lost)| json!({
            "what": what,
            "count": lost.count,
            "first": lost.first.to_string_lossy(),
            "why": lost.why,
        })).collect::<Vec<_>>(),
    });
    let mut report = Report::done(json, text(all, &sum));
    let tops: Vec<_> = all.iter().flat_map(|one| &one.result.tops).collect();
    let is_missed = |place: &&LeftOutPlace| {
        !is_of_the_moment(&place.fstype) || tops.iter().any(|top| top.from == place.place)
    };
    let missed = sum.left_out.iter().filter(is_missed);
    if sum.is_below() || missed.count() > 0 || !warnings.is_empty() {
        report.code = BELOW;
    }
    if sum.unread > 0 {
        report.code = DAMAGED;
    }
    report
}

/// Whether nobody wants back what such a filesystem holds.
pub fn is_of_the_moment(fstype: &str) -> bool {
    is_the_kernels_own(fstype) || matches!(fstype, "overlay" | "ramfs" | "tmpfs")
}

fn cause(cause: FailureCause) -> &'static str {
    match cause {
        FailureCause::Source => "unread",
        FailureCause::Target => "not_made",
        FailureCause::Unopened => "not_opened",
    }
}

fn text(all: &[CopiedFrom], sum: &TreeCopyOutcome) -> String {
    let path = |path: &Path| printable::path(path);
    let failures = sum
        .failures
        .iter()
        .map(|one| format!("not copied: {}: {}", path(&one.place), one.what));
    let left_out = sum.left_out.iter().map(|one| {
        let fstype = printable::one_line(&one.fstype);
        format!(
            "not in the snapshot: {} ({fstype} was mounted there)",
            path(&one.place)
        )
    });
    let lost = sum.lost.iter().map(|(what, lost)| {
        let (count, first) = (lost.count, path(&lost.first));
        format!(
            "not taken by the target: {what}, of {count}, the first {first}: {}",
            lost.why
        )
    });
    let links = all
        .iter()
        .flat_map(|one| &one.result.tops)
        .filter_map(|top| {
            let link = top.link.as_ref()?;
            let from = path(&top.from);
            Some(format!(
                "note: {from} is a symlink to {}; --follow copies that",
                path(link)
            ))
        });
    let lines = failures.chain(lost).chain(left_out).chain(links);
    let mut text = listed(lines, MOST_FAILURES, "--json lists more");
    text.push_str(&verdict(all, sum));
    text
}

fn verdict(all: &[CopiedFrom], sum: &TreeCopyOutcome) -> String {
    let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    let files = size(sum.files + sum.hard_links);
    let mut parts = vec![counted(files, "file")];
    for (count, what) in [(sum.symlinks, "symlink"), (sum.specials, "special file")] {
        if count > 0 {
            parts.push(counted(size(count), what));
        }
    }
    match sum.directories {
        0 => {}
        1 => parts.push("1 directory".into()),
        many => parts.push(format!("{many} directories")),
    }
    let data: Bytes = sum.data;
    let from = match all {
        [one] => format!(
            " of {} (host {})",
            one.snapshot,
            printable::one_line(&one.host)
        ),
        _ => format!(" of {}", counted(all.len(), "snapshot")),
    };
    let tops: Vec<_> = all.iter().flat_map(|one| &one.result.tops).collect();
    let to = match tops.as_slice() {
        [one] => format!(" to {}", printable::path(&one.to)),
        _ => String::new(),
    };
    let mut verdict = format!("copied {}{from}{to}, {data} of data", parts.join(", "));
    for (count, what) in [
        (sum.unread, "could not be read"),
        (sum.unmade, "could not be made"),
        (sum.unopened, "could not be opened here"),
    ] {
        if count > 0 {
            verdict.push_str(&format!("; {count} {what}"));
        }
    }
    if sum.left_out_count > 0 {
        let count = counted(size(sum.left_out_count), "place");
        verdict.push_str(&format!("; {count} not in the snapshot"));
    }
    verdict
}
