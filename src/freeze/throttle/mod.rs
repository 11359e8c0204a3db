//! Slows down what writes to a disk, so that copying can keep up: limits of control groups, set
//! during some passes. They must never outlast the run, nor be in force while anything is frozen or
//! written out for a freeze.
//!
//! A note in the run directory, written before any limit is set, says what was in force before. The
//! engine undoes the limits. A process of its own, the throttle watcher, undoes them when the
//! engine is gone or has taken too long; `thaw` and the next run, when both are dead.

mod groups;
mod note;
mod watcher;

pub(super) use note::undo_throttles;
pub use watcher::throttle_watcher_main;

use crate::error::{Error, ErrorKind, Result};
use crate::helper::{Helper, Role, escape, new_note, open_run_dir, recv, send};
use crate::model::{BLOCK_SIZE, Bytes, DevNumber};
use crate::sys::io_limit::{IoGroups, WriteLimit};
use groups::{cannot_limit, find_groups, is_gone};
use note::{GroupLimit, MAX_DURATION, THROTTLES, ThrottleNote, give_controller, take_turn, undo};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The hidden command under which the program becomes a throttle watcher.
pub const THROTTLE_WATCHER_COMMAND: &str = "__throttle";

const ROLE: Role = Role {
    command: THROTTLE_WATCHER_COMMAND,
    name: "write-throttle",
};

/// How long the watcher may take to get ready.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// How long to watch which groups write.
const WATCH_FOR: Duration = Duration::from_millis(300);

/// What to slow down, and how far.
#[derive(Clone, Debug)]
pub struct ThrottleOptions {
    /// The program to start as the watcher.
    pub program: PathBuf,
    /// Where the note is kept.
    pub run_dir: PathBuf,
    /// The disks that are written to.
    pub disks: Vec<DevNumber>,
    /// What may be written to each in a second, by all groups together.
    pub rate: Bytes,
}

/// Limits that are set, and the duty to undo them.
#[derive(Debug)]
pub struct Throttle {
    groups: IoGroups,
    run_dir: PathBuf,
    path: PathBuf,
    held: Vec<GroupLimit>,
    since: Instant,
    /// Closing it has the watcher undo what is left, and exit.
    _socket: OwnedFd,
    watcher: Helper,
}

impl Throttle {
    /// Sets the limits.
    ///
    /// # Errors
    /// `Unsupported`: this host cannot do it, and why. Nothing is limited then.
    pub fn begin(options: &ThrottleOptions) -> Result<Self> {
        let run_dir = options.run_dir.clone();
        open_run_dir(&run_dir)?;
        let groups = find_groups(&run_dir)?;
        let path = new_note(&run_dir, THROTTLES)?;
        let (watcher, socket) = start_watcher(&options.program, &path)?;
        let turn = take_turn(&run_dir)?;
        give_controller(&groups, &run_dir)?;
        let held = plan(&groups, options);
        // Written even if nothing is to be limited: undoing it takes the controller back.
        let noted = ThrottleNote::new(&groups, held.as_deref().unwrap_or_default())?.write(&path);
        drop(turn);
        let throttle = Self {
            groups,
            run_dir,
            path,
            held: held.as_ref().map_or(Vec::new(), Vec::clone),
            since: Instant::now(),
            _socket: socket,
            watcher,
        };
        held?;
        // From here on the limits are undone whatever happens.
        noted?;
        throttle
            .put(true)
            .map_err(cannot_limit(throttle.groups.top()))?;
        Ok(throttle)
    }

    /// Lets everything write as before, for a while. The kernel refuses that only for a group that
    /// is gone.
    pub fn lift(&self) {
        let _ = self.put(false);
    }

    /// Slows down again, unless the throttle has lasted too long.
    pub fn press(&self) {
        // Nobody else may put back what was in force before meanwhile: a limit that is set after
        // that would never be undone.
        let Ok(_turn) = take_turn(&self.run_dir) else {
            return;
        };
        let is_noted = self.path.exists() && !self.watcher.has_ended(Duration::ZERO);
        if is_noted && self.since.elapsed() < MAX_DURATION {
            let _ = self.put(true);
        }
    }

    /// How many limits there are: one for each group on each disk.
    pub fn count(&self) -> usize {
        self.held.len()
    }

    /// Sets all limits; returns the first error, except for groups that are gone.
    fn put(&self, press: bool) -> io::Result<()> {
        let mut first = Ok(());
        for held in &self.held {
            let limit = if press { held.during } else { held.before };
            let put = self.groups.set(&held.group(), &held.disk, limit);
            let gone = put.as_ref().is_err_and(is_gone);
            if !gone && first.is_ok() {
                first = put;
            }
        }
        first
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // If it fails, the watcher does it once the socket is closed, or else the next run.
        let _ = undo(&self.run_dir, &self.path);
    }
}

/// Which limits to set. The groups that write share the rate.
fn plan(groups: &IoGroups, options: &ThrottleOptions) -> Result<Vec<GroupLimit>> {
    let names = groups.groups().map_err(cannot_limit(groups.top()))?;
    let disks: Vec<String> = options.disks.iter().map(DevNumber::to_string).collect();
    let places: Vec<(&OsString, &String)> = names
        .iter()
        .flat_map(|name| disks.iter().map(move |disk| (name, disk)))
        .collect();
    if places.is_empty() {
        let why = "there is no control group that could be limited";
        return Err(Error::new(ErrorKind::Unsupported, why));
    }
    let count = |(name, disk): &(&OsString, &String)| groups.written(name, disk);
    let before: Vec<u64> = places.iter().map(count).collect();
    std::thread::sleep(WATCH_FOR);
    let writing = places.iter().zip(before);
    let writing = writing.filter(|(place, before)| count(place) > *before);
    let share = options.rate.0 / (writing.count() as u64).max(1);
    let limit = WriteLimit {
        bytes: Some(share.max(BLOCK_SIZE)),
        // Even a small request changes a whole block.
        requests: Some((share / BLOCK_SIZE).max(1)),
    };
    let mut held = Vec::new();
    for (name, disk) in places {
        let before = groups
            .limit(name, disk)
            .map_err(cannot_limit(groups.top()))?;
        held.push(GroupLimit {
            group: escape(Path::new(name)),
            disk: disk.clone(),
            before,
            during: before.and(limit),
        });
    }
    Ok(held)
}

fn start_watcher(program: &Path, note: &Path) -> Result<(Helper, OwnedFd)> {
    let (watcher, socket) = Helper::start(program, ROLE)?;
    let message = "the throttle watcher did not get ready; nothing was limited";
    let failed = Error::new(ErrorKind::Failed, message);
    if let Err(errno) = send(&socket, &note.as_os_str().as_bytes()) {
        return Err(failed.with_source(errno));
    }
    match recv(&socket, READY_WITHIN) {
        Ok(()) => Ok((watcher, socket)),
        Err(_) => Err(failed),
    }
}
