//! `restore`: disks of a snapshot onto targets. All targets are looked at before the first byte is
//! written to any, and what holds something is overwritten only when the monitor agrees.

mod assign;
mod explain;
mod link;
mod name;
mod preflight;
mod refuse_targets;

pub(super) use link::refuse_the_vault;

pub use assign::{Destination, choose_disk, plain_name};
pub use name::{ImageFormat, TargetKind, is_stdout};
pub use preflight::Overwritten;

use self::assign::{Assigned, TargetOptions, assign};
use self::explain::{FailedTarget, explain, of_the_others, untouched, went_meanwhile};
use self::preflight::{grow_command, overwritten, twins};
use self::refuse_targets::{Planned, data_of, refuse_in_use, refuse_without_room};
use super::monitor::{Event, Monitor};
use super::run_phase::RunPhase;
use crate::device::{Host, NoTables, Topology};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::format::{DiskRecord, Manifest};
use crate::model::{Bytes, Extent, RunMap, block_count};
use crate::restore::{
    CopyOptions, CopyReport, FreeDevice, HEAD, OutputFile, Qcow2File, RawFile, StagedHead, Stream,
    TableChange, TableFit, TableKind, Target, copy, fit_table,
};
use crate::store::Vault;
use std::fs::File;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What to restore, and where to.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Which disks, and where to.
    pub destination: Destination,
    /// What files shall be; `None`: what their names say.
    pub format: Option<ImageFormat>,
    /// What `-` stands for: where a disk's bytes are written to in their order.
    pub stdout: Option<Arc<File>>,
    /// Replace a file that is there.
    pub force: bool,
    /// Restore what can be restored of a damaged snapshot.
    pub keep_going: bool,
    /// Move the backup GPT to the end of a larger device.
    pub move_gpt: bool,
    /// Extend the last partition to the end of a larger device.
    pub grow: bool,
    /// How many threads.
    pub workers: usize,
}

impl RestoreOptions {
    /// The usual.
    pub fn new(destination: Destination, workers: usize) -> Self {
        Self {
            destination,
            format: None,
            stdout: None,
            force: false,
            keep_going: false,
            move_gpt: true,
            grow: false,
            workers,
        }
    }
}

/// A disk that was restored. With damage and `keep_going` the report says what is missing.
#[derive(Clone, Debug)]
pub struct Restored<'m> {
    /// Which.
    pub disk: &'m DiskRecord,
    /// Where it is now.
    pub target: PathBuf,
    /// What that is.
    pub kind: TargetKind,
    /// What was copied.
    pub report: CopyReport,
    /// What was changed in the partition table; `None` when it is as it was.
    pub table: Option<TableChange>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// What a target is, open, before anything is written to it.
enum Place {
    Device(FreeDevice),
    File(OutputFile),
    Stdout(File),
}

impl Place {
    fn device(&self) -> Option<&FreeDevice> {
        match self {
            Self::Device(device) => Some(device),
            _ => None,
        }
    }
}

/// A disk, its map, and its target.
struct Job<'m> {
    assigned: Assigned<'m>,
    place: Ready,
    map: RunMap,
    change: Option<TableChange>,
}

/// A target of which nothing more can be refused.
enum Ready {
    Device(FreeDevice),
    /// An image, which has no name yet.
    Made(Box<dyn Target>),
    Stdout(File),
}

