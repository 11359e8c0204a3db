//! Thawing what a dead run left frozen. It touches nothing that no record of ours names, and
//! nothing whose guardian is alive, until its deadline has passed: then it is stopped, or worse,
//! and nobody is trusted.

use super::direct_thaw::{bounded, thaw_all};
use super::expedite::undo_expedited;
use super::record::{FREEZES, Record, note_thawed};
use super::state::TargetState;
use super::target::{FreezeTarget, other_places};
use super::target_states::ThawOutcome;
use super::throttle::undo_throttles;
use crate::error::{Error, ErrorKind, Result};
use crate::helper::list_notes;
use crate::sys::machine::boot_id;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a guardian that is trusted no more may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);
/// How long finding the filesystems of one record, and then thawing them, may take.
const WITHIN: Duration = Duration::from_secs(10);

/// What became of one filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountOutcome {
    /// It was frozen and is not any more.
    Thawed,
    /// It was not frozen.
    NotFrozen,
    /// It is not mounted any more, or what is there is another one.
    Gone(String),
    /// It could not be thawed, and why.
    Failed(String),
}

/// One filesystem that a record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThawedMount {
    /// Which one.
    pub target: FreezeTarget,
    /// What became of it.
    pub outcome: MountOutcome,
    /// The process that froze it or was about to.
    pub guardian_pid: u32,
    /// Whether that process was alive long after its deadline, and was ended; else, it was dead.
    pub was_overdue: bool,
    /// Whether that process had noted that it was frozen; else, that it was about to be.
    pub was_frozen: bool,
}

impl MountOutcome {
    /// The word for it in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Thawed => "thawed",
            Self::NotFrozen => "not_frozen",
            Self::Gone(_) => "gone",
            Self::Failed(_) => "failed",
        }
    }

    /// Why it came to that, where there is more to say.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Thawed | Self::NotFrozen => None,
            Self::Gone(why) | Self::Failed(why) => Some(why),
        }
    }
}

impl ThawedMount {
    /// A sentence that says what happened. The kernel reports that a filesystem is frozen, but not
    /// by whom.
    pub fn message(&self) -> String {
        let name = self.target.name();
        let pid = self.guardian_pid;
        let by = match (self.was_overdue, self.was_frozen) {
            (true, _) => format!(
                "a run whose guardian (process {pid}) had not thawed long after its deadline, and \
                 was ended"
            ),
            (false, true) => format!("a run that died (its guardian was process {pid})"),
            (false, false) => {
                format!("a run that died while it froze (its guardian was process {pid})")
            }
        };
        match &self.outcome {
            MountOutcome::Thawed => format!(
                "{name} was still frozen, as the record of {by} says: thawed; if another program \
                 had frozen it since, which the kernel does not tell, that is undone too"
            ),
            MountOutcome::NotFrozen => format!("{name}: not frozen any more by {by}"),
            MountOutcome::Gone(why) => format!("{name}: gone since {by}: {why}"),
            MountOutcome::Failed(why) => {
                format!("{name} may still be frozen by {by}: {why}; stillpoint thaw tries again")
            }
        }
    }
}

/// A guardian that still runs, and was left to its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveGuardian {
    /// Its process id.
    pub pid: u32,
    /// The process id of the engine that it serves.
    pub engine_pid: u32,
    /// It thaws by itself at most so long after it froze.
    pub deadline: Duration,
}

/// What an emergency thaw found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThawReport {
    /// What dead runs may have left frozen.
    pub mounts: Vec<ThawedMount>,
    /// How many runs that are dead had slowed down what writes: undone.
    pub throttles: usize,
    /// Runs that are not dead.
    pub alive: Vec<LiveGuardian>,
    /// Records that could not be read, and why.
    pub unreadable: Vec<String>,
}

impl ThawReport {
    /// The report as success or failure.
    ///
    /// # Errors
    /// `Failed` when something may still be frozen; `Busy` when a run is still at work.
    pub fn verdict(&self) -> Result<()> {
        let mut bad = self.mounts.iter().filter_map(|mount| match &mount.outcome {
            MountOutcome::Failed(why) => Some((mount, why)),
            _ => None,
        });
        if let Some((mount, why)) = bad.next() {
            let message = format!("{} may still be frozen: {why}", mount.target.name());
            return Err(Error::new(ErrorKind::Failed, message).with_hint(format!(
                "fsfreeze --unfreeze {}",
                mount.target.mount_point.display()
            )));
        }
        if let Some(why) = self.unreadable.first() {
            return Err(Error::new(ErrorKind::Failed, why.clone()));
        }
        match self.alive.first() {
            None => Ok(()),
            Some(live) => {
                let message = format!(
                    "a snapshot is at work (process {}); its guardian (process {}) thaws by itself \
                     within {:?}",
                    live.engine_pid, live.pid, live.deadline
                );
                Err(Error::new(ErrorKind::Busy, message).with_hint(
                    "wait so long; should it not have thawed some seconds later, stillpoint thaw \
                     ends it and does so itself",
                ))
            }
        }
    }
}

/// What runs that are dead may have left frozen, by name. Nothing is thawed.
///
/// # Errors
/// When the records cannot be looked at.
pub fn left_frozen(run_dir: &Path) -> Result<Vec<String>> {
    let boot_id = boot_id()?;
    let mut names = Vec::new();
    for path in list_notes(run_dir, FREEZES)? {
        // One that cannot be read is told by a thaw.
        let record = Record::read(&path).ok();
        let dead = |one: &Record| one.is_of_boot(&boot_id) && !one.guardian.is_alive();
        for (target, state) in record
            .iter()
            .filter(|one| dead(one))
            .flat_map(Record::targets)
        {
            if state.may_be_frozen() {
                names.push(target.name());
            }
        }
    }
    Ok(names)
}

