//! The note of a mount in the run directory: what stands where, and whose it is, so that what a
//! dead process left is found and taken down. What it says is believed only where the table of
//! mounts says the same.

use super::plan::NotShown;
use super::standing::{StandingTree, TreeName, all_standing};
use super::tree::ShownMount;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::helper::{
    FileLock, ProcessStamp, escape, list_notes, new_note, open_run_dir, read_note, write_note,
};
use crate::model::{Bytes, SnapshotId, clip};
use crate::sys::machine::boot_id;
use crate::sys::mountinfo::unescape;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the names of notes begin.
const MOUNTS: &str = "mount-";
const VERSION: u32 = 1;
/// No note is longer, in bytes.
const MAX_NOTE: u64 = 8 << 20;
/// Most bytes of a name or a reason in it.
const MOST_TEXT: usize = 500;
/// Most things that are not shown that are named.
const MOST_NOT_SHOWN: usize = 1024;
/// Others hold the lock while they look and mount.
const LOCK_WITHIN: Duration = Duration::from_secs(10);

/// How far a mount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountState {
    /// Nothing is seen of it yet.
    Preparing,
    /// It is there.
    Mounted,
    /// It is out of sight, and somebody has something of it open. Like the next ones, a reader
    /// finds that out.
    Detached,
    /// Its process is gone.
    Dead,
    /// It belongs to another namespace, from which this one cannot be told.
    Elsewhere,
}

impl MountState {
    /// The word for it in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Mounted => "mounted",
            Self::Detached => "detached",
            Self::Dead => "dead",
            Self::Elsewhere => "elsewhere",
        }
    }
}

/// A disk of a mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedDisk {
    /// Its name in the snapshot.
    pub disk: String,
    /// Its file in `raw`.
    pub file: String,
    /// How large it is.
    pub size_bytes: Bytes,
}

/// Whether a process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    Alive,
    Dead,
    /// It cannot be told: it is in another namespace.
    Elsewhere,
}

fn own_namespaces() -> Result<Vec<String>> {
    let one = |kind: &str| {
        let path = PathBuf::from(format!("/proc/self/ns/{kind}"));
        let name = fs::read_link(&path).io_context("read", &path)?;
        Ok(name.display().to_string())
    };
    ["mnt", "pid"].into_iter().map(one).collect()
}

/// One mount of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountNote {
    version: u32,
    boot_id: String,
    /// The process that serves it.
    pub process: ProcessStamp,
    /// The process that takes it down when that one is killed.
    pub watcher: Option<u32>,
    /// The name of its job.
    pub job: Option<String>,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The host it is of.
    pub host: String,
    /// The time of its cut.
    pub time: Timestamp,
    /// Where the folder is, escaped as paths in records are.
    dir: String,
    /// What it is known by in the table of mounts.
    pub tree: TreeName,
    /// The namespaces of its process: of mounts, and of processes.
    namespaces: Vec<String>,
    /// How far it is.
    pub state: MountState,
    /// Since when.
    pub since: Timestamp,
    /// The disks.
    pub disks: Vec<MountedDisk>,
    /// The filesystems.
    pub shown: Vec<ShownMount>,
    /// What is not shown.
    pub not_shown: Vec<NotShown>,
}

/// What a note is made of.
pub struct NewMount<'a> {
    /// The name of its job.
    pub job: Option<String>,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The host it is of.
    pub host: &'a str,
    /// The time of its cut.
    pub time: Timestamp,
    /// The folder.
    pub dir: &'a Path,
    /// The run directory.
    pub run_dir: &'a Path,
    /// The disks.
    pub disks: Vec<MountedDisk>,
}

impl MountNote {
    /// Of a mount of this process that is being made.
    pub(super) fn new(new: NewMount<'_>) -> Result<Self> {
        Ok(Self {
            version: VERSION,
            boot_id: boot_id()?,
            process: ProcessStamp::of(std::process::id())?,
            watcher: None,
            job: new.job,
            snapshot: new.snapshot,
            host: new.host.to_owned(),
            time: new.time,
            dir: escape(new.dir),
            tree: TreeName::new(new.run_dir)?,
            namespaces: own_namespaces()?,
            state: MountState::Preparing,
            since: Timestamp::now(),
            disks: new.disks,
            shown: Vec::new(),
            not_shown: Vec::new(),
        })
    }

    /// The folder.
    pub fn dir(&self) -> PathBuf {
        PathBuf::from(OsString::from_vec(unescape(self.dir.as_bytes())))
    }

    /// What it takes to take it down.
    pub(super) fn bare(&self) -> Self {
        Self {
            disks: Vec::new(),
            shown: Vec::new(),
            not_shown: Vec::new(),
            ..self.clone()
        }
    }

