//! What must be known and held before a snapshot of live disks begins: which disks, who else uses
//! them, what lives on them, who tracks them. Nothing is frozen or written here.

use super::monitor::{Event, Monitor};
use super::plan::{Parent, Plan, plan};
use super::subject::{AskFree, SubjectOptions};
use super::trust;
use crate::capture::Baseline;
use crate::device::read::{BufferPool, DiskReader, ReaderOptions, open_reader};
use crate::device::{
    Disk, Filesystem, Freezable, FreezeSet, Host, Mounts, NoTables, Topology, filesystems_on,
    free_blocks, freezable, swapped_extents, swaps,
};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::format::{DiskRecord, FilesystemRecord, Manifest};
use crate::freeze::mounted_device;
use crate::model::{BlockSet, Bytes, DevNumber, Mode, SnapshotId, block_count};
use crate::store::Vault;
use crate::track::{ChangeSource, PinDir, TrackedDisk, Tracker};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::slice;
use std::sync::Arc;

/// What this host is like now.
pub struct Scene {
    /// Its roots.
    pub host: Host,
    /// Its devices.
    pub topology: Topology,
    /// What is mounted.
    pub mounts: Mounts,
}

impl Scene {
    /// Looks at this host, partition tables included.
    pub fn look() -> Result<Self> {
        let host = Host::here();
        let topology = Topology::scan(&host, &host)?;
        let mounts = Mounts::read(&host, &topology)?;
        Ok(Self {
            host,
            topology,
            mounts,
        })
    }

    /// The same without opening any disk: what is mounted and swapped to, and on what.
    pub fn look_at_mounts() -> Result<Self> {
        let host = Host::here();
        let topology = Topology::scan(&host, &NoTables)?;
        let mounts = Mounts::read(&host, &topology)?;
        Ok(Self {
            host,
            topology,
            mounts,
        })
    }

    /// The disks that a user named, each once.
    pub fn resolve(&self, names: &[String]) -> Result<Vec<Disk>> {
        let mut disks: Vec<Disk> = Vec::new();
        for name in names {
            let disk = self.topology.resolve_disk(&self.host, name)?;
            if !disks.iter().any(|known| known.dev() == disk.dev()) {
                disks.push(disk.clone());
            }
        }
        Ok(disks)
    }

    /// What must stand still for a snapshot of these disks.
    pub fn freeze_set(&self, disks: &[Disk]) -> FreezeSet {
        let devs: Vec<DevNumber> = disks.iter().map(Disk::dev).collect();
        filesystems_on(&self.topology, &self.mounts, &devs)
    }
}

/// Refuses a vault that lies on a disk of the run: what is written to it would change the disk.
pub fn refuse_vault_on(vault: &Vault, scene: &Scene, disks: &[Disk]) -> Result<()> {
    let Some(path) = vault.local_path() else {
        return Ok(());
    };
    let folder = File::open(path).io_context("open", path)?;
    let Some(device) = mounted_device(&OwnedFd::from(folder), None)? else {
        return Ok(());
    };
    let holds = |filesystem: &&Filesystem| filesystem.dev == device;
    let Some(filesystem) = scene.mounts.filesystems().iter().find(holds) else {
        return Ok(());
    };
    match disks
        .iter()
        .find(|disk| filesystem.disks.contains(&disk.dev()))
    {
        None => Ok(()),
        Some(disk) => Err(Error::new(
            ErrorKind::Usage,
            format!(
                "the vault {} lies on {}, which is to be snapshotted; nothing was done",
                path.display(),
                disk.name()
            ),
        )
        .with_hint("put the vault on another disk, or leave that disk out")),
    }
}

/// The newest snapshot of each disk in the vault.
pub fn find_parents(
    vault: &Vault,
    host: &str,
    disks: &[Disk],
    monitor: &dyn Monitor,
) -> Result<Vec<Option<(SnapshotId, DiskRecord)>>> {
    let mut parents: Vec<Option<(SnapshotId, DiskRecord)>> = vec![None; disks.len()];
    for snapshot in vault.snapshots_of(host)?.iter().rev() {
        if parents.iter().all(Option::is_some) {
            break;
        }
        monitor.check()?;
        let manifest: Manifest = match vault.manifest(snapshot) {
            Ok(manifest) => manifest,
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => {
                // Damaged, or deleted meanwhile: an older one will do as a parent.
                monitor.tell(Event::Warning(format!("{error}: not used as a parent")));
                continue;
            }
            Err(error) => return Err(error),
        };
        for (disk, parent) in disks.iter().zip(&mut parents) {
            let same = |record: &&DiskRecord| record.identity.key() == disk.identity.key();
            if parent.is_none() {
                *parent = manifest
                    .disks
                    .iter()
                    .find(same)
                    .cloned()
                    .map(|disk| (snapshot.id, disk));
            }
        }
    }
    Ok(parents)
}

