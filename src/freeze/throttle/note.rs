//! The note of the limits that were in force before a throttle, and how they are put back. No group
//! that it does not name is touched.

use super::groups::{cannot_limit, find_groups, is_gone};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::helper::{FileLock, ProcessStamp, escape, list_notes, read_note, write_note};
use crate::sys::io_limit::{IoGroups, WriteLimit};
use crate::sys::machine::boot_id;
use crate::sys::mountinfo::unescape;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

/// How the names of notes begin.
pub(super) const THROTTLES: &str = "throttle-";
const VERSION: u32 = 1;
/// No note is longer, in bytes.
const MAX_NOTE: u64 = 16 << 20;
/// The file that says that we gave the groups the io controller, and in which boot.
const CONTROLLER: &str = "io-controller";
/// A throttle lasts no longer, whatever becomes of the run.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(600);
/// Others hold the lock during some writes only.
const LOCK_WITHIN: Duration = Duration::from_secs(5);

/// The limits of one group on one disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupLimit {
    /// Its name below the top, escaped as paths in records are.
    pub(super) group: String,
    /// `MAJOR:MINOR`.
    pub(super) disk: String,
    pub(super) before: WriteLimit,
    pub(super) during: WriteLimit,
}

impl GroupLimit {
    pub(super) fn group(&self) -> OsString {
        OsString::from_vec(unescape(self.group.as_bytes()))
    }
}

/// What one run has limited, or is about to limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ThrottleNote {
    version: u32,
    boot_id: String,
    engine: ProcessStamp,
    top: String,
    held: Vec<GroupLimit>,
}

/// Only one run at a time changes limits or gives groups the controller.
pub(super) fn take_turn(run_dir: &Path) -> Result<FileLock> {
    let path = run_dir.join("throttle.lock");
    FileLock::take(&path, LOCK_WITHIN, &|| Ok(()))?.ok_or_else(|| {
        let message = format!("another process holds {}", path.display());
        Error::new(ErrorKind::Busy, message)
    })
}

impl ThrottleNote {
    /// A note that this process sets these limits.
    pub(super) fn new(groups: &IoGroups, held: &[GroupLimit]) -> Result<Self> {
        Ok(Self {
            version: VERSION,
            boot_id: boot_id()?,
            engine: ProcessStamp::of(std::process::id())?,
            top: escape(groups.top()),
            held: held.to_vec(),
        })
    }

    /// Writes it to `path`, wholly or not at all.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        write_note(path, self)
    }

    fn read(path: &Path) -> Result<Self> {
        let text = read_note(path, MAX_NOTE)?;
        let note: Self = serde_json::from_slice(&text).map_err(|error| {
            let message = format!("{} is no note of a throttle", path.display());
            Error::new(ErrorKind::Damaged, message)
                .with_source(error)
                .with_hint(hint(path))
        })?;
        let plain = |held: &GroupLimit| {
            let name = held.group();
            let mut parts = Path::new(&name).components();
            let one = matches!(parts.next(), Some(std::path::Component::Normal(_)));
            one && parts.next().is_none()
        };
        if note.version != VERSION || !note.held.iter().all(plain) {
            let message = format!("{} was written by another version", path.display());
            return Err(Error::new(ErrorKind::Damaged, message).with_hint(hint(path)));
        }
        Ok(note)
    }

    fn groups(&self) -> IoGroups {
        let top = OsString::from_vec(unescape(self.top.as_bytes()));
        IoGroups::at(Path::new(&top))
    }
}

/// What to do with a note that cannot be used.
fn hint(path: &Path) -> String {
    let path = path.display();
    format!("look at it, and at io.max of the control groups that it names; then: rm {path}")
}

