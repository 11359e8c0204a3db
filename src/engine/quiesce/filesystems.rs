//! Freezing mounted filesystems through a guardian process: one for each attempt, as each freezes
//! once. What is mounted is looked up again for each attempt, as copying may have taken hours.

use super::Quiesce;
use super::none::NoQuiesce;
use super::waves::targets;
use crate::device::{Disk, Filesystem, Freezable, FreezeSet, Host, HostLayout, freezable};
use crate::engine::monitor::{Event, Monitor};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::freeze::{Expedite, Guardian, GuardianOptions};
use crate::model::DevNumber;
use crate::sys::locked::LockExt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Most times that what is mounted is looked for before each attempt.
const MAX_LOOKS: u32 = 3;

/// What to freeze.
#[derive(Clone, Debug)]
pub struct FilesystemQuiesceOptions {
    /// The disks of the run.
    pub disks: Vec<Disk>,
    /// The program that becomes the guardian.
    pub program: PathBuf,
    /// Where the guardian's record is kept.
    pub run_dir: PathBuf,
    /// The longest that anything may be frozen.
    pub deadline: Duration,
    /// Expedites the kernel's grace periods.
    pub expedite: Expedite,
}

/// The filesystems that the last attempt has seen.
pub type SharedFreezeSet = Arc<Mutex<FreezeSet>>;

/// Freezes the filesystems of the run.
pub struct FilesystemQuiesce {
    options: FilesystemQuiesceOptions,
    seen: SharedFreezeSet,
    guardian: Option<Guardian>,
    /// The window of an attempt in which nothing is to be frozen.
    nothing: NoQuiesce,
    /// What guardians lack on this host has been reported.
    reported: bool,
}

impl FilesystemQuiesce {
    /// What to freeze, and where to note what that is.
    pub fn new(options: FilesystemQuiesceOptions, seen: SharedFreezeSet) -> Self {
        Self {
            nothing: NoQuiesce::new(options.deadline, options.expedite.clone()),
            options,
            seen,
            guardian: None,
            reported: false,
        }
    }

    fn look(&self) -> Result<(HostLayout, FreezeSet)> {
        let layout = HostLayout::scan_mounts()?;
        let set = layout.freeze_set(&self.options.disks);
        Ok((layout, set))
    }

    /// The disk of the run on which a filesystem lives; the first of several.
    fn disk_of(&self, filesystem: DevNumber) -> Option<String> {
        let seen = self.last_seen();
        let mut all = seen.filesystems.iter();
        let filesystem = all.find(|one| one.dev == filesystem)?;
        let mut disks = self.options.disks.iter();
        let disk = disks.find(|disk| filesystem.disks.contains(&disk.dev()))?;
        Some(disk.name().to_owned())
    }

    fn last_seen(&self) -> FreezeSet {
        self.seen.locked().clone()
    }
}

/// What must not change during a cut: which filesystems there are, and which can be written to.
fn writable(set: &FreezeSet) -> Vec<(DevNumber, bool)> {
    let each = set
        .filesystems
        .iter()
        .map(|filesystem| (filesystem.dev, filesystem.read_only));
    let mut all: Vec<_> = each.collect();
    all.sort_unstable();
    all
}

/// Writes out a filesystem that cannot be frozen. One that a process serves (FUSE) is left to it.
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

impl FilesystemQuiesce {
    fn flush_once(&mut self) -> Result<()> {
        let (layout, mut set) = self.look()?;
        set.opaque_uses = layout.opaque_uses(&self.options.disks);
        for filesystem in &set.filesystems {
            if let Freezable::No(_) = freezable(filesystem) {
                write_out(filesystem, &layout.host)?;
            }
        }
        let targets = targets(&set)?;
        *self.seen.locked() = set;
        if let Some(guardian) = &mut self.guardian
            && guardian.is_ready_for(&targets)
        {
            return guardian.sync().map(drop);
        }
        self.guardian = None;
        if targets.is_empty() {
            return Ok(());
        }
        let mut options = GuardianOptions::new(targets, self.options.deadline);
        options.program.clone_from(&self.options.program);
        options.run_dir.clone_from(&self.options.run_dir);
        let mut guardian = Guardian::start(options)?;
        guardian.sync()?;
        self.guardian = Some(guardian);
        Ok(())
    }

    /// Reports once what the guardian lacks on this host.
    fn report_weaknesses(&mut self, monitor: &dyn Monitor) {
        if let Some(guardian) = self.guardian.as_ref().filter(|_| !self.reported) {
            let notes = guardian.weaknesses().iter().cloned().map(Event::Note);
            let warning = guardian.exposure().map(Event::Warning);
            notes.chain(warning).for_each(|event| monitor.tell(event));
            self.reported = true;
        }
    }
}

impl Quiesce for FilesystemQuiesce {
    fn flush(&mut self, monitor: &dyn Monitor) -> Result<()> {
        for look in 1..=MAX_LOOKS {
            match self.flush_once() {
                // A mount namespace has gone since it was looked for.
                Err(error) if error.kind() == ErrorKind::NotFound && look < MAX_LOOKS => {}
                flushed => {
                    flushed?;
                    break;
                }
            }
        }
        self.report_weaknesses(monitor);
        Ok(())
    }

    fn freeze(&mut self) -> Result<Instant> {
        let Some(guardian) = &mut self.guardian else {
            return self.nothing.freeze();
        };
        let frozen = guardian.freeze();
        let (watch, blamed) = (guardian.watch(), guardian.blamed());
        let left = watch.map_or(Duration::ZERO, |watch| watch.remaining());
        match frozen {
            Ok(_) => Ok(Instant::now() + left),
            Err(error) => Err(match blamed.and_then(|dev| self.disk_of(dev)) {
                Some(disk) => error.on_disk(&disk),
                None => error,
            }),
        }
    }

    fn thaw(&mut self) -> Result<Duration> {
        let held = match self.guardian.take() {
            Some(guardian) => guardian.thaw()?.frozen_for,
            None => self.nothing.thaw()?,
        };
        if writable(&self.look()?.1) == writable(&self.last_seen()) {
            return Ok(held);
        }
        Err(Error::new(
            ErrorKind::Inconsistent,
            "filesystems were mounted or unmounted during the cut; no snapshot was made",
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
