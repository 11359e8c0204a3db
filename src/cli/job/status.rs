//! `job status`: everything about one job.

use super::super::args::{Common, JobStatusArgs};
use super::super::outcome::{Outcome, end_of, first_warnings};
use crate::error::Result;
use crate::job::{JobFolder, JobRecord, State};
use crate::model::clip;
use crate::model::printable::{lines, one_line};
use serde_json::{Value, json};
use std::fmt::Write;

/// Most bytes of the answer's words that are shown.
const MOST: usize = 8000;
/// The same in a document.
const MOST_TEXT: usize = 2000;

pub fn run(args: &JobStatusArgs, common: &Common) -> Result<Outcome> {
    let folder = super::open(common)?;
    let record = folder.look(folder.find(&args.id)?)?;
    Ok(Outcome::done(document(&record, &folder), describe(&record)))
}

/// A job as users' scripts know it.
pub fn document(record: &JobRecord, folder: &JobFolder) -> Value {
    let mut document = json!(record);
    // The answer is there in whole; the same in words is not to push it out of what runners keep.
    document["text"] = record
        .text
        .as_deref()
        .map(|text| end_of(text, MOST_TEXT))
        .into();
    let more = format!("stillpoint job logs {}", record.job);
    document["warnings"] = first_warnings(&record.warnings, &more).into();
    let log = folder.path().join(format!("{}.log", record.job));
    document["log"] = if record.detached {
        json!(log.to_string_lossy())
    } else {
        Value::Null
    };
    document
}

/// The same for people; the last line is the verdict.
fn describe(record: &JobRecord) -> String {
    let mut text = format!(
        "job {}\n  {} on {}, process {}\n  started {}\n",
        record.job,
        one_line(&record.args.join(" ")),
        one_line(&record.host),
        record.process.pid,
        record.started
    );
    for warning in &record.warnings {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  warning: {}", one_line(warning));
    }
    text = clip(&text, MOST / 2);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if let Some(answer) = &record.text {
        // Its own last line is its verdict: the end counts.
        let from = answer.len().saturating_sub(MOST / 2);
        let from = (from..answer.len()).find(|&from| answer.is_char_boundary(from));
        let end = from.and_then(|from| answer.get(from..)).unwrap_or_default();
        for line in end.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text.push_str(&verdict(record));
    lines(&text).into_owned()
}

/// How it stands, in a line.
pub fn verdict(record: &JobRecord) -> String {
    let code = record
        .exit_code
        .map_or_else(String::new, |code| format!(", exit code {code}"));
    let job = record.job;
    let line = match record.state {
        State::Starting | State::Running => {
            format!("job {job} is {}: {}", record.state, doing(record))
        }
        State::Died => format!(
            "job {job} died without a word, after {:?}; `stillpoint thaw` thaws what it may have \
             left frozen",
            doing(record)
        ),
        State::Done => format!("job {job} is done{code}"),
        State::Failed | State::Cancelled => {
            let error = record
                .error
                .as_ref()
                .and_then(|error| error["message"].as_str());
            format!(
                "job {job} {}{code}: {}",
                if record.state == State::Failed {
                    "failed"
                } else {
                    "was cancelled"
                },
                error.unwrap_or("it did not say why")
            )
        }
    };
    clip(&one_line(&line.replace('\n', " ")), 2000)
}

/// What is being done, and how far it is.
pub fn doing(record: &JobRecord) -> String {
    match (&record.phase, record.progress) {
        (phase, _) if phase.is_empty() => "beginning".into(),
        (phase, None) => phase.clone(),
        (phase, Some(progress)) => {
            format!(
                "{phase}: {} of {}",
                progress.done_bytes, progress.total_bytes
            )
        }
    }
}
