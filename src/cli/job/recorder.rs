//! Keeps the record of a run up to date, by a thread that has another process write it: the folder
//! may stand still, frozen by the very run, and nobody waits for it without a bound.

use super::super::args::Common;
use super::super::progress::Progress as Shown;
use super::keeper::RecordKeeper;
use crate::engine::{Event, Monitor};
use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobId, JobProcess, JobRecord, MAX_WARNINGS, Progress, State};
use crate::model::exit::code;
use crate::report::{self, Report};
use crossbeam_channel::{Receiver, Sender, bounded};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often progress is written.
const EVERY: Duration = Duration::from_secs(1);
/// How soon after the last writing a change of the phase may be.
const SOON: Duration = Duration::from_millis(100);
/// How long a run waits for its first record.
const BEGIN_WITHIN: Duration = Duration::from_secs(2);
/// How long the process that writes it may take to end.
const GONE_WITHIN: Duration = Duration::from_secs(1);
/// How long a run waits for its last record.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What the engine has told and the record does not say yet.
#[derive(Default)]
struct Letter {
    phase: Option<String>,
    progress: Option<Progress>,
    warnings: Vec<String>,
    end: Option<End>,
    changed: bool,
}

struct End {
    state: State,
    exit_code: u8,
    result: Option<Value>,
    text: Option<String>,
    error: Option<Value>,
}

/// From the engine's threads to the one that writes. Whoever puts something in waits for nobody.
#[derive(Default)]
pub struct Mail {
    letter: Mutex<Letter>,
    bell: Condvar,
}

