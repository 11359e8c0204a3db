//! Postscripts that runs owe whose engine and keeper are both dead. Only what a note in the run
//! directory names is run, and only if it qualifies now as any hook must.

use super::keeper::unfit;
use super::lock::HookLock;
use super::note::{NOTES, Note};
use super::pair::{HookOptions, Kept, post_anew};
use super::script::Script;
use crate::error::{ErrorKind, Result};
use crate::format::{HookRecord, HookStatus};
use crate::freeze::record;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One postscript that was owed.
#[derive(Clone, Debug)]
pub struct OwedPostscript {
    /// Where the note says that it is.
    pub path: PathBuf,
    /// The note, which stays until the postscript has been run.
    pub note: PathBuf,
    /// What became of it now.
    pub record: HookRecord,
}

impl OwedPostscript {
    /// Whether applications have been let go.
    pub fn is_paid(&self) -> bool {
        self.record.status == HookStatus::Ran
    }

    /// Whether it was run at all: then it is owed no more.
    pub fn was_run(&self) -> bool {
        self.record.took_us.is_some()
    }

    /// What happened, in a sentence, and what to do.
    pub fn told(&self) -> String {
        let (path, note) = (self.path.display(), self.note.display());
        let owed = format!("a run died between prescript and postscript: {path}");
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
#[derive(Clone, Debug, Default)]
pub struct OwedReport {
    /// What was owed.
    pub postscripts: Vec<OwedPostscript>,
    /// Notes that could not be read, and why.
    pub unreadable: Vec<String>,
}

/// Runs the postscripts that the notes in `run_dir` name and whose keepers are dead. Nothing is
/// done while a run holds applications, or is about to let them go.
///
/// # Errors
/// Only when the notes cannot be looked at; all else is in the report.
pub fn run_owed(run_dir: &Path, program: &Path) -> Result<OwedReport> {
    let mut report = OwedReport::default();
    let notes = record::list(run_dir, NOTES)?;
    if notes.is_empty() {
        return Ok(report);
    }
    // Whoever holds applications, or lets them go, has it: engine, keeper, or one that does this.
    let Some(lock) = HookLock::take(run_dir, Duration::ZERO, &|| Ok(()))? else {
        return Ok(report);
    };
    for note in notes {
        match Note::read(&note) {
            // Done by whoever had the lock before.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => report.unreadable.push(error.to_string()),
            Ok(owed) if !owed.is_of_this_boot()? => {
                // If it cannot be removed, it will only be looked at once more.
                let _ = fs::remove_file(&note);
            }
            Ok(owed) if owed.keeper.is_alive() => {}
            Ok(owed) => report.postscripts.push(OwedPostscript {
                record: pay(&owed, &note, &lock, (run_dir, program)),
                path: owed.postscript,
                note,
            }),
        }
    }
    Ok(report)
}

/// Runs one, if it qualifies.
fn pay(
    owed: &Note,
    note: &Path,
    lock: &HookLock,
    (run_dir, program): (&Path, &Path),
) -> HookRecord {
    let postscript = match Script::open(&owed.postscript) {
        Ok(postscript) => postscript,
        Err(why) => return unfit(None, Some(&why)).1,
    };
    let options = HookOptions {
        prescript: PathBuf::new(),
        postscript: owed.postscript.clone(),
        timeout: Duration::from_millis(owed.timeout_ms),
        hold: Duration::ZERO,
        environment: owed.environment.clone(),
        program: program.to_owned(),
        run_dir: run_dir.to_owned(),
    };
    let kept = Kept {
        lock,
        postscript: &postscript,
        note,
    };
    post_anew(&options, kept, false)
}
