//! `snapshot`: from the names of disks to a manifest in the vault.

use super::lock::DiskLock;
use super::monitor::{Event, Monitor};
use super::prepare::{
    Scene, Wishes, find_parents, prepare_disk, records_of, refuse_vault_on, start_tracking,
};
use super::quiesce::{Quiesce, Unfrozen};
use super::record::{RecordOptions, record};
use super::run::{OnBusy, RunOptions, RunResult, run};
use super::still::{Seen, Still, StillOptions};
use super::subject::SubjectOptions;
use crate::device::read::BufferPool;
use crate::device::{Disk, Filesystem, Freezable, FreezeSet, freezable};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Manifest, SessionRecord};
use crate::freeze::FreezeTarget;
use crate::model::{Bytes, Level, SnapshotId};
use crate::store::{Draft, Vault};
use crate::track::PinDir;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where a run keeps what it needs on the host.
#[derive(Clone, Debug)]
pub struct Places {
    /// Locks and records of freezes: a folder in memory.
    pub run_dir: PathBuf,
    /// Where the tracking programs and maps are pinned.
    pub pins: PinDir,
    /// The program that becomes the guardian.
    pub program: PathBuf,
}

/// What snapshot to take.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// Names of disks.
    pub disks: Vec<String>,
    /// How consistent it shall be.
    pub level: Level,
    /// Read and store everything.
    pub full: bool,
    /// Copy free space too.
    pub all_blocks: bool,
    /// Labels.
    pub tags: BTreeMap<String, String>,
    /// How long the filesystems may stand frozen.
    pub max_freeze: Duration,
    /// When the disks never get quiet enough.
    pub on_busy: OnBusy,
    /// Take a copy of no one instant when there is no other.
    pub allow_fuzzy: bool,
    /// How many threads encode.
    pub workers: usize,
}

/// Buffers for reading while nothing is frozen.
const BUFFERS: usize = 32;
/// Size of each.
const BUFFER: Bytes = Bytes(1 << 20);

/// Takes a snapshot; when this returns an error, the vault holds none of it.
pub fn snapshot(
    vault: &Arc<Vault>,
    options: &SnapshotOptions,
    places: &Places,
    monitor: &dyn Monitor,
) -> Result<Manifest> {
    snapshot_through(vault, options, places, monitor, |quiesce| quiesce)
}

/// The same with something laid around the freeze, so that a test can look at the disks while
/// they stand still.
pub fn snapshot_through(
    vault: &Arc<Vault>,
    options: &SnapshotOptions,
    places: &Places,
    monitor: &dyn Monitor,
    around: impl FnOnce(Box<dyn Quiesce>) -> Box<dyn Quiesce>,
) -> Result<Manifest> {
    refuse_application(options.level)?;
    let started = Timestamp::now();
    let scene = Scene::look()?;
    let disks = scene.resolve(&options.disks)?;
    refuse_vault_on(vault, &scene, &disks)?;
    refuse_twins(&disks)?;
    let _locks = disks
        .iter()
        .map(|disk| DiskLock::take(&places.run_dir, disk.dev(), disk.name()))
        .collect::<Result<Vec<_>>>()?;
    let heard = Heard::new(monitor);
    let monitor: &dyn Monitor = &heard;
    let host = nix::unistd::gethostname()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let id = SnapshotId::generate(u64::try_from(started.as_millisecond()).unwrap_or_default());
    let session = vault.begin_session(id, session(&host, started))?;
    let pool = BufferPool::new(BUFFERS, BUFFER)?;
    let subjects = prepare_all(
        (vault, &scene, &host),
        &disks,
        (options, places),
        &pool,
        monitor,
    )?;
    let seen = Seen::new(Mutex::new(scene.freeze_set(&disks)));
    if options.level >= Level::Filesystem {
        // What cannot be frozen is told before everything is copied.
        targets(&scene.freeze_set(&disks))?;
    }
    let mut quiesce = around(quiesce(&disks, &seen, options, places));
    let how = RunOptions {
        max_freeze: options.max_freeze,
        on_busy: options.on_busy,
        allow_fuzzy: options.allow_fuzzy,
        workers: options.workers,
        pool,
    };
    let draft = Arc::new(Draft::begin_in(vault, session));
    let mut result: RunResult = run(subjects, &draft, quiesce.as_mut(), &how, monitor)?;
    monitor.check()?;
    let warnings = what_was_seen(&mut result, &seen, options, &heard);
    let record_options = RecordOptions {
        snapshot: id,
        vault: vault.info().id,
        started,
        host,
        requested: options.level,
        frozen: quiesce.freezes(),
        warnings,
        tags: options.tags.clone(),
    };
    let manifest = record(result, &draft, record_options)?;
    monitor.tell(Event::Phase("committing".into()));
    let draft = Arc::into_inner(draft)
        .ok_or_else(|| Error::new(ErrorKind::Failed, "a thread still writes to the vault"))?;
    draft.commit(&manifest)?;
    Ok(manifest)
}

/// Names the filesystems that were there at the cut; answers all that the user should know.
fn what_was_seen(
    result: &mut RunResult,
    seen: &Seen,
    options: &SnapshotOptions,
    heard: &Heard<'_>,
) -> Vec<String> {
    let set = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let freeze = options.level >= Level::Filesystem;
    for subject in &mut result.subjects {
        subject.options.filesystems = records_of(&set, subject.options.identity.dev, freeze);
    }
    let mut warnings = what_is_outside(&set);
    warnings.append(&mut heard.warnings());
    warnings
}