impl Monitor for Mail {
    fn tell(&self, event: Event) {
        self.hear(event);
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl Mail {
    fn lock(&self) -> MutexGuard<'_, Letter> {
        // Held for moments, and never while a file is written.
        self.letter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an event.
    fn hear(&self, event: Event) {
        let mut letter = self.lock();
        match event {
            Event::Phase(phase) => {
                letter.phase = Some(phase);
                letter.progress = None;
            }
            Event::Progress { done, total } => {
                letter.progress = Some(Progress {
                    done_bytes: done,
                    total_bytes: total,
                });
            }
            Event::Warning(warning) if letter.warnings.len() < MAX_WARNINGS => {
                letter.warnings.push(warning);
            }
            Event::Warning(_) | Event::Said(_) | Event::Note(_) => return,
        }
        letter.changed = true;
        self.bell.notify_one();
    }

    fn end(&self, end: End) {
        self.lock().end = Some(end);
        self.bell.notify_one();
    }

    /// Waits until something is to be written, and puts it into the record; answers whether that
    /// is the end.
    fn collect(&self, record: &mut JobRecord, last: Instant) -> bool {
        let mut letter = self.lock();
        while letter.end.is_none() {
            let pause = if letter.phase.is_some() { SOON } else { EVERY };
            let left = (last + pause).saturating_duration_since(Instant::now());
            if letter.changed && left.is_zero() {
                break;
            }
            // Without a change there is nothing to wake up for.
            let most = if letter.changed {
                left
            } else {
                Duration::from_secs(3600)
            };
            let woken = self.bell.wait_timeout(letter, most);
            letter = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Some(phase) = letter.phase.take() {
            record.phase = phase;
            record.progress = None;
        }
        record.progress = letter.progress.or(record.progress);
        record.warnings.clone_from(&letter.warnings);
        letter.changed = false;
        record.updated = Timestamp::now();
        let Some(end) = letter.end.take() else {
            return false;
        };
        record.ended = Some(record.updated);
        record.state = end.state;
        record.exit_code = Some(end.exit_code);
        (record.result, record.text, record.error) = (end.result, end.text, end.error);
        true
    }
}

/// Runs `work` as a job of this process. Its record is a service: without one the run goes on, and
/// says so. `warnings`: what the user should know of the job itself.
pub fn attend(
    command: &str,
    common: &Common,
    progress: &Shown,
    warnings: &[String],
    work: impl FnOnce() -> Result<Report>,
) -> Result<Report> {
    let mail = Arc::new(Mail::default());
    for warning in warnings {
        mail.hear(Event::Warning(warning.clone()));
    }
    let (job, answers, begun) = begin(command, common, &mail);
    progress.attach(Arc::<Mail>::clone(&mail));
    let mut result = work();
    if let (Some(job), Ok(outcome)) = (job, &mut result)
        && let Value::Object(document) = &mut outcome.json
    {
        document.insert("job".into(), json!(job.to_string()));
    }
    if let Ok(outcome) = &mut result {
        warnings.iter().for_each(|warning| outcome.warn(warning));
    }
    mail.end(end_of(&result));
    let until = Instant::now() + END_WITHIN;
    let ended = match begun {
        Ok(()) => answered(&answers, until),
        // A folder that was slow at first may have answered since; then what it says last counts.
        Err(late) => answered(&answers, until)
            .and_then(|()| answered(&answers, until))
            .map_err(|_| late),
    };
    if let (Err(error), Ok(outcome)) = (&ended, &mut result) {
        outcome.warn(&no_record(error));
    }
    result
}

/// Starts the thread that has the record written; answers how the first writing went.
fn begin(
    command: &str,
    common: &Common,
    mail: &Arc<Mail>,
) -> (Option<JobId>, Receiver<Result<()>>, Result<()>) {
    let (answer, answers) = bounded(2);
    let prepared = super::folder_path(common).and_then(|path| {
        let id = common
            .as_job
            .map_or_else(|| JobId::generate(Timestamp::now()), Ok)?;
        let record = record_of_this(id, command, common, State::Running)?;
        Ok((RecordKeeper::start(&path)?, record))
    });
    let (keeper, record) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return (None, answers, Err(error)),
    };
    let job = record.job;
    let mail = Arc::clone(mail);
    let thread = std::thread::Builder::new()
        .name("job record".into())
        .spawn(move || keep(&mail, keeper, record, &answer));
    let begun = match thread {
        Ok(_) => answered(&answers, Instant::now() + BEGIN_WITHIN),
        Err(error) => {
            Err(Error::new(ErrorKind::Failed, "cannot start a thread").with_source(error))
        }
    };
    (Some(job), answers, begun)
}

/// The record of a job that this process works on.
pub(super) fn record_of_this(
    id: JobId,
    command: &str,
    common: &Common,
    state: State,
) -> Result<JobRecord> {
    let me = JobProcess::of(std::process::id())?;
    let mut record = JobRecord::new(id, me, command, &arguments());
    record.detached = common.as_job.is_some();
    record.state = state;
    Ok(record)
}

/// What this process was started with, without what is not for users.
fn arguments() -> Vec<String> {
    let args = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned());
    args.filter(|arg| !arg.starts_with("--as-job=")).collect()
}

fn answered(answers: &Receiver<Result<()>>, until: Instant) -> Result<()> {
    answers.recv_deadline(until).unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Failed,
            "the job folder does not answer",
        ))
    })
}

fn no_record(error: &Error) -> String {
    format!("there is no whole record of this job: {error}")
}

/// The life of the thread.
fn keep(mail: &Mail, mut keeper: RecordKeeper, mut record: JobRecord, answer: &Sender<Result<()>>) {
    let begun = keeper.write(&record, false);
    let failed = begun.is_err();
    // Whether anybody still waits for the answer is not this thread's business.
    let _ = answer.send(begun);
    if failed {
        return;
    }
    let mut last = Instant::now();
    while !mail.collect(&mut record, last) {
        // There may be room again the next time; only the end counts.
        let _ = keeper.write(&record, false);
        last = Instant::now();
    }
    let written = keeper.write(&record, true);
    // It is to be out of the job's control group before that is removed.
    keeper.finish(GONE_WITHIN);
    let _ = answer.send(written);
}

fn end_of(result: &Result<Report>) -> End {
    match result {
        Ok(outcome) => End {
            state: State::Done,
            exit_code: outcome.code,
            result: Some(outcome.json.clone()),
            text: Some(outcome.text.clone()),
            error: None,
        },
        Err(error) => End {
            state: match error.kind() {
                ErrorKind::Interrupted(_) => State::Cancelled,
                _ => State::Failed,
            },
            exit_code: code(error.kind()),
            result: None,
            text: None,
            error: Some(report::error::document(error)),
        },
    }
}
