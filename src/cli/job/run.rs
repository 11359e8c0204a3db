//! Runs the work of a command as a job of this process.

use super::super::args::Common;
use super::super::progress::ProgressDisplay;
use super::directory::directory_path;
use crate::engine::Event;
use crate::error::Result;
use crate::job::{self, JobId, NewJob};
use crate::report::{self, Report};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Runs the work of the command `word` as a job of this process. A job without a record goes on,
/// and its report says so. `warnings`: what the user should know of the job itself.
pub fn run_as_job(
    word: &str,
    common: &Common,
    progress: &ProgressDisplay,
    warnings: &[String],
    work: impl FnOnce() -> Result<Report>,
) -> Result<Report> {
    let id = common.as_job;
    let id = id.map_or_else(|| JobId::generate(Timestamp::now()), Ok);
    let (mut result, recorded) = job::run(id.and_then(|id| new_job(id, word, common)), |job| {
        let monitor = job.monitor();
        for warning in warnings {
            monitor.tell(Event::Warning(warning.clone()));
        }
        progress.attach(monitor);
        let mut result = work();
        if let Ok(report) = &mut result {
            if let (Some(id), Value::Object(document)) = (job.id(), &mut report.json) {
                document.insert("job".into(), json!(id.to_string()));
            }
            warnings.iter().for_each(|warning| report.warn(warning));
        }
        let end = report::job::end_of(&result);
        (result, end)
    });
    if let (Err(error), Ok(report)) = (&recorded, &mut result) {
        let warning = format!("there is no whole record of this job: {error}");
        report.warn(&warning);
    }
    result
}

/// The job that this process works on.
pub fn new_job(id: JobId, word: &str, common: &Common) -> Result<NewJob> {
    let of_process = || {
        let args = std::env::args_os().skip(1);
        args.map(|arg| arg.to_string_lossy().into_owned()).collect()
    };
    let args: Vec<String> = common.words.clone().unwrap_or_else(of_process);
    Ok(NewJob {
        id,
        command: word.into(),
        // Without what is not for users.
        args: args
            .into_iter()
            .filter(|arg| !arg.starts_with("--as-job="))
            .collect(),
        detached: common.as_job.is_some(),
        directory: directory_path(common)?,
    })
}
