//! `restore`: disks of a snapshot onto targets. All targets are looked at before the first byte is
//! written to any, and what holds something is overwritten only when the monitor agrees.

mod goal;
mod look;

pub use goal::{Goal, ImageFormat};
pub use look::Overwritten;

use self::goal::{Assigned, assign};
use self::look::{grow_command, overwritten, twins};
use super::monitor::{Event, Monitor};
use crate::device::{Host, NoTables, Topology};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, Manifest};
use crate::model::{BLOCK_SIZE, Bytes, Content, Extent, RunMap, block_count};
use crate::restore::{
    CopyOptions, CopyReport, FreeDevice, HEAD, Held, NamedFile, Qcow2File, RawFile, TableChange,
    TableFit, TableKind, Target, copy, fit_table,
};
use crate::store::Vault;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// What to restore, and where to.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Which disks, and where to.
    pub goal: Goal,
    /// What files shall be.
    pub format: ImageFormat,
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
    pub fn new(goal: Goal, workers: usize) -> Self {
        Self {
            goal,
            format: ImageFormat::Raw,
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
    /// Whether that is a block device.
    pub is_device: bool,
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
    File(NamedFile),
}

impl Place {
    fn device(&self) -> Option<&FreeDevice> {
        match self {
            Self::Device(device) => Some(device),
            Self::File(_) => None,
        }
    }
}

/// A disk, its map, and its target.
struct Job<'m> {
    assigned: Assigned<'m>,
    place: Place,
    map: RunMap,
    change: Option<TableChange>,
}

/// Restores all disks of the goal, one after the other.
///
/// # Errors
/// Among others what [`Monitor::confirm`] says. The message tells which targets are whole.
pub fn restore<'m>(
    vault: &Vault,
    manifest: &'m Manifest,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<Vec<Restored<'m>>> {
    let work = Work {
        vault,
        manifest,
        options,
        monitor,
    };
    let jobs = work.prepare()?;
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
        restored.push(work.run(job).map_err(|error| stopped(error, 1))?);
    }
    Ok(restored)
}

fn of_the_others(error: Error, whole: &[String], not_begun: &[String]) -> Error {
    let mut said = Vec::new();
    if !whole.is_empty() {
        said.push(format!("whole: {}", whole.join(", ")));
    }
    if !not_begun.is_empty() {
        said.push(format!("not begun: {}", not_begun.join(", ")));
    }
    if said.is_empty() {
        error
    } else {
        error.context(said.join("; "))
    }
}

struct Work<'a, 'm> {
    vault: &'a Vault,
    manifest: &'m Manifest,
    options: &'a RestoreOptions,
    monitor: &'a dyn Monitor,
}

