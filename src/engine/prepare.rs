//! What must be known and held before a snapshot of live disks begins: which disks, who else uses
//! them, what lives on them, who tracks them. Nothing is frozen or written here.

use super::monitor::{Event, Monitor};
use super::plan::{Parent, Plan, plan};
use super::sample::random;
use super::subject::{AskBlocks, AskFree, Look, SubjectOptions};
use super::tracking::Tracking;
use super::trust;
use crate::capture::Baseline;
use crate::device::read::{BufferPool, DiskReader, ReaderOptions, open_reader};
use crate::device::{
    Disk, FreeSpace, Freezable, FreezeSet, Host, HostLayout, blocks_of_files, free_space,
    free_while_frozen, freezable, swapped_now,
};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, FilesystemRecord};
use crate::freeze::Expedite;
use crate::model::{BlockSet, DevNumber, Mode, SnapshotId};
use crate::store::Vault;
use crate::track::{ChangeSource, Recall};
use std::slice;
use std::sync::Arc;

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
    (vault, layout): (&Arc<Vault>, &HostLayout),
    (disk, parent): (&Disk, Option<(SnapshotId, DiskRecord)>),
    (tracking, pool, expedite): (&mut Tracking<'_>, &BufferPool, &Expedite),
    wishes: Wishes,
    monitor: &dyn Monitor,
) -> Result<SubjectOptions> {
    // First: a disk that cannot be read must not end up tracked.
    let reader = open_disk(disk, pool)?;
    let (changes, plan) = plan_disk(disk, parent.as_ref(), tracking, wishes)?;
    let (plan, parent) = load_base(vault, plan, parent, monitor)?;
    Ok(SubjectOptions {
        identity: disk.identity.clone(),
        reader,
        changes,
        ask_free: ask_free(disk.dev()),
        ask_swap: ask_swap(disk),
        ask_files: ask_files(disk.dev()),
        plan,
        parent,
        all_blocks: wishes.all_blocks,
        filesystems: records_of(
            &layout.freeze_set(slice::from_ref(disk)),
            disk.dev(),
            wishes.freeze,
        ),
        expedite: expedite.clone(),
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
    tracking: &mut Tracking<'_>,
    wishes: Wishes,
) -> Result<(Box<dyn ChangeSource>, Plan)> {
    let mut changes = tracking.attach(disk)?;
    let mut witness = trust::steady(&mut changes)?;
    if witness.unaccounted.is_none() {
        // Too busy to tell. What counts is what is told at the cut, where nothing is written.
        let cut = parent.and_then(|(_, record)| record.cut.as_ref());
        witness.unaccounted = cut.and_then(|cut| cut.unaccounted);
    }
    let known = |(snapshot, record): &(SnapshotId, DiskRecord)| {
        let recall = record.cut.as_ref().map(|cut| changes.recall(cut));
        Ok::<_, Error>(Parent {
            snapshot: *snapshot,
            identity: record.identity.clone(),
            cut: record.cut.clone(),
            recall: recall.transpose()?.unwrap_or(Recall::Nameless),
        })
    };
    let known = parent.map(known).transpose()?;
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
    match Baseline::load(vault, &record, &|| monitor.check()) {
        Ok(baseline) => Ok((plan, Some((record, Arc::new(baseline))))),
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Format) => {
            monitor.tell(Event::Warning(format!(
                "{error}: taking a full snapshot instead"
            )));
            let reason = format!("what the vault has of {snapshot} cannot be relied on");
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
fn ask_swap(disk: &Disk) -> AskBlocks {
    let (dev, size) = (disk.dev(), disk.identity.size);
    Box::new(move || {
        let mut blocks = BlockSet::new();
        for extent in swapped_now(&Host::here(), dev)? {
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

/// Looks anew each time, as what is mounted, and where, may change while a long copy is made.
fn ask_free(disk: DevNumber) -> AskFree {
    let mut believed = Vec::new();
    Box::new(move |look| match look {
        Look::Whole => free_space(&Host::here(), disk),
        Look::BeforeCut => {
            let mut found = free_space(&Host::here(), disk)?;
            believed = std::mem::take(&mut found.believed);
            Ok(found)
        }
        Look::Frozen(deadline) => Ok(FreeSpace::of(free_while_frozen(&believed, deadline)?)),
    })
}

fn ask_files(disk: DevNumber) -> AskBlocks {
    Box::new(move || {
        let random = |below: u64| random() % below.max(1);
        blocks_of_files(&Host::here(), disk, &random)
    })
}
