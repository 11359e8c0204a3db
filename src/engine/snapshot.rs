//! `snapshot`: from the names of disks to a manifest in the vault.

use super::busy::{Asked, OnBusy};
use super::choose::{VaultPlace, refuse_not_whole, refuse_twins};
use super::hold::{HookWishes, SharedHookLog};
use super::lock::DiskLock;
use super::monitor::{Event, Monitor};
use super::parents::find_parents;
use super::prepare::{Wishes, prepare_disk, records_of};
use super::quiesce::Quiesce;
use super::record::{RecordOptions, record};
use super::recover::recover;
use super::run::{RunOptions, RunResult, run, window_memory};
use super::standstill::standstill;
use super::still::Seen;
use super::subject::{Subject, SubjectOptions};
use super::tracking::Tracking;
use crate::device::read::BufferPool;
use crate::device::{Disk, Filesystem, FreezeSet, HostLayout};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Manifest, SessionRecord};
use crate::freeze::Expedite;
use crate::model::clip;
use crate::model::{Bytes, DevNumber, Level, SnapshotId};
use crate::store::{Draft, SnapshotRef, Vault};
use crate::sys::memory;
use crate::track::PinDir;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
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
    /// For the level `application`.
    pub hooks: HookWishes,
}

impl SnapshotOptions {
    fn asked(&self) -> Asked {
        Asked {
            level: self.level,
            max_freeze: self.max_freeze,
            on_busy: self.on_busy,
            allow_fuzzy: self.allow_fuzzy,
        }
    }
}

/// Buffers for reading while nothing is frozen, unless much is to be read.
const BUFFERS: usize = 8;
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

/// The same, but a disk that cannot be read, opened or locked is left out; answers which, and why.
/// What went before is done anew without it, so that the rest is of one instant.
pub fn snapshot_of_what_can_be(
    vault: &Arc<Vault>,
    options: &SnapshotOptions,
    places: &Places,
    monitor: &dyn Monitor,
) -> Result<(Manifest, Vec<(String, Error)>)> {
    let names = HostLayout::scan()?;
    let mut disks = names.resolve(&options.disks)?;
    let mut left_out = Vec::new();
    loop {
        let options = SnapshotOptions {
            disks: disks.iter().map(|disk| disk.name().to_owned()).collect(),
            ..options.clone()
        };
        let error = match snapshot(vault, &options, places, monitor) {
            Ok(manifest) => return Ok((manifest, left_out)),
            Err(error) => error,
        };
        let guilty = error.disk().map(str::to_owned);
        let Some(guilty) = guilty.filter(|name| disks.iter().any(|disk| disk.name() == name))
        else {
            return Err(error);
        };
        if disks.len() == 1 {
            return Err(error);
        }
        monitor.tell(Event::Warning(format!("{guilty} is left out: {error}")));
        disks.retain(|disk| disk.name() != guilty);
        left_out.push((guilty, error));
    }
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
    let started = Timestamp::now();
    let layout = HostLayout::scan()?;
    let heard = Heard::new(monitor);
    let monitor: &dyn Monitor = &heard;
    let disks = acceptable(vault, &layout, &options.disks, monitor)?;
    let _locks = lock_all(&disks, places)?;
    recover(places, monitor)?;
    let host = host_name();
    let known = vault.snapshots_of(&host)?;
    let id = name_after(&known, started);
    let session = vault.begin_session(id, session(&host, started))?;
    let pool = BufferPool::new(BUFFERS, BUFFER)?;
    let expedite = Expedite::find(&places.run_dir);
    let (subjects, tracking) = prepare_all(
        (vault, &layout, &known),
        &disks,
        (options, places),
        (&pool, &expedite),
        monitor,
    )?;
    let seen = Seen::new(Mutex::new(layout.freeze_set(&disks)));
    let hook_log = SharedHookLog::default();
    let mut quiesce = around(standstill(
        (id, &disks),
        (options, places, &expedite),
        &seen,
        &hook_log,
    )?);
    let how = RunOptions {
        asked: options.asked(),
        workers: options.workers,
        window_memory: window_memory(memory::total()?),
        pool,
    };
    let draft = Arc::new(Draft::begin_in(vault, session));
    let result = run(subjects, &draft, quiesce.as_mut(), &how, monitor);
    let hook_log = std::mem::take(&mut *hook_log.lock().unwrap_or_else(PoisonError::into_inner));
    let mut result = result.map_err(|error| explained(error, &disks, &hook_log.warnings))?;
    monitor.check()?;
    let mut warnings = what_was_seen(&mut result, &seen, options, &heard);
    warnings.extend(hook_log.warnings);
    let record_options = RecordOptions {
        snapshot: id,
        vault: vault.info().id,
        started,
        host,
        requested: options.level,
        frozen: quiesce.freezes() && !result.cut.held.is_zero(),
        doubted: doubted(&seen),
        hooks: hook_log.records,
        warnings,
        tags: options.tags.clone(),
    };
    let manifest = record(result, &draft, record_options)?;
    monitor.tell(Event::Phase("committing".into()));
    let draft = Arc::into_inner(draft)
        .ok_or_else(|| Error::new(ErrorKind::Failed, "a thread still writes to the vault"))?;
    draft.commit(&manifest)?;
    tracking.keep();
    Ok(manifest)
}

/// The disks that were named, of each of which a snapshot can be right.
fn acceptable(
    vault: &Vault,
    layout: &HostLayout,
    names: &[String],
    monitor: &dyn Monitor,
) -> Result<Vec<Disk>> {
    let disks = layout.resolve(names)?;
    let vault = VaultPlace::find(vault, layout)?;
    vault.refuse_on(&disks)?;
    refuse_twins(layout, &disks)?;
    refuse_not_whole(&disks)?;
    if let Some(warning) = vault.warning() {
        monitor.tell(Event::Warning(warning));
    }
    Ok(disks)
}