/// Thaws what the records in `run_dir` name and whose guardian is dead, or has not thawed long
/// after its deadline and is ended. Removes the records that have nothing more to tell; those of an
/// earlier boot are removed unread, as a reboot thaws everything. As long as a filesystem stays
/// frozen by a dead run nobody else can freeze it; one that was thawed by hand and frozen again by
/// a stranger cannot be told from it. So a record must not grow old: each run begins with this.
///
/// # Errors
/// Only when the records cannot be looked at; all else is in the report ([`ThawReport::verdict`]).
pub fn thaw(run_dir: &Path) -> Result<ThawReport> {
    let boot_id = boot_id()?;
    let mut report = ThawReport::default();
    if let Err(error) = undo_expedited(run_dir) {
        report.unreadable.push(error.to_string());
    }
    match undo_throttles(run_dir) {
        Ok(count) => report.throttles = count,
        Err(error) => report.unreadable.push(error.to_string()),
    }
    for path in list_notes(run_dir, FREEZES)? {
        let mut record = match Record::read(&path) {
            Ok(record) => record,
            // Its run has just ended.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                report.unreadable.push(error.to_string());
                continue;
            }
        };
        if record.is_of_boot(&boot_id) {
            let pid = record.guardian.pid;
            let was_overdue = is_overdue(&record);
            if was_overdue {
                // One that wakes up later would freeze or thaw what is another's by then.
                record.guardian.kill(END_WITHIN);
                match Record::read(&path) {
                    Ok(at_its_end) => record = at_its_end,
                    // It has done its work in this very moment.
                    Err(_) => continue,
                }
            } else if record.guardian.is_alive() {
                report.alive.push(LiveGuardian {
                    pid,
                    engine_pid: record.engine.pid,
                    deadline: Duration::from_millis(record.deadline_ms),
                });
                continue;
            }
            let mounts = thaw_record(&record, &path, was_overdue)?;
            let failed = |mount: &ThawedMount| matches!(mount.outcome, MountOutcome::Failed(_));
            let keep = mounts.iter().any(failed) || is_stuck(&record);
            report.mounts.extend(mounts);
            if keep {
                continue;
            }
        }
        // If it cannot be removed, it will only be looked at once more.
        let _ = fs::remove_file(&path);
    }
    Ok(report)
}

/// Whether its guardian is alive, and has not done its work long after its deadline: it is stopped
/// by a signal, a debugger, or with its control group. One that waits for calls in the kernel to
/// come back, and has thawed all else, is at its work.
fn is_overdue(record: &Record) -> bool {
    if !record.is_overdue() || !record.guardian.is_alive() {
        return false;
    }
    let left_frozen = record
        .targets()
        .any(|(_, state)| state == TargetState::Frozen);
    let threads = record.guardian.thread_states();
    // Its first thread never waits for a disk: as one that does looks whoever was paused with a
    // group of version 1.
    let is_stopped = threads.first().is_some_and(|state| "TtD".contains(*state));
    left_frozen || is_stopped || !threads.contains(&'D')
}

/// Whether a thread of its guardian may yet come out of the kernel, having frozen something.
fn is_stuck(record: &Record) -> bool {
    record.guardian.is_alive() || record.guardian.has_threads()
}

fn thaw_record(record: &Record, path: &Path, was_overdue: bool) -> Result<Vec<ThawedMount>> {
    let all = record.targets().enumerate();
    let suspects = all.filter(|(_, (_, state))| state.may_be_frozen());
    let stuck = is_stuck(record);
    let mut mounts = Vec::new();
    let mut opened = Vec::new();
    for (index, (target, state)) in suspects {
        let wanted = target.clone();
        let outcome = match bounded(WITHIN, move || open_anywhere(&wanted))? {
            Some(Ok(fd)) => {
                opened.push(((mounts.len(), index), fd));
                // Told below.
                MountOutcome::NotFrozen
            }
            Some(Err(error)) => MountOutcome::Gone(error.to_string()),
            None => MountOutcome::Failed("opening it takes too long".into()),
        };
        mounts.push(ThawedMount {
            target,
            outcome,
            guardian_pid: record.guardian.pid,
            was_overdue,
            was_frozen: matches!(
                state,
                TargetState::Frozen | TargetState::Thawing | TargetState::Lost
            ),
        });
    }
    let (places, fds): (Vec<(usize, usize)>, Vec<OwnedFd>) = opened.into_iter().unzip();
    let outcomes = thaw_all(&Arc::new(fds), |_| true, WITHIN)?;
    for ((place, index), outcome) in places.into_iter().zip(outcomes) {
        match outcome {
            Some(ThawOutcome::Thawed) => note_thawed(path, index),
            Some(ThawOutcome::NotFrozen) if !stuck => note_thawed(path, index),
            _ => {}
        }
        if let (Some(mount), Some(outcome)) = (mounts.get_mut(place), outcome) {
            mount.outcome = match outcome {
                ThawOutcome::Thawed => MountOutcome::Thawed,
                ThawOutcome::NotFrozen if stuck => MountOutcome::Failed(
                    "its freeze may still be under way, in a thread of the dead guardian".into(),
                ),
                ThawOutcome::NotFrozen => MountOutcome::NotFrozen,
                ThawOutcome::Failed(errno) => MountOutcome::Failed(errno.desc().into()),
                ThawOutcome::Stuck => MountOutcome::Failed("the kernel does not come back".into()),
            };
        }
    }
    Ok(mounts)
}

/// At its place, or wherever else it is mounted.
fn open_anywhere(target: &FreezeTarget) -> Result<OwnedFd> {
    target.open().or_else(|error| {
        let mut others = other_places(target);
        let opened = others.find_map(|other| other.open().ok());
        opened.ok_or(error)
    })
}