/// Refuses what can be refused before the vault's indexes are read, and closes all that it opened:
/// for the starter of a restore that nobody watches.
///
/// # Errors
/// As [`restore`].
pub fn could_restore(
    vault: &Vault,
    manifest: &Manifest,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<()> {
    let run = RestoreRun {
        vault,
        manifest,
        options,
        monitor,
    };
    let assigned = run.assign()?;
    let places = run.open_all(&assigned)?;
    run.confirm(&assigned, &places)
}

/// Restores all disks that the options name, one after the other.
///
/// # Errors
/// Among others what [`Monitor::confirm`] says. The message tells which targets are whole.
pub fn restore<'m>(
    vault: &Vault,
    manifest: &'m Manifest,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<Vec<Restored<'m>>> {
    let run = RestoreRun {
        vault,
        manifest,
        options,
        monitor,
    };
    let jobs = run.prepare().map_err(|error| match error.kind() {
        ErrorKind::Interrupted(_) => error.and_said("nothing was written"),
        _ => run.unless_it_went(error),
    })?;
    let names: Vec<String> = jobs
        .iter()
        .map(|job| {
            let name = &job.assigned.disk.identity.name;
            format!("{name} on {}", job.assigned.target.display())
        })
        .collect();
    let mut restored = Vec::new();
    for job in jobs {
        let done = restored.len();
        let stopped = |error, begun: usize| {
            let (whole, rest) = names.split_at(done);
            of_the_others(error, whole, rest.get(begun..).unwrap_or_default())
        };
        monitor.check().map_err(|error| stopped(error, 0))?;
        let ended = run.run(job).map_err(|error| run.unless_it_went(error));
        restored.push(ended.map_err(|error| stopped(error, 1))?);
    }
    Ok(restored)
}

struct RestoreRun<'a, 'm> {
    vault: &'a Vault,
    manifest: &'m Manifest,
    options: &'a RestoreOptions,
    monitor: &'a dyn Monitor,
}

impl<'m> RestoreRun<'_, 'm> {
    /// Which disk goes where.
    fn assign(&self) -> Result<Vec<Assigned<'m>>> {
        let options = self.options;
        let how = TargetOptions {
            format: options.format,
            force: options.force,
        };
        let assigned = assign(self.vault, self.manifest, &options.destination, how)?;
        if options.grow && !assigned.iter().any(Assigned::is_device) {
            let what = "--grow is for devices: an image is as large as its disk was";
            return Err(Error::new(ErrorKind::Usage, what)
                .with_hint("enlarge the image afterwards, or leave --grow out"));
        }
        Ok(assigned)
    }

    /// What is missing is no damage where the snapshot itself has gone meanwhile.
    fn unless_it_went(&self, error: Error) -> Error {
        let id = self.manifest.snapshot;
        let own = self.vault.named_on(&self.manifest.host, id);
        let may_have_gone = error.kind() == ErrorKind::Damaged;
        match may_have_gone && matches!(self.vault.has_snapshot(&own), Ok(false)) {
            true => went_meanwhile(error, id),
            false => error,
        }
    }

    /// Opens all targets, of which none is in use.
    fn open_all(&self, assigned: &[Assigned<'m>]) -> Result<Vec<Place>> {
        refuse_in_use(assigned)?;
        assigned.iter().map(|one| self.open(one)).collect()
    }

    /// Everything that can be refused is refused here, before the first byte is written.
    fn prepare(&self) -> Result<Vec<Job<'m>>> {
        let assigned = self.assign()?;
        let places = self.open_all(&assigned)?;
        let maps = assigned.iter().map(|one| self.map_of(one.disk));
        let maps = maps.collect::<Result<Vec<RunMap>>>()?;
        let planned = assigned.iter().zip(&maps);
        let planned: Vec<_> = planned
            .map(|(assigned, map)| Planned { assigned, map })
            .collect();
        refuse_without_room(&planned)?;
        let mut changes = Vec::new();
        for ((one, place), map) in assigned.iter().zip(&places).zip(&maps) {
            changes.push(match place.device() {
                Some(device) => self.table_change(one.disk, map, device)?,
                None => None,
            });
        }
        self.confirm(&assigned, &places)?;
        // While the user thought about it, a target may have come into use.
        refuse_in_use(&assigned)?;
        let mut jobs = Vec::new();
        let parts = assigned.into_iter().zip(places).zip(maps).zip(changes);
        for (((assigned, place), map), change) in parts {
            jobs.push(Job {
                place: ready(place, &assigned, &map)?,
                assigned,
                map,
                change,
            });
        }
        Ok(jobs)
    }

    fn map_of(&self, disk: &DiskRecord) -> Result<RunMap> {
        let identity = &disk.identity;
        let name = identity.name.clone();
        self.phase(RunPhase::ReadingDiskIndex(name));
        let blocks = block_count(identity.size);
        let map = self.vault.read_index(&disk.index, blocks, self.monitor)?;
        self.vault.know_footers(&disk.footers, &map);
        Ok(map)
    }

    fn open(&self, one: &Assigned<'m>) -> Result<Place> {
        let (target, identity) = (&one.target, &one.disk.identity);
        match one.kind {
            TargetKind::Device => {
                FreeDevice::open(target, identity.size, identity.logical_block).map(Place::Device)
            }
            TargetKind::File(_) => OutputFile::create(target, self.options.force).map(Place::File),
            TargetKind::Stdout => self.stdout().map(Place::Stdout),
        }
    }

    fn stdout(&self) -> Result<File> {
        let path = Path::new("standard output");
        let out = self.options.stdout.as_ref();
        let out = out.ok_or_else(|| Error::new(ErrorKind::Usage, "there is no standard output"))?;
        let found = out.metadata().io_context("look at", path)?;
        if found.file_type().is_block_device() {
            let what = "standard output is a block device; nothing was written";
            return Err(Error::new(ErrorKind::Usage, what).with_hint(
                "name the device itself as the target: it is looked at before it is overwritten",
            ));
        }
        out.try_clone().io_context("open", path)
    }

    /// Asks about everything that would be lost.
    fn confirm(&self, assigned: &[Assigned<'m>], places: &[Place]) -> Result<()> {
        let mut lost = Vec::new();
        let mut topology = None;
        for (one, place) in assigned.iter().zip(places) {
            let Some(device) = place.device() else {
                continue;
            };
            let look = || Topology::scan(&Host::here(), &NoTables).unwrap_or_default();
            let topology = topology.get_or_insert_with(look);
            let (name, snapshot) = (&one.disk.identity.name, self.manifest.snapshot);
            let disk = format!("{name} of {snapshot}");
            lost.extend(overwritten(device, &one.target, topology, disk)?);
        }
        if lost.is_empty() {
            return Ok(());
        }
        self.monitor.confirm(&lost)
    }

    fn phase(&self, phase: RunPhase) {
        self.monitor.tell(Event::Phase(phase));
    }

    /// What is to become of the partition table, by the snapshot alone.
    fn table_change(
        &self,
        disk: &DiskRecord,
        map: &RunMap,
        device: &FreeDevice,
    ) -> Result<Option<TableChange>> {
        let (old, new) = (disk.identity.size, device.capacity());
        let larger = new > old && self.options.move_gpt;
        if !larger && !self.options.grow {
            return Ok(None);
        }
        let mut first = RunMap::new();
        for run in map.iter_range(0..block_count(Bytes(HEAD.min(old.0)))) {
            first.insert(run);
        }
        let head = StagedHead::new(old);
        copy(self.vault, &first, old, &head, self.copy_options(&|_| {}))
            .map_err(|error| explain(error, &untouched(device)))?;
        let fit = TableFit {
            sector: device.sector(),
            old,
            new,
            grow: self.options.grow,
        };
        fit_table(head.into_bytes(), fit).map(Some)
    }

    fn copy_options<'o>(&'o self, progress: &'o (dyn Fn(Bytes) + Sync)) -> CopyOptions<'o> {
        CopyOptions {
            workers: self.options.workers,
            keep_going: self.options.keep_going,
            cancel: self.monitor,
            progress,
        }
    }

    fn run(&self, job: Job<'m>) -> Result<Restored<'m>> {
        let Job {
            assigned,
            place,
            map,
            change,
        } = job;
        let state = FailedTarget {
            target: match assigned.kind {
                TargetKind::Stdout => "standard output".into(),
                _ => assigned.target.display().to_string(),
            },
            state: match assigned.kind {
                TargetKind::Device => "the target is not whole, and its first sector says so",
                TargetKind::File(_) => "no file was made",
                TargetKind::Stdout => "what was read from it is not whole",
            },
        };
        let report = self
            .make_target(&assigned, place, change.clone())
            .and_then(|target| {
                let report = self.copy(&assigned, &map, target.as_ref())?;
                if !assigned.is_device() {
                    // What is replaced may have come into use meanwhile.
                    refuse_in_use(std::slice::from_ref(&assigned))?;
                }
                target.finish()?;
                Ok(report)
            })
            .map_err(|error| explain(error, &state))?;
        let notes = self.notes(&assigned, change.as_ref());
        Ok(Restored {
            disk: assigned.disk,
            target: assigned.target,
            kind: assigned.kind,
            report,
            table: change.filter(|change| change.moved || change.grown.is_some()),
            notes,
        })
    }

    fn make_target(
        &self,
        assigned: &Assigned<'m>,
        place: Ready,
        change: Option<TableChange>,
    ) -> Result<Box<dyn Target + '_>> {
        Ok(match place {
            Ready::Device(device) => {
                let (snapshot, name) = (self.manifest.snapshot, &assigned.disk.identity.name);
                let what = format!(
                    "A restore of {name} of snapshot {snapshot} to it was begun and not finished: \
                     restore it again."
                );
                Box::new(device.begin(&what, change)?)
            }
            Ready::Made(target) => target,
            Ready::Stdout(out) => Box::new(Stream::new(out, self.monitor)?),
        })
    }

    fn copy(
        &self,
        assigned: &Assigned<'m>,
        map: &RunMap,
        target: &dyn Target,
    ) -> Result<CopyReport> {
        let size = assigned.disk.identity.size;
        let total = data_of(map);
        self.phase(RunPhase::Restoring(assigned.target.clone()));
        let reported = AtomicU64::new(0);
        let progress = |done: Bytes| {
            let step = done.0 >> 24;
            if reported.fetch_max(step, Ordering::Relaxed) < step {
                self.monitor.tell(Event::Progress { done, total });
            }
        };
        copy(self.vault, map, size, target, self.copy_options(&progress))
    }

    /// What the user should know of a device that is whole now.
    fn notes(&self, assigned: &Assigned<'m>, change: Option<&TableChange>) -> Vec<String> {
        if !assigned.is_device() {
            return Vec::new();
        }
        let path = &assigned.target;
        let mut notes = Vec::new();
        if let Some(change) = change {
            notes.extend(change.notes.iter().cloned());
            notes.extend(self.room_for(assigned, change));
        }
        let host = Host::here();
        if let Ok(topology) = Topology::scan(&host, &host) {
            notes.extend(twins(&topology, &host, assigned.disk, path));
        }
        notes
    }

    /// How to use the room that a larger device has, when that was asked for.
    fn room_for(&self, assigned: &Assigned<'m>, change: &TableChange) -> Option<String> {
        let path = &assigned.target;
        if let Some(grown) = &change.grown {
            return grow_command(path, grown.place, Some(grown.number));
        }
        if !self.options.grow || change.kind != TableKind::None {
            return None;
        }
        let whole = Extent::new(Bytes(0), assigned.disk.identity.size);
        let command = grow_command(path, whole, None)?;
        Some(format!("there is no partition table to change; {command}"))
    }
}

/// What becomes of an open target once nothing was found against it. An image gets its length and
/// its tables, but no name yet.
fn ready(place: Place, assigned: &Assigned<'_>, map: &RunMap) -> Result<Ready> {
    let size = assigned.disk.identity.size;
    Ok(match place {
        Place::Device(device) => Ready::Device(device),
        Place::File(file) if assigned.kind == TargetKind::File(ImageFormat::Qcow2) => {
            Ready::Made(Box::new(Qcow2File::create(file, map, size)?))
        }
        Place::File(file) => Ready::Made(Box::new(RawFile::create(file, size)?)),
        Place::Stdout(out) => Ready::Stdout(out),
    })
}
