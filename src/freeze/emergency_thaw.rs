//! Thaws what dead runs left frozen, and undoes their throttles: for `thaw`, and before each run.
//! It touches nothing that no record of ours names, and nothing whose guardian is alive, unless
//! that is seconds past its deadline: then it is stopped, debugged or paused, and is killed first.
//! A record or note that cannot be read keeps nothing else from being undone.

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

/// How long an overdue guardian may take to exit once it is killed.
const EXIT_WITHIN: Duration = Duration::from_secs(2);
/// How long finding the filesystems of one record, and then thawing them, may take.
const WITHIN: Duration = Duration::from_secs(10);

/// What became of one filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountOutcome {
    /// It was frozen and is not any more.
    Thawed,
    /// It was not frozen.
    NotFrozen,
    /// It is not mounted any more, or another filesystem is there.
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
    /// The process that froze it or was about to freeze it.
    pub guardian_pid: u32,
    /// Whether that process was alive long after its deadline, and was killed; otherwise it was
    /// dead.
    pub was_overdue: bool,
    /// Whether that process had recorded that it was frozen; otherwise, that it was about to be.
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

    /// Why, if there is more to say.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Thawed | Self::NotFrozen => None,
            Self::Gone(why) | Self::Failed(why) => Some(why),
        }
    }
}

impl ThawedMount {
    /// A sentence that says what happened. The kernel reports that a filesystem is frozen, but not
    /// which process froze it.
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

/// A guardian that is alive, and was left to its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveGuardian {
    /// Its process id.
    pub pid: u32,
    /// The process id of the engine that it serves.
    pub engine_pid: u32,
    /// It thaws by itself when this time has passed since the order to freeze.
    pub deadline: Duration,
}

/// What an emergency thaw found and did.
#[derive(Debug, Default)]
pub struct ThawReport {
    /// What dead runs may have left frozen.
    pub mounts: Vec<ThawedMount>,
    /// How many throttles of dead runs were undone.
    pub throttles: usize,
    /// Guardians that are alive.
    pub alive: Vec<LiveGuardian>,
    /// What could not be read or undone, apart from filesystems, and why.
    pub failures: Vec<Error>,
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
        if let Some(failure) = self.failures.first() {
            return Err(failure.retold().with_kind(ErrorKind::Failed));
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
                    "wait for that time; if it has not thawed some seconds later, stillpoint thaw \
                     ends it and thaws",
                ))
            }
        }
    }
}

