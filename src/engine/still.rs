//! Holding mounted filesystems still with a guardian: one for each attempt, as each freezes once.
//! What is mounted is looked up for each attempt anew, as copying may have taken hours.

use super::prepare::Scene;
use super::quiesce::Quiesce;
use super::snapshot::targets;
use crate::device::{Disk, Filesystem, Freezable, FreezeSet, Host, freezable};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::freeze::{Guardian, GuardianOptions};
use crate::model::DevNumber;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What to hold still.
#[derive(Clone, Debug)]
pub struct StillOptions {
    /// The disks of the run.
    pub disks: Vec<Disk>,
    /// The program that becomes the guardian.
    pub program: PathBuf,
    /// Where the guardian's record is kept.
    pub run_dir: PathBuf,
    /// How long anything may stand frozen.
    pub deadline: Duration,
}

/// The filesystems that the last attempt held still.
pub type Seen = Arc<Mutex<FreezeSet>>;

/// Freezes the filesystems of the run.
pub struct Still {
    options: StillOptions,
    seen: Seen,
    guardian: Option<Guardian>,
    /// When the window began.
    begun: Option<Instant>,
}

impl Still {
    /// What to hold still, and where to tell what that is.
    pub fn new(options: StillOptions, seen: Seen) -> Self {
        Self {
            options,
            seen,
            guardian: None,
            begun: None,
        }
    }

    fn look(&self) -> Result<(Scene, FreezeSet)> {
        let scene = Scene::look_at_mounts()?;
        let set = scene.freeze_set(&self.options.disks);
        Ok((scene, set))
    }

    fn last_seen(&self) -> FreezeSet {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What matters of a set of filesystems: which there are, and which can be written to.
fn writable(set: &FreezeSet) -> Vec<(DevNumber, bool)> {
    let each = set
        .filesystems
        .iter()
        .map(|filesystem| (filesystem.dev, filesystem.read_only));
    let mut all: Vec<_> = each.collect();
    all.sort_unstable();
    all
}

/// Writes out a filesystem that cannot be frozen. One served by a process is left to that.
fn write_out(filesystem: &Filesystem, host: &Host) -> Result<()> {
    if filesystem.fstype.starts_with("fuse") {
        return Ok(());
    }
    let Some(path) = filesystem.open_paths(host).into_iter().next() else {
        return Ok(());
    };
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let root = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(&path);
    let root = root.io_context("open", &path)?;
    nix::unistd::syncfs(&root).io_context("write out", &path)
}

impl Quiesce for Still {
    fn settle(&mut self) -> Result<()> {
        let (scene, set) = self.look()?;
        for filesystem in &set.filesystems {
            if let Freezable::No(_) = freezable(filesystem) {
                write_out(filesystem, &scene.host)?;
            }
        }
        let targets = targets(&set)?;
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = set;
        self.guardian = None;
        if targets.is_empty() {
            return Ok(());
        }
        let mut options = GuardianOptions::new(targets, self.options.deadline);
        options.program.clone_from(&self.options.program);
        options.run_dir.clone_from(&self.options.run_dir);
        let sync_within = options.sync_within;
        let guardian = Guardian::start(options)?;
        guardian.sync(sync_within)?;
        self.guardian = Some(guardian);
        Ok(())
    }

    fn freeze(&mut self) -> Result<Instant> {
        if let Some(guardian) = &mut self.guardian {
            guardian.freeze()?;
            let left = guardian
                .watch()
                .map_or(Duration::ZERO, |watch| watch.remaining());
            return Ok(Instant::now() + left);
        }
        let now = Instant::now();
        self.begun = Some(now);
        Ok(now + self.options.deadline)
    }

    fn thaw(&mut self) -> Result<Duration> {
        let held = match self.guardian.take() {
            Some(guardian) => guardian.thaw()?.frozen_for,
            None => self
                .begun
                .take()
                .map_or(Duration::ZERO, |begun| begun.elapsed()),
        };
        if writable(&self.look()?.1) == writable(&self.last_seen()) {
            return Ok(held);
        }
        Err(Error::new(
            ErrorKind::Inconsistent,
            "filesystems were mounted or unmounted during the cut; nothing was stored",
        )
        .with_hint("run it again"))
    }

    fn freezes(&self) -> bool {
        let seen = self.last_seen();
        seen.filesystems
            .iter()
            .any(|filesystem| freezable(filesystem) == Freezable::Yes)
    }
}
