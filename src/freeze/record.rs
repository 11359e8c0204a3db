//! The freeze record: what a run is about to freeze, so that a later run finds what a dead run left
//! frozen. It is written before anything is frozen and removed only when nothing is frozen any
//! more.
//!
//! A record is one JSON document whose first member, `progress`, holds one byte for each target
//! ([`TargetState`]) at a fixed offset. The second, `due`, says until when a guardian that is alive
//! is trusted, and is filled in when the freeze is ordered.
//!
//! Where the directory lies in memory (tmpfs, as `/run` does) the guardian overwrites a target's
//! byte at each step, which cannot block. Elsewhere all targets are recorded as "may be frozen"
//! before the first is frozen, and the steps are written to memory that only the guardian and its
//! engine share.

use super::state::TargetState;
use super::target::FreezeTarget;
use super::{MAX_TARGETS, THAW_GRACE};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::helper::{ProcessStamp, escape, in_memory, new_note, open_run_dir};
use crate::model::DevNumber;
use crate::sys::machine::boot_id;
use crate::sys::mountinfo;
use crate::sys::plain;
use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const VERSION: u32 = 1;
/// How the names of these records begin.
pub(super) const FREEZES: &str = "freeze-";
const PREFIX: &str = "{\"progress\":\"";
/// What stands between the last byte of `progress` and the first of `due`.
const DUE: &str = "\",\"due\":\"";
/// `due` of a run that has frozen nothing: as many digits as the longest can have.
const NOT_DUE: &str = "00000000000000000000";
/// How much later than its deadline a guardian may still thaw: the time a thaw takes, and a margin.
const DUE_LATER: Duration = THAW_GRACE.saturating_add(Duration::from_secs(3));
/// No record is longer, in bytes: 4096 targets with paths of 4096 bytes, each written as four.
const MAX_RECORD: u64 = 80 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedTarget {
    mount_point: String,
    namespace_pid: Option<u32>,
    dev: DevNumber,
    source: String,
    fstype: String,
}

/// What one run froze or was about to freeze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// One byte for each target; must stay the first member.
    progress: String,
    /// Until when all must be thawed, in milliseconds of `CLOCK_MONOTONIC`; must stay the second.
    #[serde(default)]
    due: String,
    version: u32,
    boot_id: String,
    pub(super) deadline_ms: u64,
    pub(super) guardian: ProcessStamp,
    pub(super) engine: ProcessStamp,
    targets: Vec<RecordedTarget>,
}

impl Record {
    pub(super) fn new(guardian: u32, deadline: Duration, targets: &[FreezeTarget]) -> Result<Self> {
        let recorded = targets.iter().map(|target| RecordedTarget {
            mount_point: escape(&target.mount_point),
            namespace_pid: target.namespace_pid,
            dev: target.dev,
            source: target.source.clone(),
            fstype: target.fstype.clone(),
        });
        Ok(Self {
            progress: char::from(TargetState::Planned as u8)
                .to_string()
                .repeat(targets.len()),
            due: NOT_DUE.to_owned(),
            version: VERSION,
            boot_id: boot_id()?,
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            guardian: ProcessStamp::of(guardian)?,
            engine: ProcessStamp::of(std::process::id())?,
            targets: recorded.collect(),
        })
    }

    /// Whether it was written in the boot that `boot_id` names: a reboot thaws everything.
    pub(super) fn is_of_boot(&self, boot_id: &str) -> bool {
        self.boot_id == boot_id
    }

    /// Whether a guardian that works would have thawed all by now. A record of an earlier version
    /// does not say, and is never overdue.
    pub(super) fn is_overdue(&self) -> bool {
        let due = self.due.parse().ok().filter(|due| *due > 0);
        due.is_some_and(|due: u64| uptime_ms() > due)
    }

    /// Each target and its state.
    pub(super) fn targets(&self) -> impl Iterator<Item = (FreezeTarget, TargetState)> {
        let states = self.progress.bytes().map(TargetState::from_byte);
        let states = states.chain(std::iter::repeat(TargetState::Unknown));
        self.targets.iter().zip(states).map(|(target, state)| {
            let target = FreezeTarget {
                mount_point: mountinfo::path(target.mount_point.as_bytes()),
                namespace_pid: target.namespace_pid,
                dev: target.dev,
                wave: 0,
                source: target.source.clone(),
                fstype: target.fstype.clone(),
            };
            (target, state)
        })
    }