/// The names of the filesystems that dead runs may have left frozen. Nothing is thawed.
///
/// # Errors
/// When the records cannot be looked at.
pub fn left_frozen(run_dir: &Path) -> Result<Vec<String>> {
    let boot_id = boot_id()?;
    let mut names = Vec::new();
    for path in list_notes(run_dir, FREEZES)? {
        // A thaw reports a record that cannot be read.
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

/// What may be frozen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrozenNow {
    /// Nothing that is known of.
    Nothing,
    /// What a dead run has left, or one whose guardian is long past its deadline.
    LeftBehind,
    /// What a run is at work on: it thaws within its deadline.
    ByARun,
}

/// What may be frozen now. A record that cannot be read says nothing.
pub fn frozen_now(run_dir: &Path) -> FrozenNow {
    let (Ok(boot_id), Ok(paths)) = (boot_id(), list_notes(run_dir, FREEZES)) else {
        return FrozenNow::Nothing;
    };
    let records = paths.iter().filter_map(|path| Record::read(path).ok());
    let frozen = records.filter(|record| {
        let mut targets = record.targets();
        record.is_of_boot(&boot_id) && targets.any(|(_, state)| state.may_be_frozen())
    });
    let states = frozen.map(|record| match record.guardian.is_alive() {
        true if !record.is_overdue() => FrozenNow::ByARun,
        _ => FrozenNow::LeftBehind,
    });
    states.max().unwrap_or(FrozenNow::Nothing)
}

/// Thaws what the records in `run_dir` name and whose guardian is dead, or has not thawed long
/// after its deadline and is killed; then undoes what else dead runs left, apart from hooks.
/// Records of no more use are removed; those of an earlier boot without thawing, as a reboot thaws
/// everything. As long as a filesystem stays frozen by a dead run nobody else can freeze it. If it
/// was thawed by hand and frozen again by somebody else, the kernel does not show that. So a record
/// must not grow old: each run begins with this.
///
/// # Errors
/// Only when the records cannot be listed; all else is in the report ([`ThawReport::verdict`]).
pub fn thaw(run_dir: &Path) -> Result<ThawReport> {
    let boot_id = boot_id()?;
    let mut report = ThawReport::default();
    // Filesystems first: what follows may wait for locks, or for a run directory on one of them.
    let records = list_notes(run_dir, FREEZES);
    for path in records.iter().flatten() {
        if let Err(error) = thaw_and_remove(path, &boot_id, &mut report) {
            report.failures.push(error);
        }
    }
    report.failures.extend(undo_expedited(run_dir).err());
    report.throttles = undo_throttles(run_dir, &mut report.failures);
    records.map(|_| report)
}

/// Does what one record asks for, and removes it if it is of no more use.
fn thaw_and_remove(path: &Path, boot_id: &str, report: &mut ThawReport) -> Result<()> {
    let mut record = match Record::read(path) {
        // Its run has just ended.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    if record.is_of_boot(boot_id) {
        let was_overdue = is_overdue(&record);
        if was_overdue {
            // If it woke up later, it would freeze or thaw what is somebody else's by then.
            record.guardian.kill(EXIT_WITHIN);
            match Record::read(path) {
                Ok(at_its_exit) => record = at_its_exit,
                // It has finished its work at this very moment.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                // What was read before is better than nothing.
                Err(error) => report.failures.push(error),
            }
        } else if record.guardian.is_alive() {
            report.alive.push(LiveGuardian {
                pid: record.guardian.pid,
                engine_pid: record.engine.pid,
                deadline: Duration::from_millis(record.deadline_ms),
            });
            return Ok(());
        }
        let mounts = thaw_record(&record, path, was_overdue);
        // Once it is thawed, what waited for it ends, and gives up its locks.
        record.guardian.await_threads(EXIT_WITHIN);
        let failed = |mount: &ThawedMount| matches!(mount.outcome, MountOutcome::Failed(_));
        let keep = mounts.iter().any(failed) || is_stuck(&record);
        report.mounts.extend(mounts);
        if keep {
            return Ok(());
        }
    }
    // If it cannot be removed, it will only be read once more.
    let _ = fs::remove_file(path);
    Ok(())
}

/// Whether its guardian is alive, and has not done its work long after its deadline: it is stopped
/// by a signal, a debugger, or with its control group. A guardian that waits for stuck calls and
/// has thawed all else is not overdue.
fn is_overdue(record: &Record) -> bool {
    if !record.is_overdue() || !record.guardian.is_alive() {
        return false;
    }
    let left_frozen = record
        .targets()
        .any(|(_, state)| state == TargetState::Frozen);
    let threads = record.guardian.thread_states();
    // Its first thread never waits for a disk; in this state it is if a group of version 1 pauses
    // it.
    let is_stopped = threads.first().is_some_and(|state| "TtD".contains(*state));
    left_frozen || is_stopped || !threads.contains(&'D')
}

/// Whether a stuck call of its guardian may still return, and have frozen something.
fn is_stuck(record: &Record) -> bool {
    record.guardian.is_alive() || record.guardian.has_threads()
}

/// Thaws what a record names and may be frozen.
fn thaw_record(record: &Record, path: &Path, was_overdue: bool) -> Vec<ThawedMount> {
    let all = record.targets().enumerate();
    let suspects = all.filter(|(_, (_, state))| state.may_be_frozen());
    let stuck = is_stuck(record);
    let mut mounts = Vec::new();
    let mut opened = Vec::new();
    for (index, (target, state)) in suspects {
        let wanted = target.clone();
        let outcome = match bounded(WITHIN, move || open_anywhere(&wanted)) {
            Ok(Some(Ok(fd))) => {
                opened.push(((mounts.len(), index), fd));
                // Until it has been thawed, below.
                MountOutcome::Failed("it was not tried".into())
            }
            Ok(Some(Err(error))) if error.kind() == ErrorKind::NotFound => {
                MountOutcome::Gone(error.to_string())
            }
            // Too many open files, or a table of mounts that cannot be read: it may still be there.
            Ok(Some(Err(error))) => MountOutcome::Failed(error.to_string()),
            Ok(None) => MountOutcome::Failed("opening it takes too long".into()),
            Err(error) => MountOutcome::Failed(error.to_string()),
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
    let outcomes = match thaw_all(&Arc::new(fds), |_| true, WITHIN) {
        Ok(outcomes) => outcomes,
        Err(error) => {
            for (place, _) in places {
                if let Some(mount) = mounts.get_mut(place) {
                    mount.outcome = MountOutcome::Failed(error.to_string());
                }
            }
            return mounts;
        }
    };
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
                ThawOutcome::Stuck => MountOutcome::Failed("the kernel does not return".into()),
            };
        }
    }
    mounts
}

/// Opens it where it was, or wherever else it is mounted.
///
/// # Errors
/// `NotFound` only when it is mounted nowhere.
fn open_anywhere(target: &FreezeTarget) -> Result<OwnedFd> {
    let mut why = match target.open() {
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    for other in other_places(target) {
        match other.and_then(|other| other.open()) {
            Ok(fd) => return Ok(fd),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => why = error,
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::super::record::RecordFile;
    use super::*;
    use crate::model::DevNumber;

    #[test]
    fn what_may_be_frozen_is_seen_from_its_freeze_to_its_thaw() {
        use FrozenNow::{ByARun, LeftBehind, Nothing};
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let run_dir = dir.path().join("run");
        assert_eq!(frozen_now(&run_dir), Nothing, "there is none");
        let target = FreezeTarget {
            mount_point: "/x".into(),
            namespace_pid: None,
            dev: DevNumber { major: 7, minor: 1 },
            wave: 0,
            source: "/dev/loop1".into(),
            fstype: "ext4".into(),
        };
        let alive = std::process::id();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let of = |guardian: u32| {
            let record = Record::new(
                guardian,
                Duration::from_secs(2),
                std::slice::from_ref(&target),
            )
            .unwrap();
            let file = RecordFile::create(&run_dir, &record).unwrap();
            file.arm(1, Duration::from_secs(2)).unwrap();
            file
        };
        let file = of(alive);
        assert_eq!(frozen_now(&run_dir), Nothing, "it is about to be");
        for (state, frozen) in [
            (TargetState::Freezing, ByARun),
            (TargetState::Frozen, ByARun),
            (TargetState::Thawing, ByARun),
            (TargetState::Thawed, Nothing),
            (TargetState::Lost, ByARun),
        ] {
            file.journal.note(0, state);
            assert_eq!(frozen_now(&run_dir), frozen, "{state:?}");
        }
        fs::write(&file.path, "rubbish").unwrap();
        assert_eq!(
            frozen_now(&run_dir),
            Nothing,
            "what cannot be read silences nobody"
        );
        let dead = of(child.id());
        dead.journal.note(0, TargetState::Frozen);
        assert_eq!(frozen_now(&run_dir), ByARun);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(frozen_now(&run_dir), LeftBehind);
    }
}