/// Tracks, plans and opens every disk of the run.
fn prepare_all(
    (vault, scene, host): (&Arc<Vault>, &Scene, &str),
    disks: &[Disk],
    (options, places): (&SnapshotOptions, &Places),
    pool: &BufferPool,
    monitor: &dyn Monitor,
) -> Result<Vec<SubjectOptions>> {
    let parents = find_parents(vault, host, disks, monitor)?;
    let mut tracker = start_tracking(&places.pins, monitor)?;
    let wishes = Wishes {
        full: options.full,
        all_blocks: options.all_blocks,
        freeze: options.level >= Level::Filesystem,
    };
    let each = disks.iter().zip(parents);
    each.map(|disk| prepare_disk((vault, scene), disk, (&mut tracker, pool), wishes, monitor))
        .collect()
}

fn refuse_application(level: Level) -> Result<()> {
    if level <= Level::Filesystem {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "this version runs no prescript or postscript: level application cannot be had yet",
    )
    .with_hint("take --level filesystem; databases recover from it as after a power cut"))
}

/// Disks that a vault could not tell apart: two paths to one, or clones with one serial number.
fn refuse_twins(disks: &[Disk]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for disk in disks {
        if let Some(other) = seen.insert(disk.identity.key(), disk.name()) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{other} and {} both say that they are {:?}; nothing was done",
                    disk.name(),
                    disk.identity.key()
                ),
            )
            .with_hint(
                "if they are two paths to one disk, name one; else give each its own vault",
            ));
        }
    }
    Ok(())
}

fn session(host: &str, started: Timestamp) -> SessionRecord {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    SessionRecord {
        host: host.into(),
        pid: std::process::id(),
        boot_id: boot_id.trim().into(),
        command: "snapshot".into(),
        started,
        heartbeat: started,
    }
}

/// Filesystems that the snapshot holds only a part of, or may.
fn what_is_outside(set: &FreezeSet) -> Vec<String> {
    let name = |filesystem: &Filesystem| {
        let target = filesystem.target().display();
        format!("{} ({} at {target})", filesystem.source, filesystem.fstype)
    };
    let outside = set
        .filesystems
        .iter()
        .filter(|one| set.partly_outside.contains(&one.dev));
    let outside = outside.map(|one| {
        format!(
            "{} also lives on disks outside this snapshot: it is incomplete here",
            name(one)
        )
    });
    let unknown = set
        .undetermined
        .iter()
        .filter(|one| !one.read_only)
        .map(|one| {
            format!(
                "{}: it cannot be told which disks it lives on; it was not frozen",
                name(one)
            )
        });
    outside.chain(unknown).collect()
}

/// Passes everything on, and keeps the warnings for the manifest.
struct Heard<'a> {
    monitor: &'a dyn Monitor,
    warnings: Mutex<Vec<String>>,
}

impl<'a> Heard<'a> {
    fn new(monitor: &'a dyn Monitor) -> Self {
        Self {
            monitor,
            warnings: Mutex::default(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Monitor for Heard<'_> {
    fn tell(&self, event: Event) {
        if let Event::Warning(warning) = &event {
            let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            warnings.push(warning.clone());
        }
        self.monitor.tell(event);
    }

    fn check(&self) -> Result<()> {
        self.monitor.check()
    }
}

/// What the guardian has to freeze.
pub(super) fn targets(set: &FreezeSet) -> Result<Vec<FreezeTarget>> {
    // What lies in a file of another is frozen before that other. Read-only ones need nothing; of
    // those that cannot be frozen the tracker must see no write.
    let deepest = set
        .filesystems
        .iter()
        .map(|filesystem| filesystem.depth)
        .max()
        .unwrap_or(0);
    let wave =
        |filesystem: &Filesystem| u16::try_from(deepest - filesystem.depth).unwrap_or(u16::MAX);
    let can = |filesystem: &&Filesystem| freezable(filesystem) == Freezable::Yes;
    let each = set.filesystems.iter().filter(can);
    let mut targets = each
        .map(|filesystem| target(filesystem, wave(filesystem)))
        .collect::<Result<Vec<_>>>()?;
    targets.sort_by_key(|target| target.wave);
    Ok(targets)
}

fn target(filesystem: &Filesystem, wave: u16) -> Result<FreezeTarget> {
    let mut visible: Vec<_> = filesystem
        .mounts
        .iter()
        .filter(|mount| mount.visible)
        .collect();
    visible.sort_by_key(|mount| mount.pid);
    let mount = visible.first().ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!(
                "{} at {} is hidden under other mounts and cannot be frozen; nothing was done",
                filesystem.source,
                filesystem.target().display()
            ),
        )
        .with_hint("unmount what hides it, or take --level crash")
    })?;
    Ok(FreezeTarget {
        mount_point: mount.target.clone(),
        namespace_pid: mount.pid,
        dev: filesystem.dev,
        wave,
        source: filesystem.source.clone(),
        fstype: filesystem.fstype.clone(),
    })
}

fn quiesce(
    disks: &[Disk],
    seen: &Seen,
    options: &SnapshotOptions,
    places: &Places,
) -> Box<dyn Quiesce> {
    if options.level < Level::Filesystem {
        return Box::new(Unfrozen::new(options.max_freeze));
    }
    let still = StillOptions {
        disks: disks.to_vec(),
        program: places.program.clone(),
        run_dir: places.run_dir.clone(),
        deadline: options.max_freeze,
    };
    Box::new(Still::new(still, Arc::clone(seen)))
}