/// Why a run failed, with what nothing else tells: applications may still be held.
fn explained(error: Error, disks: &[Disk], hook_warnings: &[String]) -> Error {
    let error = with_swaps(error, disks);
    match hook_warnings.is_empty() {
        true => error,
        false => error.context(hook_warnings.join("; ")),
    }
}

/// Names what is swapped to where no quiet instant was found: no freeze stops that.
fn with_swaps(error: Error, disks: &[Disk]) -> Error {
    let untold = || Some(HostLayout::scan_mounts().ok()?.unlocated_swaps(disks));
    match untold().filter(|untold| error.kind() == ErrorKind::Inconsistent && !untold.is_empty()) {
        None => error,
        Some(untold) => {
            let names = untold.join(", ");
            error.with_hint(format!(
                "no freeze stops the kernel from swapping to {names}: swapoff it for the time of \
                 the snapshot, or swap to a partition or to a file on ext4 or xfs"
            ))
        }
    }
}

/// Keeps other runs away from all disks, as long as the locks are held.
fn lock_all(disks: &[Disk], places: &Places) -> Result<Vec<DiskLock>> {
    let take = |disk: &Disk| {
        let lock = DiskLock::take(&places.run_dir, disk.dev(), disk.name());
        lock.map_err(|error| error.on_disk(disk.name()))
    };
    disks.iter().map(take).collect()
}

/// Names the filesystems that were there at the cut; answers all that the user should know.
fn what_was_seen(
    result: &mut RunResult,
    seen: &Seen,
    options: &SnapshotOptions,
    heard: &Heard<'_>,
) -> Vec<String> {
    let set = seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let freeze = options.level >= Level::Filesystem && !result.cut.held.is_zero();
    for subject in &mut result.subjects {
        subject.options.filesystems = records_of(&set, subject.options.identity.dev, freeze);
    }
    let mut warnings = what_is_outside(&set);
    if options.level == Level::Application && set.filesystems.is_empty() {
        let names: Vec<&str> = result.subjects.iter().map(Subject::name).collect();
        warnings.push(format!(
            "nothing is mounted on {}: there was nothing to freeze, and no application's \
             files on a filesystem",
            names.join(", ")
        ));
    }
    warnings.append(&mut heard.warnings());
    bounded(warnings)
}

/// The disks on which something was in use that no mount table shows.
fn doubted(seen: &Seen) -> BTreeSet<DevNumber> {
    let set = seen.lock().unwrap_or_else(PoisonError::into_inner);
    set.opaque_uses.iter().map(|claim| claim.disk).collect()
}

/// Most warnings that a manifest keeps.
const MAX_WARNINGS: usize = 256;
/// Most bytes of one.
const MAX_WARNING: usize = 1000;

/// The first of them, none too long, and how many more there were.
fn bounded(mut warnings: Vec<String>) -> Vec<String> {
    let left_out = warnings.len().saturating_sub(MAX_WARNINGS);
    warnings.truncate(MAX_WARNINGS);
    for warning in &mut warnings {
        *warning = clip(warning, MAX_WARNING);
    }
    if left_out > 0 {
        warnings.push(format!("{left_out} more warnings were left out"));
    }
    warnings
}

/// Tracks, plans and opens every disk of the run.
fn prepare_all<'a>(
    (vault, layout, known): (&Arc<Vault>, &HostLayout, &[SnapshotRef]),
    disks: &[Disk],
    (options, places): (&SnapshotOptions, &'a Places),
    (pool, expedite): (&BufferPool, &Expedite),
    monitor: &'a dyn Monitor,
) -> Result<(Vec<SubjectOptions>, Tracking<'a>)> {
    let parents = find_parents(vault, known, (&layout.topology, disks), monitor)?;
    let mut tracking = Tracking::start(&places.pins, monitor)?;
    let wishes = Wishes {
        full: options.full,
        all_blocks: options.all_blocks,
        freeze: options.level >= Level::Filesystem,
    };
    let each = disks.iter().zip(parents);
    let each = each.map(|disk| {
        let name = disk.0.name();
        prepare_disk(
            (vault, layout),
            disk,
            (&mut tracking, pool, expedite),
            wishes,
            monitor,
        )
        .map_err(|error| match error.kind() {
            ErrorKind::Interrupted(_) | ErrorKind::Damaged => error,
            _ => error.on_disk(name),
        })
    });
    let subjects = each.collect::<Result<_>>()?;
    Ok((subjects, tracking))
}

/// A name that sorts after all of this host's, whatever its clock says.
fn name_after(known: &[SnapshotRef], now: Timestamp) -> SnapshotId {
    let now = u64::try_from(now.as_millisecond()).unwrap_or_default();
    SnapshotId::after(known.last().map(|newest| newest.id), now)
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().into_owned()
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
    let claimed = set.opaque_uses.iter().map(|claim| {
        format!(
            "{} is in use, and no mount table tells by what (a filesystem unmounted lazily, or \
             mounted where no process looks): it was not frozen",
            claim.name
        )
    });
    outside.chain(unknown).chain(claimed).collect()
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
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_keeps_a_bounded_number_of_warnings() {
        let many: Vec<String> = (0..5000)
            .map(|n| format!("{n} {}", "x".repeat(5000)))
            .collect();
        let kept = bounded(many);
        assert_eq!(kept.len(), MAX_WARNINGS + 1);
        assert!(kept.iter().all(|warning| warning.len() <= MAX_WARNING));
        assert_eq!(kept.last().unwrap(), "4744 more warnings were left out");
        assert!(kept[0].starts_with("0 xxx"));
        assert_eq!(bounded(vec!["one".into()]), ["one"]);
    }
}