/// What the user wants of each disk.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// Read and store everything.
    pub full: bool,
    /// Copy free space too.
    pub all_blocks: bool,
    /// Freeze what can be frozen.
    pub freeze: bool,
}

/// A parent's record, and its map with the hashes of its chunks.
type Base = (DiskRecord, Arc<Baseline>);

/// Starts to track the disk where it is not tracked yet, and plans how to capture it.
pub fn prepare_disk(
    (vault, scene): (&Arc<Vault>, &Scene),
    (disk, parent): (&Disk, Option<(SnapshotId, DiskRecord)>),
    (tracker, pool): (&mut Tracker, &BufferPool),
    wishes: Wishes,
    monitor: &dyn Monitor,
) -> Result<SubjectOptions> {
    // First: a disk that cannot be read must not end up tracked.
    let reader = open_disk(disk, pool)?;
    let (changes, plan) = plan_disk(disk, parent.as_ref(), tracker, wishes)?;
    let (plan, parent) = load_base(vault, plan, parent, monitor)?;
    let mounted = filesystems_of(scene, disk);
    Ok(SubjectOptions {
        identity: disk.identity.clone(),
        reader,
        changes,
        ask_free: ask_free(scene.host.clone(), mounted.clone(), disk.identity.size),
        ask_swap: ask_swap(disk),
        plan,
        parent,
        all_blocks: wishes.all_blocks,
        filesystems: records_of(
            &scene.freeze_set(slice::from_ref(disk)),
            disk.dev(),
            wishes.freeze,
        ),
    })
}

fn open_disk(disk: &Disk, pool: &BufferPool) -> Result<Box<dyn DiskReader>> {
    let reader = open_reader(&disk.path, &ReaderOptions::new(pool.clone()))?;
    if reader.size() != disk.identity.size {
        return Err(Error::new(
            ErrorKind::Inconsistent,
            format!("{} has changed its size this very moment", disk.name()),
        )
        .with_hint("nothing was done; run it again"));
    }
    Ok(reader)
}

fn plan_disk(
    disk: &Disk,
    parent: Option<&(SnapshotId, DiskRecord)>,
    tracker: &mut Tracker,
    wishes: Wishes,
) -> Result<(Box<dyn ChangeSource>, Plan)> {
    let tracked = TrackedDisk {
        dev: disk.dev(),
        size: disk.identity.size,
        diskseq: disk.identity.diskseq,
    };
    let mut changes = tracker.attach(&tracked)?;
    let mut witness = trust::steady(&mut changes)?;
    if witness.unaccounted.is_none() {
        // Too busy to tell. What counts is what is told at the cut, where nothing is written.
        let cut = parent.and_then(|(_, record)| record.cut.as_ref());
        witness.unaccounted = cut.and_then(|cut| cut.unaccounted);
    }
    let known = parent.map(|(snapshot, record)| Parent {
        snapshot: *snapshot,
        identity: record.identity.clone(),
        cut: record.cut.clone(),
    });
    let plan = plan(known.as_ref(), &disk.identity, &witness, wishes.full);
    Ok((Box::new(changes), plan))
}

/// Reads the map of the parent, if the plan has one. Where it is damaged, everything is stored
/// anew.
fn load_base(
    vault: &Arc<Vault>,
    plan: Plan,
    parent: Option<(SnapshotId, DiskRecord)>,
    monitor: &dyn Monitor,
) -> Result<(Plan, Option<Base>)> {
    let Some((snapshot, record)) = parent.filter(|_| plan.parent.is_some()) else {
        return Ok((plan, None));
    };
    match vault.load_index(&record.index, block_count(record.identity.size)) {
        Ok(map) => {
            let baseline = Arc::new(Baseline::new(Arc::clone(vault), map));
            Ok((plan, Some((record, baseline))))
        }
        Err(error) if error.kind() == ErrorKind::Damaged => {
            monitor.tell(Event::Warning(format!(
                "{error}: taking a full snapshot instead"
            )));
            let reason = format!("the index of {snapshot} is damaged");
            Ok((
                Plan {
                    mode: Mode::Full,
                    reason,
                    parent: None,
                    since: None,
                },
                None,
            ))
        }
        Err(error) => Err(error),
    }
}

