//! What `fleet` reports: each instance with how it stands, what was done to it, and what is wrong.

use super::Report;
use super::text::{cells, counted, listed, table_text};
use crate::error::Error;
use crate::fleet::{HostResult, HostState, TEMPLATE};
use crate::model::exit::{BELOW, FAILED, code};
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

/// What `fleet apply` reports; `stopped`: why it did not come to its end.
pub fn apply(list: &Path, kept: &Path, results: &[HostResult], stopped: Option<&Error>) -> Report {
    let wrong: Vec<&HostResult> = results.iter().filter(|one| one.failure.is_some()).collect();
    let kept = one_line(&kept.to_string_lossy()).into_owned();
    let mut text = told(results, &wrong, &format!("all stand in {kept}"));
    let (all, activated) = (results.len(), activated(results));
    let left = UnvisitedHosts::of(results);
    let ready = all - wrong.len() - activated - left.cut_off - left.not_begun;
    let mut parts = vec![format!("{activated} activated")];
    if ready > 0 {
        parts.push(format!(
            "{ready} installed and not activated, as no token was given"
        ));
    }
    if !wrong.is_empty() {
        parts.push(format!("{} FAILED", wrong.len()));
    }
    parts.extend(left.words());
    let _ = write!(
        text,
        "of {}: {}; kept in {kept}{}",
        counted(all, "instance"),
        parts.join(", "),
        left.because(stopped)
    );
    let json = json!({
        "list": list,
        "results": kept,
        "hosts": documents(results),
        "activated": activated,
        "installed": ready,
        "failed": wrong.len(),
        "cut_off": left.cut_off,
        "not_begun": left.not_begun,
    });
    let mut report = Report::done(json, text);
    report.code = match (stopped, wrong.len()) {
        (Some(error), _) => code(error.kind()),
        (None, failed) if failed == all => FAILED,
        (None, 0) if left.is_none() => report.code,
        (None, _) => BELOW,
    };
    report
}

/// What `fleet status` reports; `stopped`: why it did not come to its end.
pub fn status(list: &Path, results: &[HostResult], stopped: Option<&Error>) -> Report {
    let is_wrong = |one: &&HostResult| {
        let bad = one.failure.is_some() || !one.problems.is_empty();
        bad || one.state != HostState::Activated
    };
    let left = UnvisitedHosts::of(results);
    let wrong: Vec<&HostResult> = results.iter().filter(is_wrong).collect();
    let mut text = told(results, &wrong, "--json tells of all");
    let all = counted(results.len(), "instance");
    let not_right = wrong.len() - left.cut_off - left.not_begun;
    let mut parts = Vec::new();
    if not_right > 0 {
        parts.push(format!("{not_right} NOT as they should be"));
    }
    parts.extend(left.words());
    let _ = match parts.is_empty() {
        true => write!(
            text,
            "of {all}: all activated, and nothing is wrong with them"
        ),
        false => write!(
            text,
            "of {all}: {}{}",
            parts.join(", "),
            left.because(stopped)
        ),
    };
    let json = json!({
        "list": list,
        "hosts": documents(results),
        "activated": results.len() - wrong.len(),
        "wrong": wrong.len(),
        "cut_off": left.cut_off,
        "not_begun": left.not_begun,
    });
    let mut report = Report::done(json, text).below(!wrong.is_empty());
    if let Some(error) = stopped {
        report.code = code(error.kind());
    }
    report
}

/// How many instances are left for another run.
struct UnvisitedHosts {
    cut_off: usize,
    not_begun: usize,
}

impl UnvisitedHosts {
    fn of(results: &[HostResult]) -> Self {
        let count = |state| results.iter().filter(|one| one.state == state).count();
        Self {
            cut_off: count(HostState::CutOff),
            not_begun: count(HostState::NotBegun),
        }
    }

    fn is_none(&self) -> bool {
        self.cut_off == 0 && self.not_begun == 0
    }

    fn words(&self) -> impl Iterator<Item = String> {
        let words = [(self.cut_off, "CUT OFF"), (self.not_begun, "NOT BEGUN")];
        let words = words.into_iter().filter(|(count, _)| *count > 0);
        words.map(|(count, word)| format!("{count} {word}"))
    }

    /// Why, and what to do about it.
    fn because(&self, stopped: Option<&Error>) -> String {
        match stopped {
            _ if self.is_none() => String::new(),
            None => "; its deadline came: the same command goes on".into(),
            Some(error) => {
                let why = one_line(&error.to_string()).into_owned();
                format!("; {why}: the same command goes on")
            }
        }
    }
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
        None if matches!(
            one.state,
            HostState::Activated | HostState::CutOff | HostState::NotBegun
        ) =>
        {
            None
        }
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
