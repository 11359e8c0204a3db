//! `job logs`: the end of what a detached job has said.

use super::super::args::{Common, JobLogsArgs};
use super::super::outcome::Outcome;
use crate::error::{ErrorKind, Result};
use crate::model::printable;
use serde_json::json;

pub fn run(args: &JobLogsArgs, common: &Common) -> Result<Outcome> {
    let folder = super::open(common)?;
    let id = folder.find(&args.id)?;
    let log = folder
        .log(id, args.bytes)
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => error
                .context(format!("job {id} has no log"))
                .with_hint("only --detach makes one; other jobs speak to whoever started them"),
            _ => error,
        })?;
    let text = String::from_utf8_lossy(&log.tail);
    let text = printable::lines(&text).into_owned();
    let json = json!({"job": id.to_string(), "log": text, "skipped_bytes": log.skipped});
    let text = if log.skipped > 0 {
        format!("({} bytes before this are left out)\n{text}", log.skipped)
    } else {
        text
    };
    Ok(Outcome::done(json, text))
}