/// Looks anew each time: a partition that was swapped to may hold files when a long copy ends.
fn ask_swap(disk: &Disk) -> AskFree {
    let (dev, size) = (disk.dev(), disk.identity.size);
    Box::new(move || {
        let host = Host::here();
        let topology = Topology::scan(&host, &NoTables)?;
        let mut blocks = BlockSet::new();
        for extent in swapped_extents(&topology, &swaps(&host, &topology), dev) {
            blocks.insert_inside(extent, size);
        }
        Ok(blocks)
    })
}

/// The filesystems of a set that live on a disk, as the manifest names them.
pub fn records_of(set: &FreezeSet, disk: DevNumber, freeze: bool) -> Vec<FilesystemRecord> {
    let here = set
        .filesystems
        .iter()
        .filter(|filesystem| filesystem.disks.contains(&disk));
    here.map(|filesystem| FilesystemRecord {
        source: filesystem.source.clone(),
        target: filesystem.target().display().to_string(),
        fstype: filesystem.fstype.clone(),
        frozen: freeze && freezable(filesystem) == Freezable::Yes,
        read_only: freezable(filesystem) == Freezable::ReadOnly,
    })
    .collect()
}

fn filesystems_of(scene: &Scene, disk: &Disk) -> Vec<Filesystem> {
    let all = scene.mounts.filesystems().iter();
    all.filter(|filesystem| filesystem.disks.contains(&disk.dev()))
        .cloned()
        .collect()
}

fn ask_free(host: Host, filesystems: Vec<Filesystem>, size: Bytes) -> AskFree {
    Box::new(move || {
        let mut free = BlockSet::new();
        for filesystem in &filesystems {
            if let Some(blocks) = free_blocks(&host, filesystem, size)? {
                free.add(&blocks);
            }
        }
        Ok(free)
    })
}

/// Tracking, started where it is not running.
pub fn start_tracking(pins: &PinDir, monitor: &dyn Monitor) -> Result<Tracker> {
    let (tracker, started) = Tracker::start(pins)?;
    if let Some(why) = started.replaced {
        monitor.tell(Event::Note(format!("tracking was started anew: {why}")));
    }
    Ok(tracker)
}

/// Names of disks, and of those left out with the reason.
pub type Choice = (Vec<String>, Vec<(String, String)>);

/// The disks of `--all`, and those left out with the reason.
pub fn protectable(vault: &Vault, exclude: &[String]) -> Result<Choice> {
    let scene = Scene::look()?;
    let excluded: Vec<DevNumber> = scene.resolve(exclude)?.iter().map(Disk::dev).collect();
    let (mut chosen, mut left_out) = (Vec::new(), Vec::new());
    for disk in scene.topology.disks() {
        let why = if excluded.contains(&disk.dev()) {
            Some("excluded")
        } else if disk.identity.size.0 == 0 {
            Some("it has no medium")
        } else if disk.backing_file.is_some() || disk.name().starts_with("loop") {
            Some("a loop device: its file is on another disk")
        } else if disk.read_only {
            Some("read-only")
        } else if !disk.request_based {
            Some("its changes cannot be tracked")
        } else if refuse_vault_on(vault, &scene, slice::from_ref(disk)).is_err() {
            Some("the vault lies on it")
        } else {
            None
        };
        match why {
            None => chosen.push(disk.name().to_owned()),
            Some(why) => left_out.push((disk.name().to_owned(), why.to_owned())),
        }
    }
    if chosen.is_empty() {
        let all: Vec<String> = left_out
            .iter()
            .map(|(disk, why)| format!("{disk}: {why}"))
            .collect();
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "no disk of this host can be snapshotted ({})",
                all.join("; ")
            ),
        )
        .with_hint("name disks instead of --all"));
    }
    Ok((chosen, left_out))
}
