//! `snapshot`: from the names of disks to a manifest in the vault.

mod alarm;
mod capture;
mod captured_disk;
mod cut;
mod disk_run;
mod disk_run_options;
mod elsewhere;
mod gentle;
mod mode;
mod mounted;
mod packed_before;
mod precopy;
pub(super) mod prepare;
mod record;
mod resume;
mod rewritten;
mod room;
mod sample;
mod select_disks;
mod too_busy;
mod warnings;
mod window;

pub use capture::{CaptureOptions, CaptureResult, capture};
pub use captured_disk::CapturedDisk;
pub use cut::Cut;
pub use disk_run_options::{AskBlocks, AskFree, DiskRunOptions, FreeScan};
pub use gentle::Gentle;
pub use mode::{CaptureMode, Parent};
pub use packed_before::PackedBefore;
pub use record::{RecordOptions, record};
pub use resume::{Resume, Resumed, Sent};
pub use select_disks::{LeftOut, Selection, VaultPlace, select, select_all};

use super::disk_lock::DiskLock;
use super::monitor::{Event, Monitor};
use super::places::Places;
use super::quiesce::Quiesce;
use super::quiesce::applications::SharedHookLog;
use super::quiesce::filesystems::SharedFreezeSet;
use super::quiesce::layers::Layers;
use super::recover::recover;
use super::run_phase::RunPhase;
use super::session_record::session_record;
use super::snapshot_options::SnapshotOptions;
use crate::device::read::BufferPool;
use crate::device::{Disk, FreezeSet, HostLayout};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Manifest, SessionRecord};
use crate::freeze::Expedite;
use crate::model::{Bytes, DevNumber, Level, SnapshotId};
use crate::store::{Draft, Session, SnapshotRef, Vault};
use crate::sys::locked::LockExt;
use crate::sys::machine::host_name;
use crate::sys::memory;
use alarm::{AlarmLook, is_alarm};
use capture::window_memory;
use jiff::Timestamp;
use mounted::{name_mounts, records_of};
use prepare::Prepare;
use select_disks::{refuse_aliases, refuse_not_whole, refuse_too_large};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use warnings::{WarningLog, bounded, not_frozen};

/// Buffers for reading while nothing is frozen, unless much is to be read.
const BUFFERS: usize = 8;
/// Size of each.
const BUFFER: Bytes = Bytes(1 << 20);

/// Takes a snapshot; when this returns an error, none was made. What was put may stay for the next
/// run of the host, and the error says so.
pub fn snapshot(
    vault: &Arc<Vault>,
    options: &SnapshotOptions,
    places: &Places,
    monitor: &dyn Monitor,
) -> Result<Manifest> {
    snapshot_through(vault, options, places, monitor, |quiesce| quiesce)
}

/// The same, but a disk that cannot be read, opened or locked is left out; returns which, and why.
/// The others are captured again without it, so that they are of one instant.
pub fn snapshot_of_what_can_be(
    vault: &Arc<Vault>,
    options: &SnapshotOptions,
    places: &Places,
    monitor: &dyn Monitor,
) -> Result<(Manifest, Vec<(String, Error)>)> {
    let mut options = options.clone();
    let mut left_out = Vec::new();
    loop {
        let error = match snapshot(vault, &options, places, monitor) {
            Ok(manifest) => return Ok((manifest, left_out)),
            Err(error) => error,
        };
        let guilty = error.disk().map(str::to_owned);
        let is_one = |name: &String| options.disks.iter().any(|disk| disk.name() == name);
        let Some(guilty) = guilty.filter(|name| options.disks.len() > 1 && is_one(name)) else {
            return Err(error);
        };
        monitor.tell(Event::Warning(format!("{guilty} is left out: {error}")));
        // Much may have changed while the others were captured.
        options.layout = HostLayout::scan()?;
        // A disk that has taken the number of one that was named is not that one: tracking refuses
        // the one that was named then, as it is gone.
        let found = |disk: &Disk| {
            let now = options.layout.topology.disk(disk.dev());
            now.filter(|now| now.is_same(disk)).cloned()
        };
        let others = options.disks.iter().filter(|disk| disk.name() != guilty);
        let others = others.map(|disk| found(disk).unwrap_or_else(|| disk.clone()));
        options.disks = others.collect();
        left_out.push((guilty, error));
    }
}

