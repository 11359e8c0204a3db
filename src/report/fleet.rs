//! What `fleet` reports: each instance with how it stands, what was done to it, and what is wrong.

use super::Report;
use super::text::{cells, counted, listed, table_text};
use crate::fleet::{HostResult, HostState, TEMPLATE};
use crate::model::exit::{BELOW, FAILED};
use crate::model::printable::one_line;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// Most bytes of the table, and of what went wrong: runners keep only the end of what is printed.
const MOST_TABLE: usize = 4000;
const MOST_WRONG: usize = 3500;

/// What `fleet template` reports.
pub fn template(file: Option<&Path>) -> Report {
    let json = json!({"file": file, "csv": TEMPLATE});
    match file {
        None => Report::done(json, TEMPLATE),
        Some(file) => {
            let text = format!(
                "made the list {}: a row for each instance, then `stillpoint fleet apply`",
                file.display()
            );
            Report::done(json, text)
        }
    }
}

/// What `fleet apply` reports.
pub fn apply(list: &Path, kept: &Path, results: &[HostResult]) -> Report {
    let wrong: Vec<&HostResult> = results.iter().filter(|one| one.failure.is_some()).collect();
    let kept = one_line(&kept.to_string_lossy()).into_owned();
    let mut text = told(results, &wrong, &format!("all stand in {kept}"));
    let (all, activated) = (results.len(), activated(results));
    let ready = all - wrong.len() - activated;
    let mut parts = vec![format!("{activated} activated")];
    if ready > 0 {
        parts.push(format!(
            "{ready} installed and not activated, as no token was given"
        ));
    }
    if !wrong.is_empty() {
        parts.push(format!("{} FAILED", wrong.len()));
    }
    let _ = write!(
        text,
        "of {}: {}; kept in {kept}",
        counted(all, "instance"),
        parts.join(", ")
    );
    let json = json!({
        "list": list,
        "results": kept,
        "hosts": documents(results),
        "activated": activated,
        "installed": ready,
        "failed": wrong.len(),
    });
    let mut report = Report::done(json, text);
    report.code = match wrong.len() {
        0 => report.code,
        failed if failed == all => FAILED,
        _ => BELOW,
    };
    report
}

/// What `fleet status` reports.
pub fn status(list: &Path, results: &[HostResult]) -> Report {
    let is_wrong = |one: &&HostResult| {
        let bad = one.failure.is_some() || !one.problems.is_empty();
        bad || one.state != HostState::Activated
    };
    let wrong: Vec<&HostResult> = results.iter().filter(is_wrong).collect();
    let mut text = told(results, &wrong, "--json tells of all");
    let all = counted(results.len(), "instance");
    let _ = match wrong.len() {
        0 => write!(
            text,
            "of {all}: all activated, and nothing is wrong with them"
        ),
        count => write!(text, "of {all}: {count} NOT as they should be"),
    };
    let json = json!({
        "list": list,
        "hosts": documents(results),
        "activated": results.len() - wrong.len(),
        "wrong": wrong.len(),
    });
    Report::done(json, text).below(!wrong.is_empty())
}

/// What is told of an instance as soon as it is known.
pub fn line(result: &HostResult) -> String {
    let who = who(result);
    let version = result.version.as_deref().unwrap_or_default();
    let done: Vec<&str> = result.done.iter().map(|step| step.words()).collect();
    let mut text = format!("{who}: {} {version}", result.state.name());
    if !done.is_empty() {
        let _ = write!(text, " (done: {})", done.join(", "));
    }
    if let Some(failure) = &result.failure {
        let _ = write!(
            text,
            ": FAILED to {}: {}",
            failure.step.words(),
            failure.message
        );
    }
    one_line(&text).into_owned()
}

fn who(result: &HostResult) -> String {
    match result.name.as_str() {
        "" => result.instance.clone(),
        name => format!("{} ({name})", result.instance),
    }
}

fn activated(results: &[HostResult]) -> usize {
    let good = |one: &&HostResult| one.failure.is_none() && one.state == HostState::Activated;
    results.iter().filter(good).count()
}

fn documents(results: &[HostResult]) -> Vec<Value> {
    results.iter().map(|result| json!(result)).collect()
}

/// A table of all, and what is wrong after it: of a long list the end is what is seen.
fn told(results: &[HostResult], wrong: &[&HostResult], where_else: &str) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "INSTANCE",
        "NAME",
        "ADDRESS",
        "STATE",
        "VERSION",
        "LAST SNAPSHOT",
    ]);
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    for one in results {
        table.add_row(cells([
            one.instance.clone(),
            one.name.clone(),
            or_none(&one.address),
            one.state.name().to_owned(),
            or_none(&one.version),
            or_none(&one.last_snapshot),
        ]));
    }
    let table = table_text(&table);
    let mut text = listed(table.lines().map(String::from), MOST_TABLE, where_else);
    let problems = results.iter().flat_map(|one| {
        let problems = one.problems.iter();
        problems.map(|problem| format!("! {}: {problem}", who(one)))
    });
    text.push_str(&listed(problems, MOST_WRONG, where_else));
    let said = wrong.iter().filter_map(|one| match &one.failure {
        None if one.state == HostState::Activated => None,
        None => Some(format!("!! {}: it is not activated", who(one))),
        Some(failure) => Some(format!(
            "!! {}: {}: {}; {}",
            who(one),
            failure.step.words(),
            failure.message,
            failure.hint
        )),
    });
    text.push_str(&listed(said, MOST_WRONG, where_else));
    text
}
