//! What was locked.

use super::Report;
use super::text::{counted, first_warnings, listed};
use crate::engine::LockReport;
use crate::model::exit::DAMAGED;
use crate::model::printable::one_line;
use serde_json::{Value, json};

/// Most bytes of the list of what is missing or could not be read.
const MOST_LINES: usize = 6000;
/// Where the rest of a long list is.
const LISTS_ALL: &str = "--json lists more";

/// A look at locks that has ended.
pub struct LockDone<'a> {
    /// What was found and locked.
    pub done: &'a LockReport,
    /// Where the vault is.
    pub location: &'a str,
    /// Nothing was locked: what is told is what would be.
    pub dry_run: bool,
}

/// What `lock` reports.
pub fn report(lock: &LockDone<'_>) -> Report {
    let done = lock.done;
    let unknown: Vec<Value> = done
        .unknown
        .iter()
        .map(|one| json!({"snapshot": one.snapshot.to_string(), "what": one.why.to_string()}))
        .collect();
    let failed: Vec<Value> = done
        .failed
        .iter()
        .map(|one| json!({"name": one.name.to_string(), "what": one.why.to_string()}))
        .collect();
    let mut json = json!({
        "dry_run": lock.dry_run,
        "rule": done.rule.to_string(),
        "snapshots": done.snapshots,
        "over": done.over,
        "objects": {
            "stand": done.stand,
            "made": done.made,
            "extended": done.extended,
            "weaker": done.weaker,
        },
        "missing": done.missing.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "missing_count": done.missing_count,
        "failed": failed,
        "failed_count": done.failed_count,
        "unknown": unknown,
    });
    let warnings = warnings(done);
    if !warnings.is_empty() {
        json["warnings"] = first_warnings(&warnings, LISTS_ALL).into();
    }
    let unknown = done.unknown.iter();
    let unknown = unknown.map(|one| {
        let why = one.why.to_string();
        format!(
            "not all of it could be locked: {}: {}",
            one.snapshot,
            one_line(&why)
        )
    });
    let missing = done.missing.iter();
    let missing = missing.map(|name| format!("not there: {}", one_line(name.as_str())));
    let warned = warnings.iter();
    let warned = warned.map(|one| format!("warning: {}", one_line(one)));
    let failed = done.failed.iter();
    let failed = failed.map(|one| {
        let why = one.why.to_string();
        let name = one_line(one.name.as_str());
        format!("could not be locked: {name}: {}", one_line(&why))
    });
    let lines = unknown.chain(failed).chain(missing).chain(warned);
    let mut text = listed(lines, MOST_LINES, LISTS_ALL);
    text.push_str(&verdict(lock));
    let mut report = Report::done(json, text).below(!warnings.is_empty());
    if !done.unknown.is_empty() || done.failed_count > 0 {
        report.code = DAMAGED;
    }
    report
}

fn warnings(done: &LockReport) -> Vec<String> {
    let mut all = done.warnings.clone();
    if done.weaker > 0 {
        all.push(format!(
            "{} are locked by governance, and stay so: no store makes that stronger for who may \
             not pass over it",
            counted(done.weaker, "object")
        ));
    }
    if done.missing_count > 0 {
        all.push(format!(
            "{} that index objects name are not there; `stillpoint verify --all --fast` says \
             whether a snapshot needs them",
            counted(done.missing_count, "object")
        ));
    }
    all
}

fn verdict(lock: &LockDone<'_>) -> String {
    let done = lock.done;
    let did = match lock.dry_run {
        true => "would lock",
        false => "locked",
    };
    let over = match done.over {
        0 => String::new(),
        over => format!("; {over} need no lock any more"),
    };
    let failed = match done.failed_count {
        0 => String::new(),
        count => format!("; {} could not be locked", counted(count, "object")),
    };
    format!(
        "{did} {}, and {} longer, for {} in {} by {}; {} locked long enough{over}{failed}",
        counted(done.made, "object"),
        done.extended,
        counted(done.snapshots, "snapshot"),
        one_line(lock.location),
        done.rule,
        done.stand,
    )
}
