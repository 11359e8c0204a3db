//! What the engine has reported and the record does not say yet. It passes from the engine's
//! threads to the one that writes; nobody who reports something may wait for a file.

use super::record::{JobProgress, JobRecord, JobState, MAX_WARNINGS};
use crate::engine::{Event, Monitor};
use crate::error::Result;
use crate::model::{Cancel, RequestCounts};
use crate::sys::locked::{LockExt, LockResultExt};
use jiff::Timestamp;
use serde_json::Value;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How often progress is written.
const EVERY: Duration = Duration::from_secs(1);
/// How soon after the last writing a change of the phase may be.
const SOON: Duration = Duration::from_millis(100);

/// How a job ended.
#[derive(Clone, Debug)]
pub struct JobEnd {
    /// `Done`, `Failed` or `Cancelled`.
    pub state: JobState,
    /// The code that its process exits with.
    pub exit_code: u8,
    /// The document of what it reports.
    pub result: Option<Value>,
    /// The same as text.
    pub text: Option<String>,
    /// The document of why it failed.
    pub error: Option<Value>,
}

/// What is to be written next.
#[derive(Default)]
struct Pending {
    phase: Option<String>,
    progress: Option<JobProgress>,
    warnings: Vec<String>,
    requests: Option<RequestCounts>,
    end: Option<JobEnd>,
    changed: bool,
}

/// Collects events for the thread that writes.
#[derive(Default)]
pub(super) struct RecordUpdates {
    pending: Mutex<Pending>,
    wake: Condvar,
}

impl Monitor for RecordUpdates {
    fn tell(&self, event: Event) {
        let mut pending = self.lock();
        match event {
            Event::Phase(phase) => {
                pending.phase = Some(phase.to_string());
                pending.progress = None;
            }
            Event::Progress { done, total } => {
                pending.progress = Some(JobProgress {
                    done_bytes: done,
                    total_bytes: total,
                });
            }
            Event::Asked(requests) => pending.requests = Some(requests),
            Event::Warning(warning) if pending.warnings.len() < MAX_WARNINGS => {
                pending.warnings.push(warning);
            }
            Event::Warning(_) | Event::Said(_) | Event::Note(_) => return,
        }
        pending.changed = true;
        self.wake.notify_one();
    }
}

impl Cancel for RecordUpdates {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

impl RecordUpdates {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        // Held for moments, and never while a file is written.
        self.pending.locked()
    }

    /// The job has ended. Nothing is collected after this.
    pub(super) fn end(&self, end: JobEnd) {
        self.lock().end = Some(end);
        self.wake.notify_one();
    }

    /// Waits until something is to be written and puts it into the record, which was written last
    /// at `last`. Returns whether the job has ended.
    pub(super) fn collect(&self, record: &mut JobRecord, last: Instant) -> bool {
        let mut pending = self.lock();
        while pending.end.is_none() {
            let pause = if pending.phase.is_some() { SOON } else { EVERY };
            let left = (last + pause).saturating_duration_since(Instant::now());
            if pending.changed && left.is_zero() {
                break;
            }
            // Without a change there is nothing to wake up for.
            let most = if pending.changed {
                left
            } else {
                Duration::from_secs(3600)
            };
            let woken = self.wake.wait_timeout(pending, most);
            pending = woken.unpoisoned().0;
        }
        if let Some(phase) = pending.phase.take() {
            record.phase = phase;
            record.progress = None;
        }
        record.progress = pending.progress.or(record.progress);
        record.warnings.clone_from(&pending.warnings);
        record.requests = pending.requests;
        pending.changed = false;
        record.updated = Timestamp::now();
        let Some(end) = pending.end.take() else {
            return false;
        };
        record.ended = Some(record.updated);
        record.state = end.state;
        record.exit_code = Some(end.exit_code);
        (record.result, record.text, record.error) = (end.result, end.text, end.error);
        true
    }
}