/// The same with something laid around the freeze, so that a test can look at the disks while they
/// do not change.
pub fn snapshot_through(
    vault: &Arc<Vault>,
    options: &SnapshotOptions,
    places: &Places,
    monitor: &dyn Monitor,
    around: impl FnOnce(Box<dyn Quiesce>) -> Box<dyn Quiesce>,
) -> Result<Manifest> {
    let started = Timestamp::now();
    let SnapshotOptions { layout, disks, .. } = options;
    let log = WarningLog::new(monitor);
    let monitor: &dyn Monitor = &log;
    refuse_unfit(vault, layout, disks, monitor)?;
    let _locks = lock_all(disks, places)?;
    recover(places, monitor)?;
    let host = host_name();
    let known = vault.snapshots_of(&host)?;
    let id = name_after(&known, started);
    let record = session_record("snapshot", &host, started);
    let session = begin_session(vault, id, record, &known)?;
    let pool = BufferPool::new(BUFFERS, BUFFER)?;
    let expedite = Expedite::find(&places.run_dir);
    let prepare = Prepare {
        vault,
        run: id,
        host: &host,
        options,
        places,
        pool: &pool,
        expedite: &expedite,
        monitor,
    };
    let prepared = prepare.disks(&known)?;
    let seen = SharedFreezeSet::new(Mutex::new(layout.freeze_set(disks)));
    let hook_log = SharedHookLog::default();
    let layers = Layers {
        snapshot: id,
        options,
        places,
        expedite: &expedite,
        seen: &seen,
        hook_log: &hook_log,
    };
    let mut quiesce = around(layers.build()?);
    let how = capture_options(options, pool.clone())?;
    let draft = Arc::new(Draft::begin_in(vault, session, prepared.notes));
    let result = capture(prepared.disks, &draft, quiesce.as_mut(), &how, monitor);
    let hook_log = std::mem::take(&mut *hook_log.locked());
    let failed = |error| draft.ended_by(explained(error, disks, &hook_log.warnings));
    let mut result = result.map_err(failed)?;
    monitor.check().map_err(failed)?;
    AlarmLook::of(vault, options, id, &known, monitor).look(&mut result.disks);
    let seen = seen.locked().clone();
    let mut warnings = warnings_of(&mut result, &seen, options, &log);
    warnings.extend(hook_log.warnings);
    let record_options = RecordOptions {
        host: host.clone(),
        frozen: quiesce.freezes() && !result.cut.held.is_zero(),
        doubted: doubted(&seen),
        hooks: hook_log.records,
        warnings,
        ..RecordOptions::of(options, id, vault.info().id, started)
    };
    let said = |manifest: &mut Manifest| name_mounts(manifest, &seen.others);
    let manifest = commit(result, draft, record_options, said, monitor)?;
    prepared.tracking.keep();
    Ok(manifest)
}

/// Begins the session of a run; where the host has snapshots to build on, plans are looked at, too.
fn begin_session(
    vault: &Vault,
    id: SnapshotId,
    record: SessionRecord,
    known: &[SnapshotRef],
) -> Result<Session> {
    match known.is_empty() {
        true => vault.begin_session(id, record),
        false => vault.begin_session_heeding(id, record),
    }
}

/// Makes a snapshot of what was captured.
fn commit(
    result: CaptureResult,
    draft: Arc<Draft>,
    options: RecordOptions,
    also_said: impl FnOnce(&mut Manifest),
    monitor: &dyn Monitor,
) -> Result<Manifest> {
    let manifest = record(result, &draft, options);
    let mut manifest = manifest.map_err(|error| draft.ended_by(error))?;
    also_said(&mut manifest);
    monitor.tell(Event::Phase(RunPhase::Committing));
    let draft = Arc::into_inner(draft)
        .ok_or_else(|| Error::new(ErrorKind::Failed, "a thread still writes to the vault"))?;
    draft.commit(&mut manifest)?;
    Ok(manifest)
}

fn capture_options(options: &SnapshotOptions, pool: BufferPool) -> Result<CaptureOptions> {
    Ok(CaptureOptions {
        consistency: options.consistency(),
        workers: options.workers,
        window_memory: window_memory(memory::total()?),
        pool,
        gentle: Gentle::new(options.idle, options.limit_read),
        // Everything again is everything again.
        share: !options.full,
    })
}

/// Refuses disks of which a snapshot could be wrong.
fn refuse_unfit(
    vault: &Vault,
    layout: &HostLayout,
    disks: &[Disk],
    monitor: &dyn Monitor,
) -> Result<()> {
    let vault = VaultPlace::find(vault, layout)?;
    vault.refuse_on(disks)?;
    refuse_aliases(layout, disks)?;
    refuse_too_large(disks)?;
    refuse_not_whole(disks)?;
    if let Some(warning) = vault.warning() {
        monitor.tell(Event::Warning(warning));
    }
    Ok(())
}

/// Why a run failed, and what only the hooks know: applications may still be held.
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

/// Names the filesystems that were there at the cut; returns all that the user should know.
fn warnings_of(
    result: &mut CaptureResult,
    seen: &FreezeSet,
    options: &SnapshotOptions,
    log: &WarningLog<'_>,
) -> Vec<String> {
    let freeze = options.level >= Level::Filesystem && !result.cut.held.is_zero();
    for disk in &mut result.disks {
        disk.filesystems = records_of(seen, disk.identity.dev, freeze);
    }
    let mut warnings = not_frozen(seen);
    if options.level == Level::Application && seen.filesystems.is_empty() {
        let names = result.disks.iter().map(|disk| disk.identity.name.as_str());
        warnings.push(format!(
            "nothing is mounted on {}: there was nothing to freeze, and no application's \
             files on a filesystem",
            names.collect::<Vec<_>>().join(", ")
        ));
    }
    warnings.append(&mut log.take());
    warnings.sort_by_key(|warning| !is_alarm(warning));
    bounded(warnings)
}

/// The disks on which something was in use that no mount table shows.
fn doubted(seen: &FreezeSet) -> BTreeSet<DevNumber> {
    seen.opaque_uses.iter().map(|claim| claim.disk).collect()
}

/// A name that sorts after all of this host's, whatever its clock says.
fn name_after(known: &[SnapshotRef], now: Timestamp) -> SnapshotId {
    let now = u64::try_from(now.as_millisecond()).unwrap_or_default();
    SnapshotId::after(known.last().map(|newest| newest.id), now)
}