    /// Reads the record at `path`.
    ///
    /// # Errors
    /// `NotFound` when it is gone, `Damaged` when it is no record.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let file = plain::open(path, OFlag::O_RDONLY).io_context("open", path)?;
        let mut text = String::new();
        let mut bounded = file.take(MAX_RECORD);
        bounded.read_to_string(&mut text).io_context("read", path)?;
        let record: Self = serde_json::from_str(&text).map_err(|error| {
            let message = format!("{} is not a freeze record", path.display());
            Error::new(ErrorKind::Damaged, message)
                .with_source(error)
                .with_hint(hint(path))
        })?;
        if record.version != VERSION || record.targets.len() > MAX_TARGETS {
            let message = format!("{} was written by another version", path.display());
            return Err(Error::new(ErrorKind::Damaged, message).with_hint(hint(path)));
        }
        Ok(record)
    }
}

/// What to do with a record that cannot be used.
fn hint(path: &Path) -> String {
    let path = path.display();
    format!("thaw what it names, if that is frozen: fsfreeze --unfreeze MOUNT; then: rm {path}")
}

/// A record that this run has written.
#[derive(Debug)]
pub(super) struct RecordFile {
    pub(super) path: PathBuf,
    file: File,
    /// Where the guardian notes its steps: the record itself, if that is in memory.
    pub(super) journal: Journal,
    in_memory: bool,
}

impl RecordFile {
    /// Writes `record` into `run_dir`, under a name that nobody else uses.
    pub(super) fn create(run_dir: &Path, record: &Record) -> Result<Self> {
        open_run_dir(run_dir)?;
        let path = new_note(run_dir, FREEZES)?;
        let text = serde_json::to_string(record)
            .map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .io_context("create", &path)?;
        file.write_all(text.as_bytes()).io_context("write", &path)?;
        let in_memory = in_memory(&file);
        let journal = if in_memory {
            Journal::new(file.try_clone().io_context("share", &path)?)
        } else {
            Journal::apart(&record.progress).io_context("make memory for", &path)?
        };
        Ok(Self {
            path,
            file,
            journal,
            in_memory,
        })
    }

    /// The run directory that it lies in.
    pub(super) fn run_dir(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Records until when the guardian is trusted, which begins to freeze `count` targets now, and
    /// records all of them as "may be frozen" where it cannot record its steps. To be called before
    /// anything is frozen.
    pub(super) fn arm(&self, count: usize, deadline: Duration) -> Result<()> {
        let within = deadline.saturating_add(DUE_LATER).as_millis();
        let due = uptime_ms().saturating_add(u64::try_from(within).unwrap_or(u64::MAX));
        let due = format!("{due:0digits$}", digits = NOT_DUE.len());
        let mut written = self.file.write_all_at(due.as_bytes(), due_at(count));
        if written.is_ok() && !self.in_memory {
            let unknown = vec![TargetState::Unknown as u8; count];
            written = self.file.write_all_at(&unknown, PREFIX.len() as u64);
        }
        written.io_context("write", &self.path)
    }

    /// The states of `count` targets in the record: an emergency thaw writes there what it has
    /// thawed.
    pub(super) fn states(&self, count: usize) -> Vec<TargetState> {
        states(&self.file, count)
    }
}

/// Writes to the record at `path` that a target is thawed. If its engine was only asleep, it must
/// not thaw the target again, as others may have frozen it since.
pub(super) fn note_thawed(path: &Path, index: usize) {
    // A best effort: it is thawed in any case.
    if let Ok(file) = plain::open(path, OFlag::O_WRONLY) {
        Journal::new(file).note(index, TargetState::Thawed);
    }
}

fn due_at(count: usize) -> u64 {
    (PREFIX.len() + count + DUE.len()) as u64
}

/// Milliseconds of the clock that deadlines are measured by; it stands still during a suspend.
fn uptime_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

fn states(file: &File, count: usize) -> Vec<TargetState> {
    let mut bytes = vec![TargetState::Unknown as u8; count];
    // What cannot be read stays unknown.
    let _ = file.read_exact_at(&mut bytes, PREFIX.len() as u64);
    bytes.into_iter().map(TargetState::from_byte).collect()
}

/// Where the guardian writes its steps: the bytes of `progress` in the record, or a copy in memory.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
}

impl Journal {
    pub(super) fn new(file: File) -> Self {
        Self { file }
    }

    /// A journal without a record around it.
    fn apart(progress: &str) -> std::io::Result<Self> {
        let memory = memfd_create(c"stillpoint-journal", MFdFlags::MFD_CLOEXEC)?;
        let file = File::from(memory);
        file.write_all_at(progress.as_bytes(), PREFIX.len() as u64)?;
        Ok(Self::new(file))
    }