impl<'m> Work<'_, 'm> {
    /// Everything that can be refused is refused here, before the first byte is written.
    fn prepare(&self) -> Result<Vec<Job<'m>>> {
        let options = self.options;
        let assigned = assign(
            self.vault,
            self.manifest,
            &options.goal,
            (options.format, options.force),
        )?;
        if options.grow && !assigned.iter().any(|one| one.is_device) {
            let what = "--grow is for devices: an image is as large as its disk was";
            return Err(Error::new(ErrorKind::Usage, what)
                .with_hint("enlarge the image afterwards, or leave --grow out"));
        }
        let places = assigned.iter().map(|one| self.open(one));
        let places = places.collect::<Result<Vec<Place>>>()?;
        self.confirm(&assigned, &places)?;
        let mut jobs = Vec::new();
        for (assigned, place) in assigned.into_iter().zip(places) {
            let identity = &assigned.disk.identity;
            self.phase(format!("reading the index of {}", identity.name));
            let (parts, blocks) = (&assigned.disk.index, block_count(identity.size));
            let check = || self.monitor.check();
            let map = self.vault.read_index(parts, blocks, &check)?;
            let change = match place.device() {
                Some(device) => self.table_change(assigned.disk, &map, device)?,
                None => None,
            };
            jobs.push(Job {
                assigned,
                place,
                map,
                change,
            });
        }
        Ok(jobs)
    }

    fn open(&self, one: &Assigned<'m>) -> Result<Place> {
        let (target, identity) = (&one.target, &one.disk.identity);
        if one.is_device {
            FreeDevice::open(target, identity.size, identity.logical_block).map(Place::Device)
        } else {
            NamedFile::create(target, self.options.force).map(Place::File)
        }
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

    fn phase(&self, phase: String) {
        self.monitor.tell(Event::Phase(phase));
    }

    /// What is to become of the partition table, told from the snapshot alone.
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
        let held = Held::new(old);
        copy(self.vault, &first, old, &held, self.copy_options(&|_| {}))
            .map_err(|error| explain(error, &device_words(device)))?;
        let fit = TableFit {
            sector: device.sector(),
            old,
            new,
            grow: self.options.grow,
        };
        fit_table(held.into_bytes(), fit).map(Some)
    }

    fn copy_options<'o>(&'o self, progress: &'o (dyn Fn(Bytes) + Sync)) -> CopyOptions<'o> {
        CopyOptions {
            workers: self.options.workers,
            keep_going: self.options.keep_going,
            stop: &|| Ok(()),
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
        let state = State {
            target: assigned.target.display().to_string(),
            state: if assigned.is_device {
                "the target is not whole, and its first sector says so"
            } else {
                "no file was made"
            },
        };
        let report = self
            .make_target(&assigned, place, &map, change.clone())
            .and_then(|target| {
                let report = self.copy(&assigned, &map, target.as_ref())?;
                target.finish()?;
                Ok(report)
            })
            .map_err(|error| explain(error, &state))?;
        let notes = self.notes(&assigned, change.as_ref());
        Ok(Restored {
            disk: assigned.disk,
            target: assigned.target,
            is_device: assigned.is_device,
            report,
            table: change.filter(|change| change.moved || change.grown.is_some()),
            notes,
        })
    }

    fn make_target(
        &self,
        assigned: &Assigned<'m>,
        place: Place,
        map: &RunMap,
        change: Option<TableChange>,
    ) -> Result<Box<dyn Target>> {
        let size = assigned.disk.identity.size;
        Ok(match (place, self.options.format) {
            (Place::Device(device), _) => {
                let (snapshot, name) = (self.manifest.snapshot, &assigned.disk.identity.name);
                let what = format!(
                    "A restore of {name} of snapshot {snapshot} to it was begun and not finished: \
                     restore it again."
                );
                Box::new(device.begin(&what, change)?)
            }
            (Place::File(file), ImageFormat::Raw) => Box::new(RawFile::create(file, size)?),
            (Place::File(file), ImageFormat::Qcow2) => {
                Box::new(Qcow2File::create(file, map, size)?)
            }
        })
    }

    fn copy(
        &self,
        assigned: &Assigned<'m>,
        map: &RunMap,
        target: &dyn Target,
    ) -> Result<CopyReport> {
        let size = assigned.disk.identity.size;
        let data = map
            .iter()
            .filter(|run| matches!(run.content, Content::Data { .. }));
        let total = Bytes(data.map(|run| run.count * BLOCK_SIZE).sum());
        self.phase(format!("restoring to {}", assigned.target.display()));
        let told = AtomicU64::new(0);
        let progress = |done: Bytes| {
            let step = done.0 >> 24;
            if told.fetch_max(step, Ordering::Relaxed) < step {
                self.monitor.tell(Event::Progress { done, total });
            }
        };
        let stop = || self.monitor.check();
        let options = CopyOptions {
            stop: &stop,
            ..self.copy_options(&progress)
        };
        copy(self.vault, map, size, target, options)
    }

    /// What the user should know of a device that is whole now.
    fn notes(&self, assigned: &Assigned<'m>, change: Option<&TableChange>) -> Vec<String> {
        if !assigned.is_device {
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

    /// What uses the room that a larger device has, when that was asked for.
    fn room_for(&self, assigned: &Assigned<'m>, change: &TableChange) -> Option<String> {
        let path = &assigned.target;
        // Whole it is, whether this can be said or not.
        let file = File::open(path).ok()?;
        if let Some(grown) = &change.grown {
            let number = Some(grown.number);
            return Some(grow_command((&file, path), grown.place, number));
        }
        let none = self.options.grow && change.kind == TableKind::None;
        none.then(|| {
            let whole = Extent::new(Bytes(0), assigned.disk.identity.size);
            let command = grow_command((&file, path), whole, None);
            format!("there is no partition table to change; {command}")
        })
    }
}

/// Where a restore went to, and what has become of that.
struct State {
    target: String,
    state: &'static str,
}

fn device_words(device: &FreeDevice) -> State {
    State {
        target: device.path().display().to_string(),
        state: "nothing was written",
    }
}

fn explain(error: Error, state: &State) -> Error {
    let damaged = error.kind() == ErrorKind::Damaged;
    let State { target, state } = state;
    let hint = error.hint().map(str::to_owned);
    let error = error.context(format!("cannot restore to {target}; {state}"));
    if damaged {
        return error.with_hint(
            "what is not damaged can be had with --keep-going, or restore an older snapshot; \
             `stillpoint verify --all` says which are whole",
        );
    }
    let interrupted = matches!(error.kind(), ErrorKind::Interrupted(_));
    match hint {
        None if interrupted => {
            error.with_hint("the same command again starts over and makes it whole")
        }
        _ => error,
    }
}

/// The disk of a snapshot that `name` means: the kernel's name at the time, `/dev/…` or a serial.
pub fn choose_disk<'m>(manifest: &'m Manifest, name: Option<&str>) -> Result<&'m DiskRecord> {
    let names: Vec<&str> = manifest
        .disks
        .iter()
        .map(|disk| disk.identity.name.as_str())
        .collect();
    let there = names.join(", ");
    match (name, manifest.disks.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Error::new(
            ErrorKind::Usage,
            format!("the snapshot has several disks: {there}"),
        )
        .with_hint("say which with --disk")),
        (Some(name), disks) => {
            let wanted = name.strip_prefix("/dev/").unwrap_or(name);
            let found = disks.iter().find(|disk| {
                disk.identity.name == wanted || disk.identity.serial.as_deref() == Some(name)
            });
            found.ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("the snapshot has no disk {name:?}"),
                )
                .with_hint(format!("it has: {there}"))
            })
        }
    }
}
