//! What was brought back out of the versions that a bucket keeps.

use super::Report;
use super::text::{counted, first_warnings, listed};
use crate::engine::{BringBackReport, BroughtBack, Unrecovered};
use crate::model::clip;
use crate::model::exit::DAMAGED;
use crate::model::printable::one_line;
use crate::store::ObjectName;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Most bytes of the list of what is back and what is not.
const MOST_LINES: usize = 6000;
/// Most bytes of a version's name that are told.
const MOST_VERSION: usize = 128;
/// Where the rest of a long list is.
const LISTS_ALL: &str = "--json lists more";

/// A recovery that has ended.
pub struct Recovered<'a> {
    /// What was found and brought back.
    pub done: &'a BringBackReport,
    /// The time that was named.
    pub at: Timestamp,
    /// Where the vault is.
    pub location: &'a str,
    /// Nothing was put: what is told is what would be.
    pub dry_run: bool,
}

fn names(names: &[ObjectName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// What `recover` reports.
pub fn report(recovered: &Recovered<'_>) -> Report {
    let done = recovered.done;
    let unknown = done
        .unknown
        .iter()
        .map(|one| json!({"snapshot": one.snapshot.to_string(), "what": one.why.to_string()}));
    let since = done.since.iter().map(ToString::to_string);
    let mut json = json!({
        "dry_run": recovered.dry_run,
        "at": format!("{:.3}", recovered.at),
        "stood": done.stood,
        "opened_by": names(&done.opened_by),
        "snapshots": done.snapshots.iter().map(snapshot).collect::<Vec<_>>(),
        "objects": done.objects,
        "bytes": done.bytes,
        "since": since.collect::<Vec<_>>(),
        "since_count": done.since_count,
        "hidden_since": done.hidden_since,
        "keys_since": done.keys_since,
        "lost": names(&done.lost),
        "lost_count": done.lost_count,
        "failed": done.failed.iter().map(failed).collect::<Vec<_>>(),
        "failed_count": done.failed_count,
        "unknown": unknown.collect::<Vec<_>>(),
    });
    if !done.warnings.is_empty() {
        json["warnings"] = first_warnings(&done.warnings, LISTS_ALL).into();
    }
    let mut report = Report::done(json, text(recovered)).below(!done.warnings.is_empty());
    if done.lost_count + done.failed_count + done.unknown.len() > 0 {
        report.code = DAMAGED;
    }
    report
}

fn snapshot(one: &BroughtBack) -> Value {
    let replaced = one.replaced.as_ref();
    json!({
        "snapshot": one.snapshot.to_string(),
        "replaced": replaced.map(|version| clip(version, MOST_VERSION)),
    })
}

fn failed(one: &Unrecovered) -> Value {
    json!({"object": one.name.to_string(), "what": one.why.to_string()})
}

fn text(recovered: &Recovered<'_>) -> String {
    let done = recovered.done;
    let is = match recovered.dry_run {
        true => "would be back",
        false => "is back",
    };
    let opened = done.opened_by.iter();
    let opened = opened.map(|name| format!("{is}: {}", one_line(name.as_str())));
    let snapshots = done.snapshots.iter().map(|one| match &one.replaced {
        None => format!("{is}: snapshot {}", one.snapshot),
        Some(version) => format!(
            "{is}: snapshot {}, whose manifest was replaced (by version {})",
            one.snapshot,
            one_line(&clip(version, MOST_VERSION))
        ),
    });
    let lost = done.lost.iter();
    let lost = lost.map(|name| {
        format!(
            "it did not stand then, nor does it now: {}",
            one_line(name.as_str())
        )
    });
    let failed = done.failed.iter().map(|one| {
        let why = one.why.to_string();
        let name = one_line(one.name.as_str());
        format!("not brought back: {name}: {}", one_line(&why))
    });
    let unknown = done.unknown.iter().map(|one| {
        let why = one.why.to_string();
        let snapshot = one.snapshot;
        format!(
            "not all is known that it needs: {snapshot}: {}",
            one_line(&why)
        )
    });
    let since = done.since.iter();
    let since = since.map(|id| format!("first put since then, left as it is: snapshot {id}"));
    let warned = done.warnings.iter();
    let warned = warned.map(|one| format!("warning: {}", one_line(one)));
    let bad = warned.chain(failed).chain(lost).chain(unknown);
    let lines = bad.chain(opened).chain(since).chain(snapshots);
    let mut text = listed(lines, MOST_LINES, LISTS_ALL);
    text.push_str(&verdict(recovered));
    text
}

fn verdict(recovered: &Recovered<'_>) -> String {
    let done = recovered.done;
    let (did, next) = match recovered.dry_run {
        true => ("would bring back", "nothing was put"),
        false => (
            "brought back",
            "`stillpoint verify --all` says whether all is whole",
        ),
    };
    let mut more = String::new();
    let mut add = |count: usize, what: String| {
        if count > 0 {
            more.push_str("; ");
            more.push_str(&what);
        }
    };
    let since = counted(done.since_count, "snapshot");
    add(
        done.since_count,
        format!("since then: {since}, judge them yourself"),
    );
    let hidden = counted(done.hidden_since, "snapshot");
    add(
        done.hidden_since,
        format!("since then: {hidden} that do not stand any more, see with a later --at"),
    );
    let keys = counted(done.keys_since, "key");
    add(
        done.keys_since,
        format!("since then: {keys}, see `stillpoint key list`"),
    );
    let failed = counted(done.failed_count + done.lost_count, "object");
    add(
        done.failed_count + done.lost_count,
        format!("{failed} could not be brought back"),
    );
    format!(
        "{did} {} of the {} of {:.0} and {}, {}, in {}{more}; {next}",
        counted(done.snapshots.len(), "snapshot"),
        done.stood,
        recovered.at,
        counted(done.objects + done.opened_by.len(), "other object"),
        done.bytes,
        one_line(recovered.location),
    )
}
