//! One job: its state, how it ended, its log.

use super::text::{first_warnings, tail};
use super::{Report, asked};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobEnd, JobId, JobLog, JobRecord, JobState};
use crate::model::clip;
use crate::model::exit::{BELOW, FAILED, code};
use crate::model::printable::{lines, one_line};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// Most bytes of the answer's text that are shown.
const MOST: usize = 8000;
/// Most bytes of the answer's text in a document.
const MOST_TEXT: usize = 2000;

/// What `job status` reports of a job whose record is in `directory`.
pub fn status(record: &JobRecord, directory: &Path) -> Report {
    Report::done(document(record, directory), describe(record))
}

/// What `--detach` reports.
pub fn started(job: JobId, warnings: &[String]) -> Report {
    let text = format!("job {job} started; ask with: stillpoint job status {job}");
    let mut report = Report::done(json!({"job": job.to_string()}), text);
    warnings.iter().for_each(|warning| report.warn(warning));
    report
}

/// How a job ended, for its record.
pub fn end_of(result: &Result<Report>) -> JobEnd {
    match result {
        Ok(report) => JobEnd {
            state: JobState::Done,
            exit_code: report.code,
            result: Some(report.json.clone()),
            text: Some(report.text.clone()),
            error: None,
        },
        Err(error) => JobEnd {
            state: match error.kind() {
                ErrorKind::Interrupted(_) => JobState::Cancelled,
                _ => JobState::Failed,
            },
            exit_code: code(error.kind()),
            result: None,
            text: None,
            error: Some(super::error::document(error)),
        },
    }
}

/// What `job cancel` reports. `had_ended`: before it was asked to stop.
pub fn cancelled(record: &JobRecord, directory: &Path, had_ended: bool) -> Report {
    let mut report = Report::done(document(record, directory), verdict(record));
    if record.state != JobState::Cancelled {
        report.code = BELOW;
        report.text = if had_ended {
            format!("it had ended before; {}", report.text)
        } else {
            format!("it ended before it was stopped; {}", report.text)
        };
    }
    report
}

/// What `job logs` reports.
pub fn log(job: JobId, log: &JobLog) -> Report {
    let text = String::from_utf8_lossy(&log.tail);
    let text = lines(&text).into_owned();
    let json = json!({"job": job.to_string(), "log": text, "skipped_bytes": log.skipped});
    let text = if log.skipped > 0 {
        format!("({} bytes before this are left out)\n{text}", log.skipped)
    } else {
        text
    };
    Report::done(json, text)
}

/// What `job wait` reports: what the job itself has reported.
///
/// # Errors
/// The job died.
pub fn ended(record: JobRecord) -> Result<Report> {
    if record.state == JobState::Died {
        return Err(
            Error::new(ErrorKind::Failed, verdict(&record)).with_hint(format!(
                "its last words: stillpoint job logs {}",
                record.job
            )),
        );
    }
    let text = match (&record.text, &record.error) {
        (Some(text), _) => lines(text).into_owned(),
        (None, Some(error)) => {
            let hint = error["hint"].as_str().map(one_line);
            let hint = hint.map_or(String::new(), |hint| format!("hint: {hint}\n"));
            format!("{hint}{}", verdict(&record))
        }
        (None, None) => verdict(&record),
    };
    let json = match (record.result, record.error) {
        (Some(result), _) => result,
        (None, Some(error)) => json!({"error": error}),
        (None, None) => json!({"job": record.job.to_string(), "warnings": record.warnings}),
    };
    Ok(Report {
        json: if json.is_object() { json } else { Value::Null },
        text,
        // Without a code in the record, it did not end well.
        code: record.exit_code.unwrap_or(FAILED),
    })
}

/// The job as scripts know it.
fn document(record: &JobRecord, directory: &Path) -> Value {
    let mut document = json!(record);
    // The whole answer is in `result`; its text must not push it out of the end that runners keep.
    document["text"] = record
        .text
        .as_deref()
        .map(|text| tail(text, MOST_TEXT))
        .into();
    let more = format!("stillpoint job logs {}", record.job);
    document["warnings"] = first_warnings(&record.warnings, &more).into();
    let log = directory.join(format!("{}.log", record.job));
    document["log"] = if record.detached {
        json!(log.to_string_lossy())
    } else {
        Value::Null
    };
    document
}

/// The job for people; the last line is the verdict.
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
    // An answer says it itself.
    if let (None, Some(requests)) = (&record.text, &record.requests) {
        let _ = writeln!(text, "  {}", asked(requests));
    }
    text.push_str(&verdict(record));
    lines(&text).into_owned()
}

/// The job's state, in a line.
fn verdict(record: &JobRecord) -> String {
    let code = record
        .exit_code
        .map_or_else(String::new, |code| format!(", exit code {code}"));
    let job = record.job;
    let line = match record.state {
        JobState::Starting | JobState::Running => {
            format!("job {job} is {}: {}", record.state, doing(record))
        }
        JobState::Died => format!(
            "job {job} died without a word, after {:?}; `stillpoint thaw` thaws what it may have \
             left frozen",
            doing(record)
        ),
        JobState::Done => format!("job {job} is done{code}"),
        JobState::Failed | JobState::Cancelled => {
            let error = record
                .error
                .as_ref()
                .and_then(|error| error["message"].as_str());
            format!(
                "job {job} {}{code}: {}",
                if record.state == JobState::Failed {
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

/// What the job is doing, and how far it is.
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