/// Gives the groups the io controller if they do not have it, and notes that we did.
pub(super) fn give_controller(groups: &IoGroups, run_dir: &Path) -> Result<()> {
    let path = run_dir.join(CONTROLLER);
    // Noted first: if this process is killed in between, the controller is taken back all the same.
    let known = fs::read_to_string(&path).ok();
    let boot = boot_id()?;
    let noted = known.as_deref() == Some(&boot);
    if !noted {
        if groups
            .has_controller()
            .map_err(cannot_limit(groups.top()))?
        {
            return Ok(());
        }
        fs::write(&path, boot).io_context("write", &path)?;
    }
    let given = groups.enable();
    if given.is_err() && !noted {
        let _ = fs::remove_file(&path);
    }
    given.map(drop).map_err(cannot_limit(groups.top()))
}

/// Takes the controller back if we gave it and no other run needs it any more. The caller holds
/// the lock.
fn take_controller(groups: &IoGroups, run_dir: &Path) -> Result<()> {
    let path = run_dir.join(CONTROLLER);
    if !path.exists() || !list_notes(run_dir, THROTTLES)?.is_empty() {
        return Ok(());
    }
    if fs::read_to_string(&path).ok() == boot_id().ok() {
        // The kernel refuses that if somebody has passed it on since: then it stays.
        let _ = groups.disable();
    }
    fs::remove_file(&path).io_context("remove", &path)
}

/// Takes the controller back where no note says from which groups: its run died or failed before it
/// could write one. The caller holds the lock.
fn take_controller_anywhere(run_dir: &Path) -> Result<()> {
    match find_groups(run_dir) {
        Ok(groups) if run_dir.join(CONTROLLER).exists() => take_controller(&groups, run_dir),
        _ => Ok(()),
    }
}

/// Puts the limits of the note at `path` back, and removes the note. Returns whether there was one.
pub(super) fn undo(run_dir: &Path, path: &Path) -> Result<bool> {
    let _turn = take_turn(run_dir)?;
    let note = match ThrottleNote::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            take_controller_anywhere(run_dir)?;
            return Ok(false);
        }
        other => other?,
    };
    let groups = note.groups();
    let mut first = Ok(());
    if note.boot_id == boot_id()? {
        for held in &note.held {
            let put = groups.set(&held.group(), &held.disk, held.before);
            // A limit that cannot be put back keeps no other from it.
            if !put.as_ref().is_err_and(is_gone) && first.is_ok() {
                first = put;
            }
        }
    }
    first.io_context("put back the limits in", groups.top())?;
    fs::remove_file(path).io_context("remove", path)?;
    take_controller(&groups, run_dir)?;
    Ok(true)
}

/// Undoes the throttles of dead runs. Returns how many there were. What cannot be read or undone is
/// added to `failures` and keeps no other from it; the next run tries it again.
pub(in crate::freeze) fn undo_throttles(run_dir: &Path, failures: &mut Vec<Error>) -> usize {
    let found = list_notes(run_dir, THROTTLES);
    let notes = found.unwrap_or_else(|error| {
        failures.push(error);
        Vec::new()
    });
    let mut undone = 0;
    for path in notes {
        match undo_dead(run_dir, &path) {
            Ok(was_there) => undone += usize::from(was_there),
            // Its run has just ended.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => failures.push(error),
        }
    }
    failures.extend(undo_controller(run_dir).err());
    undone
}

/// Takes the controller back if no throttle needs it.
fn undo_controller(run_dir: &Path) -> Result<()> {
    // A live run with a note has the controller, and may have the lock for a moment.
    if !run_dir.join(CONTROLLER).exists() || !list_notes(run_dir, THROTTLES)?.is_empty() {
        return Ok(());
    }
    let _turn = take_turn(run_dir)?;
    take_controller_anywhere(run_dir)
}

/// Undoes one throttle, if its run is dead. Returns whether it was.
fn undo_dead(run_dir: &Path, path: &Path) -> Result<bool> {
    let note = ThrottleNote::read(path)?;
    if note.boot_id == boot_id()? && note.engine.is_alive() {
        return Ok(false);
    }
    undo(run_dir, path)
}
