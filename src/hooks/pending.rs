//! Pending postscripts of runs whose engine and hook supervisor are both dead. Only what a note in
//! the run directory names is run, and only if it qualifies now as any hook must.

use super::note::{NOTES, PendingNote};
use super::pair::{Handover, HookOptions, LOCK, run_postscript};
use super::script::{Script, unfit};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{HookRecord, HookStatus};
use crate::helper::{FileLock, list_notes};
use crate::sys::machine::boot_id;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One postscript that was pending.
#[derive(Clone, Debug)]
pub struct PendingPostscript {
    /// Where the note says that it is.
    pub path: PathBuf,
    /// The note, which stays until the postscript has been run.
    pub note: PathBuf,
    /// What became of it now.
    pub record: HookRecord,
}

impl PendingPostscript {
    /// Whether applications have been let go.
    pub fn is_done(&self) -> bool {
        self.record.status == HookStatus::Ran
    }

    /// Whether it was run at all: then it is no longer pending.
    pub fn was_run(&self) -> bool {
        self.record.took_us.is_some()
    }

    /// A sentence that says what happened, and what to do.
    pub fn message(&self) -> String {
        let (path, note) = (self.path.display(), self.note.display());
        let owed =
            format!("the process that runs hooks died between prescript and postscript: {path}");
        let why = self
            .record
            .reason
            .as_deref()
            .unwrap_or("no reason is known");
        match self.record.status {
            HookStatus::Ran => format!("{owed} was run now, and let applications go"),
            HookStatus::Failed | HookStatus::TimedOut if self.was_run() => {
                format!("{owed} was run now and failed ({why}): applications may still be held")
            }
            _ => format!(
                "{owed} is owed and was not run to its end ({why}): applications may still be \
                 held; put it right and run stillpoint thaw, or let them go by hand, and then: rm \
                 {note}"
            ),
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct PendingReport {
    /// What was pending.
    pub postscripts: Vec<PendingPostscript>,
    /// Why notes could not be read.
    pub failures: Vec<Error>,
}

/// Runs the postscripts that the notes in `run_dir` name and whose supervisors are dead. While
/// another process holds applications, or is about to let them go, nothing is run: those whose
/// supervisors are dead are reported only, as that process may hang.
///
/// # Errors
/// Only when the notes cannot be listed, or the lock cannot be taken; all else is in the report.
pub fn run_pending(run_dir: &Path, program: &Path) -> Result<PendingReport> {
    let mut report = PendingReport::default();
    let notes = list_notes(run_dir, NOTES)?;
    if notes.is_empty() {
        return Ok(report);
    }
    // The processes that hold applications or let them go have this lock: an engine and its
    // supervisor, or one that runs pending postscripts.
    let lock_path = run_dir.join(LOCK);
    let lock = FileLock::try_take(&lock_path)?;
    let boot_id = boot_id()?;
    for note in notes {
        match PendingNote::read(&note) {
            // Run by the process that had the lock before.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => report.failures.push(error),
            Ok(pending) if !pending.is_of_boot(&boot_id) => {
                // If it cannot be removed, it will only be looked at once more.
                let _ = fs::remove_file(&note);
            }
            Ok(pending) if pending.supervisor.is_alive() => {}
            Ok(pending) if lock.is_none() && has_changed(&note, &pending) => {}
            Ok(pending) => {
                let options = HookOptions {
                    prescript: PathBuf::new(),
                    postscript: pending.postscript.clone(),
                    timeout: Duration::from_millis(pending.timeout_ms),
                    hold: Duration::ZERO,
                    environment: pending.environment,
                    program: program.to_owned(),
                    run_dir: run_dir.to_owned(),
                };
                report.postscripts.push(PendingPostscript {
                    record: match &lock {
                        Some(lock) => run_one(&options, &note, lock),
                        None => left_to_another(&lock_path),
                    },
                    path: pending.postscript,
                    note,
                });
            }
        }
    }
    Ok(report)
}

/// Runs one postscript, if it qualifies.
fn run_one(options: &HookOptions, note: &Path, lock: &FileLock) -> HookRecord {
    let postscript = match Script::open(&options.postscript) {
        Ok(postscript) => postscript,
        Err(why) => return unfit(None, Some(&why)).1,
    };
    let handover = Handover {
        lock,
        postscript: &postscript,
        note,
    };
    run_postscript(options, handover, false)
}

/// Whether its supervisor had just let applications go, or another has taken over.
fn has_changed(note: &Path, pending: &PendingNote) -> bool {
    match PendingNote::read(note) {
        Ok(now) => now != *pending,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// It was not run, as another process has the lock.
fn left_to_another(lock: &Path) -> HookRecord {
    let holders = FileLock::holders(lock);
    let holders: Vec<String> = holders.iter().map(u32::to_string).collect();
    let who = match holders.as_slice() {
        [] => "a process that is not seen here".to_owned(),
        holders => format!("process {}", holders.join(", ")),
    };
    let why = format!(
        "{who} has {} and may still run it; if it hangs, end it",
        lock.display()
    );
    HookRecord::new(HookStatus::NotRun, Some(why))
}
