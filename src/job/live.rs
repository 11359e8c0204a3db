//! Runs work as a job of this process and keeps its record up to date. A thread has another process
//! write the record: its directory may stand still, frozen by this very run, and nobody waits for
//! it without a bound.

use super::record::JobState;
use super::updates::{JobEnd, RecordUpdates};
use super::writer::RecordWriter;
use super::{JobId, JobProcess, JobRecord};
use crate::engine::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a run waits for its first record.
const BEGIN_WITHIN: Duration = Duration::from_secs(2);
/// How long the process that writes it may take to exit.
const GONE_WITHIN: Duration = Duration::from_secs(1);
/// How long a run waits for its last record.
const END_WITHIN: Duration = Duration::from_secs(10);

/// A job that this process is to work on.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its name.
    pub id: JobId,
    /// The command's word: `snapshot`.
    pub command: String,
    /// What it was started with, after the program's name.
    pub args: Vec<String>,
    /// Whether it goes on without its starter.
    pub detached: bool,
    /// The directory of its record.
    pub directory: PathBuf,
}

impl NewJob {
    /// Its first record.
    pub(super) fn record(&self, state: JobState) -> Result<JobRecord> {
        let me = JobProcess::of(std::process::id())?;
        let mut record = JobRecord::new(self.id, me, &self.command, &self.args);
        record.detached = self.detached;
        record.state = state;
        Ok(record)
    }
}

/// A job that is being worked on.
pub struct LiveJob {
    id: Option<JobId>,
    updates: Arc<RecordUpdates>,
    /// How the first and the last writing went.
    written: Receiver<Result<()>>,
    begun: Result<()>,
}

/// Runs `work` as a job of this process. Its record is a service: a job without one goes on.
/// Returns what the work returned, and an error when the record is not whole.
pub fn run<T>(new: Result<NewJob>, work: impl FnOnce(&LiveJob) -> (T, JobEnd)) -> (T, Result<()>) {
    let live = LiveJob::begin(new);
    let (returned, end) = work(&live);
    (returned, live.end(end))
}

impl LiveJob {
    /// Starts the thread that has the record written, and waits a moment for the first writing.
    fn begin(new: Result<NewJob>) -> Self {
        let updates = Arc::<RecordUpdates>::default();
        let (report, written) = bounded(2);
        let prepared = new.and_then(|new| {
            let record = new.record(JobState::Running)?;
            Ok((RecordWriter::start(&new.directory)?, record))
        });
        let (id, begun) = match prepared {
            Ok((writer, record)) => {
                let id = record.job;
                let updates = Arc::clone(&updates);
                let thread = std::thread::Builder::new()
                    .name("job record".into())
                    .spawn(move || keep_written(&updates, writer, record, &report));
                let begun = match thread {
                    Ok(_) => outcome(&written, Instant::now() + BEGIN_WITHIN),
                    Err(error) => {
                        let what = "cannot start a thread";
                        Err(Error::new(ErrorKind::Failed, what).with_source(error))
                    }
                };
                (Some(id), begun)
            }
            Err(error) => (None, Err(error)),
        };
        Self {
            id,
            updates,
            written,
            begun,
        }
    }

    /// Its name; `None` when it will have no record.
    pub fn id(&self) -> Option<JobId> {
        self.id
    }

    /// Takes the events that the record is to say.
    pub fn monitor(&self) -> Arc<dyn Monitor + Send> {
        Arc::<RecordUpdates>::clone(&self.updates)
    }

    /// Has the record say how the job ended.
    fn end(self, end: JobEnd) -> Result<()> {
        self.updates.end(end);
        let until = Instant::now() + END_WITHIN;
        match self.begun {
            Ok(()) => outcome(&self.written, until),
            // A directory that was slow at first may have answered since: two writings are waited
            // for, and the last one counts.
            Err(late) => outcome(&self.written, until)
                .and_then(|()| outcome(&self.written, until))
                .map_err(|_| late),
        }
    }
}

/// How the next writing went.
fn outcome(written: &Receiver<Result<()>>, until: Instant) -> Result<()> {
    written.recv_deadline(until).unwrap_or_else(|_| {
        let what = "the job directory does not answer";
        Err(Error::new(ErrorKind::Failed, what))
    })
}

/// Runs as the thread: has the record written until the job has ended.
fn keep_written(
    updates: &RecordUpdates,
    mut writer: RecordWriter,
    mut record: JobRecord,
    report: &Sender<Result<()>>,
) {
    let begun = writer.write(&record);
    let failed = begun.is_err();
    // Whether anybody still waits for it is not this thread's business.
    let _ = report.send(begun);
    if failed {
        return;
    }
    let mut last = Instant::now();
    while !updates.collect(&mut record, last) {
        // There may be room again the next time; only the end counts.
        let _ = writer.write(&record);
        last = Instant::now();
    }
    let written = writer.write_last(&record);
    // The writer must leave the job's control group before that is removed.
    writer.finish(GONE_WITHIN);
    let _ = report.send(written);
}