    /// Writes the state of one target. It allocates nothing.
    pub(super) fn note(&self, index: usize, state: TargetState) {
        // The record is the third line of defence: a failure to write it must not stop anything.
        let _ = self
            .file
            .write_at(&[state as u8], (PREFIX.len() + index) as u64);
    }

    /// The states of `count` targets, as written.
    pub(super) fn states(&self, count: usize) -> Vec<TargetState> {
        states(&self.file, count)
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helper::list_notes;
    use proptest::prelude::*;
    use std::ffi::OsString;
    use std::fs;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    fn sample(path: &[u8]) -> Record {
        let target = FreezeTarget {
            mount_point: PathBuf::from(OsString::from_vec(path.to_vec())),
            namespace_pid: Some(7),
            dev: DevNumber { major: 7, minor: 1 },
            wave: 0,
            source: "/dev/loop1".into(),
            fstype: "ext4".into(),
        };
        let targets = [target.clone(), target.clone(), target];
        Record::new(std::process::id(), Duration::from_secs(2), &targets).unwrap()
    }

    /// A record with one step noted, where `parent` is.
    fn noted(parent: &str) -> (tempfile::TempDir, RecordFile, Vec<TargetState>) {
        let dir = tempfile::tempdir_in(parent).unwrap();
        let file = RecordFile::create(&dir.path().join("run"), &sample(b"/x")).unwrap();
        file.arm(3, Duration::from_secs(2)).unwrap();
        file.journal.note(1, TargetState::Frozen);
        let expected = [
            TargetState::Planned,
            TargetState::Frozen,
            TargetState::Planned,
        ];
        assert_eq!(file.journal.states(3), expected);
        let back = Record::read(&file.path).unwrap();
        let states = back.targets().map(|(_, state)| state).collect();
        (dir, file, states)
    }

    #[test]
    fn a_record_keeps_any_path() {
        let dir = tempfile::tempdir().unwrap();
        let odd = b"/mnt/a b\\040\n\xff\"x";
        let file = RecordFile::create(&dir.path().join("run"), &sample(odd)).unwrap();
        let back = Record::read(&file.path).unwrap();
        let (target, state) = back.targets().next().unwrap();
        assert_eq!(target.mount_point.as_os_str().as_bytes(), odd);
        assert_eq!(state, TargetState::Planned);
        assert!(back.is_of_boot(&boot_id().unwrap()));
        assert!(!back.is_overdue(), "nothing has been frozen");
        file.arm(3, Duration::from_secs(2)).unwrap();
        let armed = Record::read(&file.path).unwrap();
        let due: u64 = armed.due.parse().unwrap();
        assert!(due.abs_diff(uptime_ms() + 7000) < 5000 && !armed.is_overdue());
        assert_eq!(armed.targets, back.targets);
        let late = Record {
            due: (uptime_ms() - 1).to_string(),
            ..back
        };
        assert!(late.is_overdue());
        note_thawed(&file.path, 1);
        assert_eq!(file.states(3)[1], TargetState::Thawed);
        assert_eq!(
            list_notes(&dir.path().join("run"), FREEZES).unwrap(),
            [file.path]
        );
    }

    proptest! {
        #[test]
        fn a_record_of_somebody_else_is_refused_or_understood(
            at in 0..700_usize,
            length in 0..40_usize,
            piece in prop_oneof![
                "[0-9\"\\\\{}\\[\\],:]{0,30}",
                prop::collection::vec(any::<char>(), 0..20).prop_map(|all| all.iter().collect()),
            ],
        ) {
            let dir = tempfile::tempdir_in("/dev/shm").unwrap();
            let path = dir.path().join("record");
            let mut text = serde_json::to_vec(&sample(b"/mnt/\\040\xff")).unwrap();
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, piece.bytes());
            fs::write(&path, text).unwrap();
            if let Ok(record) = Record::read(&path) {
                prop_assert!(record.targets().count() <= MAX_TARGETS);
            }
        }
    }

    #[test]
    fn in_memory_a_record_tells_each_step() {
        let (_dir, file, states) = noted("/dev/shm");
        if !file.in_memory {
            println!("SKIPPED: /dev/shm is not in memory here");
            return;
        }
        assert_eq!(
            states,
            [
                TargetState::Planned,
                TargetState::Frozen,
                TargetState::Planned
            ]
        );
    }

    #[test]
    fn on_a_disk_every_target_is_suspect_and_the_record_is_left_alone() {
        let (_dir, file, states) = noted(".");
        if file.in_memory {
            println!("SKIPPED: the source is not on a disk here");
            return;
        }
        assert_eq!(states, [TargetState::Unknown; 3]);
        assert!(TargetState::Unknown.may_be_frozen());
    }
}
