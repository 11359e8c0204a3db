//! Slowing down what writes to a disk, so that copying can keep up: limits of control groups, set
//! for the time of some passes. They must never outlast the run, nor be in force while anything is
//! frozen or written out for a freeze.
//!
//! A note in the run directory tells what was in force before; it is written before any limit is
//! set. Who undoes it: the engine; a process of its own, the throttle's keeper, when the engine is
//! gone or has taken too long; `thaw` and the next run when both are dead.

mod note;
mod watcher;

pub use note::undo_throttles;
pub use watcher::throttle_keeper_main;

use crate::error::{Error, ErrorKind, Result};
use crate::helper::{Helper, Role, escape, new_note, open_run_dir, recv, send};
use crate::model::{BLOCK_SIZE, Bytes, DevNumber};
use crate::sys::io_limit::{IoGroups, WriteLimit};
use note::{GroupLimit, THROTTLES, ThrottleNote, give_controller, take_turn, undo};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The hidden command under which the program becomes a throttle's keeper.
pub const THROTTLE_KEEPER_COMMAND: &str = "__throttle";

const ROLE: Role = Role {
    command: THROTTLE_KEEPER_COMMAND,
    name: "write-throttle",
};

/// A throttle lasts no longer, whatever becomes of the run.
const LONGEST: Duration = Duration::from_secs(600);
/// How long the keeper may take to get ready.
const READY_WITHIN: Duration = Duration::from_secs(15);
/// For so long is looked who writes.
const LOOK: Duration = Duration::from_millis(300);
/// Where this folder is in the run directory, it stands in for the control groups: tests have one
/// each, as those are the whole host's.
const STAND_IN: &str = "cgroup";

/// What to slow down, and how far.
#[derive(Clone, Debug)]
pub struct ThrottleOptions {
    /// The program to start as the keeper.
    pub program: PathBuf,
    /// Where the note is kept.
    pub run_dir: PathBuf,
    /// The disks that are written to.
    pub disks: Vec<DevNumber>,
    /// What may be written to each in a second, by all groups together.
    pub rate: Bytes,
}

/// Limits that are set, and the duty to take them back.
#[derive(Debug)]
pub struct Throttle {
    groups: IoGroups,
    run_dir: PathBuf,
    path: PathBuf,
    held: Vec<GroupLimit>,
    since: Instant,
    /// Closing it has the keeper undo what is left, and end.
    _socket: OwnedFd,
    keeper: Helper,
}

impl Throttle {
    /// Slows down.
    ///
    /// # Errors
    /// `Unsupported`: it cannot be had on this host, and why. Nothing is limited then.
    pub fn begin(options: &ThrottleOptions) -> Result<Self> {
        let run_dir = options.run_dir.clone();
        open_run_dir(&run_dir)?;
        let groups = find_groups(&run_dir)?;
        let path = new_note(&run_dir, THROTTLES)?;
        let (keeper, socket) = start_keeper(&options.program, &path)?;
        let turn = take_turn(&run_dir)?;
        give_controller(&groups, &run_dir)?;
        let held = plan(&groups, options);
        // Also where nothing is to be limited: it takes the controller back.
        let noted = ThrottleNote::new(&groups, held.as_deref().unwrap_or_default())?.write(&path);
        drop(turn);
        let throttle = Self {
            groups,
            run_dir,
            path,
            held: held.as_ref().map_or(Vec::new(), Vec::clone),
            since: Instant::now(),
            _socket: socket,
            keeper,
        };
        held?;
        // From here on it is undone whatever happens.
        noted?;
        throttle.put(true).map_err(cannot(throttle.groups.top()))?;
        Ok(throttle)
    }

    /// Lets everything write as before, for a while. What the kernel refuses is a group that is
    /// gone.
    pub fn lift(&self) {
        let _ = self.put(false);
    }

    /// Slows down again; not any more when it has lasted too long.
    pub fn press(&self) {
        // While nobody puts back what was in force before: what is set after that, nobody knows of.
        let Ok(_turn) = take_turn(&self.run_dir) else {
            return;
        };
        let is_noted = self.path.exists() && !self.keeper.has_ended(Duration::ZERO);
        if is_noted && self.since.elapsed() < LONGEST {
            let _ = self.put(true);
        }
    }

    /// How many groups are slowed down, each on each disk.
    pub fn count(&self) -> usize {
        self.held.len()
    }

    /// Sets all limits; the first error of all, but for groups that are gone.
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
        // What fails is done by the keeper, when the socket is closed, or by the next run.
        let _ = undo(&self.run_dir, &self.path);
    }
}

/// A group that has ended, or a disk.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)
    )
}

fn find_groups(run_dir: &Path) -> Result<IoGroups> {
    let stand_in = run_dir.join(STAND_IN);
    if stand_in.is_dir() {
        return Ok(IoGroups::at(&stand_in));
    }
    IoGroups::find().map_err(|why| Error::new(ErrorKind::Unsupported, why))
}

fn cannot(top: &Path) -> impl FnOnce(io::Error) -> Error {
    let message = format!("the limits in {} cannot be set", top.display());
    move |error| Error::new(ErrorKind::Unsupported, message).with_source(error)
}

/// Which limits to set. The rate is shared by the groups that write.
fn plan(groups: &IoGroups, options: &ThrottleOptions) -> Result<Vec<GroupLimit>> {
    let names = groups.groups().map_err(cannot(groups.top()))?;
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
    std::thread::sleep(LOOK);
    let writing = places.iter().zip(before);
    let writing = writing.filter(|(place, before)| count(place) > *before);
    let share = options.rate.0 / (writing.count() as u64).max(1);
    let limit = WriteLimit {
        bytes: Some(share.max(BLOCK_SIZE)),
        // However small it is, a request changes a block.
        requests: Some((share / BLOCK_SIZE).max(1)),
    };
    let mut held = Vec::new();
    for (name, disk) in places {
        let before = groups.limit(name, disk).map_err(cannot(groups.top()))?;
        held.push(GroupLimit {
            group: escape(Path::new(name)),
            disk: disk.clone(),
            before,
            during: before.and(limit),
        });
    }
    Ok(held)
}

fn start_keeper(program: &Path, note: &Path) -> Result<(Helper, OwnedFd)> {
    let (keeper, socket) = Helper::start(program, ROLE)?;
    let message = "the throttle's keeper did not get ready; nothing was limited";
    let failed = Error::new(ErrorKind::Failed, message);
    if let Err(errno) = send(&socket, &note.as_os_str().as_bytes()) {
        return Err(failed.with_source(errno));
    }
    match recv(&socket, READY_WITHIN) {
        Ok(()) => Ok((keeper, socket)),
        Err(_) => Err(failed),
    }
}