    /// Reads the note at a path.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = read_note(path, MAX_NOTE)?;
        let note: Option<Self> = serde_json::from_slice(&text).ok();
        note.filter(|note| note.version == VERSION).ok_or_else(|| {
            let path = path.display();
            let what = format!("{path} is no note of a mount, or of another version");
            let hint = format!("look at it, and at the mounts of this host; then: rm {path}");
            Error::new(ErrorKind::Damaged, what).with_hint(hint)
        })
    }

    /// Whether its process is there, as far as this process can tell.
    pub(super) fn liveness(&self) -> Liveness {
        let (Ok(boot), Ok(namespaces)) = (boot_id(), own_namespaces()) else {
            return Liveness::Elsewhere;
        };
        match (boot == self.boot_id, namespaces == self.namespaces) {
            (false, _) => Liveness::Dead,
            // Numbers of processes and mounts mean others there.
            (true, false) => Liveness::Elsewhere,
            (true, true) if self.process.is_alive() => Liveness::Alive,
            (true, true) => Liveness::Dead,
        }
    }

    /// Whether it says that it was there.
    pub(super) fn is_mounted(&self) -> bool {
        self.state == MountState::Mounted
    }

    /// Takes what is shown and what is not, in the room that a note has: it comes from the vault.
    pub(super) fn tell(&mut self, shown: &[ShownMount], not_shown: &[NotShown]) {
        let short = |text: &str| clip(text, MOST_TEXT);
        let short_if = |text: &Option<String>| text.as_deref().map(short);
        self.shown = shown
            .iter()
            .map(|one| ShownMount {
                target: short(&one.target),
                kind: short(&one.kind),
                name: short(&one.name),
                without_log: short_if(&one.without_log),
                note: short_if(&one.note),
            })
            .collect();
        let each = not_shown.iter().take(MOST_NOT_SHOWN);
        self.not_shown = each
            .map(|one| NotShown {
                what: short(&one.what),
                why: short(&one.why),
                was_mounted: one.was_mounted,
            })
            .collect();
    }
}

/// A note where it is kept. It goes when it is dropped.
#[derive(Debug)]
pub(super) struct KeptNote {
    pub(super) path: PathBuf,
}

impl KeptNote {
    /// A place for one.
    pub(super) fn new(run_dir: &Path) -> Result<Self> {
        open_run_dir(run_dir)?;
        let path = new_note(run_dir, MOUNTS)?;
        Ok(Self { path })
    }

    pub(super) fn write(&self, note: &MountNote) -> Result<()> {
        write_note(&self.path, note)
    }
}

impl Drop for KeptNote {
    fn drop(&mut self) {
        // The next run takes it away if this fails: its process is gone then.
        let _ = fs::remove_file(&self.path);
    }
}

/// Only one process at a time looks at a folder and mounts on it, or takes a mount down.
pub(super) fn take_turn(run_dir: &Path) -> Result<FileLock> {
    open_run_dir(run_dir)?;
    let path = run_dir.join("mounts.lock");
    FileLock::take(&path, LOCK_WITHIN, &|| Ok(()))?.ok_or_else(|| {
        let what = format!("another process holds {}", path.display());
        Error::new(ErrorKind::Busy, what).with_hint("it mounts or unmounts; try again")
    })
}

/// A note that was found.
pub(super) struct FoundNote {
    pub(super) path: PathBuf,
    pub(super) note: MountNote,
}

/// All notes of mounts, and what cannot be read of them.
pub(super) fn notes(run_dir: &Path) -> Result<(Vec<FoundNote>, Vec<Error>)> {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for path in list_notes(run_dir, MOUNTS)? {
        match MountNote::read(&path) {
            Ok(note) => found.push(FoundNote { path, note }),
            // It has ended meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => failures.push(error),
        }
    }
    Ok((found, failures))
}

/// The mounts of snapshots on this host.
#[derive(Debug, Default)]
pub struct MountsFound {
    /// Those that there are, the oldest first.
    pub mounts: Vec<MountNote>,
    /// Notes that cannot be read, and trees that no note tells of.
    pub failures: Vec<Error>,
}

/// Looks which there are. Nothing is changed.
///
/// # Errors
/// The run directory cannot be read.
pub fn list_mounts(run_dir: &Path) -> Result<MountsFound> {
    let (found, mut failures) = notes(run_dir)?;
    let mut mounts: Vec<MountNote> = found.into_iter().map(|found| found.note).collect();
    for note in &mut mounts {
        let stands = !StandingTree::of(&note.tree)?.ours.is_empty();
        note.state = match note.liveness() {
            Liveness::Alive if note.is_mounted() && !stands => MountState::Detached,
            Liveness::Alive => note.state,
            Liveness::Dead => MountState::Dead,
            Liveness::Elsewhere => MountState::Elsewhere,
        };
    }
    for name in all_standing(run_dir)? {
        let known = mounts.iter().any(|note| note.tree.source == name.source);
        if let (false, Some(dir)) = (known, StandingTree::of(&name)?.dir()) {
            let dir = dir.display();
            let what = format!("a snapshot is mounted on {dir}, of which no note is left");
            let hint = format!("stillpoint unmount {dir}");
            failures.push(Error::new(ErrorKind::Inconsistent, what).with_hint(hint));
        }
    }
    mounts.sort_by_key(|note| note.since);
    Ok(MountsFound { mounts, failures })
}
