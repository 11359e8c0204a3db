//! `job wait`: until a job has ended; and to end as it did.

use super::super::args::{Common, JobWaitArgs};
use super::super::outcome::Outcome;
use super::super::signals;
use super::status::{doing, verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobFolder, JobId, JobRecord, State};
use crate::model::printable::{lines, one_line};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How often is looked.
const PAUSE: Duration = Duration::from_millis(50);

pub fn run(args: &JobWaitArgs, common: &Common) -> Result<Outcome> {
    let folder = super::open(common)?;
    let id = folder.find(&args.id)?;
    let until = args
        .timeout
        .and_then(|time| Instant::now().checked_add(time));
    let record = until_it_ends(&folder, id, until)?;
    if !record.state.is_end() {
        let what = format!("job {id} still runs: {}", doing(&record));
        return Err(Error::new(ErrorKind::Busy, what).with_hint("it goes on; wait for it again"));
    }
    answer(record)
}

/// The record once it says an end, or as it is at `until`.
pub fn until_it_ends(folder: &JobFolder, id: JobId, until: Option<Instant>) -> Result<JobRecord> {
    loop {
        let record = folder.look(id)?;
        let late = until.is_some_and(|until| Instant::now() >= until);
        if record.state.is_end() || late {
            return Ok(record);
        }
        signals::check()?;
        std::thread::sleep(PAUSE);
    }
}

/// What the job itself would have answered.
fn answer(record: JobRecord) -> Result<Outcome> {
    if record.state == State::Died {
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
    Ok(Outcome {
        json: if json.is_object() { json } else { Value::Null },
        text,
        // A record that does not say is none of a good end.
        code: record.exit_code.unwrap_or(1),
        aside: false,
    })
}
