//! What must be known and held before a snapshot of live disks begins: which disks, who else uses
//! them, what lives on them, who tracks them. Nothing is frozen or written here.

use super::disk_run_options::{AskBlocks, AskFree, DiskRunOptions, FreeScan};
use super::mode::{CaptureMode, Parent};
use super::mounted::records_of;
use super::packed_before::PackedBefore;
use super::resume::{Resume, Resumed};
use crate::capture::Baseline;
use crate::device::read::{BufferPool, DiskReader, ReaderOptions, open_reader};
use crate::device::{Disk, FreeSpace, Host, free_space, free_while_frozen};
use crate::engine::block_use::{sample_file_blocks, swap_blocks};
use crate::engine::monitor::{Event, Monitor};
use crate::engine::parents::{Newest, find_parents};
use crate::engine::places::Places;
use crate::engine::snapshot_options::SnapshotOptions;
use crate::engine::tracking::Tracking;
use crate::engine::witness;
use crate::error::{Error, ErrorKind, Result};
use crate::format::DiskRecord;
use crate::freeze::Expedite;
use crate::model::{DevNumber, Level, SnapshotId};
use crate::store::{Owner, SentNotes, SnapshotRef, Vault};
use crate::sys::machine::{boot_id, machine_uuid};
use crate::track::{ChangeSource, DiskTracker, Recall};
use std::slice;
use std::sync::Arc;

/// A parent's record, and its map with the hashes of its chunks.
type Base = (DiskRecord, Arc<Baseline>);

/// What the disks of a run are prepared with.
pub struct Prepare<'a> {
    /// The vault.
    pub vault: &'a Arc<Vault>,
    /// The name that the snapshot is to have.
    pub run: SnapshotId,
    /// The host's name.
    pub host: &'a str,
    /// What the user wants.
    pub options: &'a SnapshotOptions,
    /// Where the tracking programs are.
    pub places: &'a Places,
    /// What disks are read into.
    pub pool: &'a BufferPool,
    /// Expedites the kernel's grace periods.
    pub expedite: &'a Expedite,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

/// What is known and held before a run begins.
pub struct Prepared<'a> {
    /// Its disks.
    pub disks: Vec<DiskRunOptions>,
    /// What it began to track.
    pub tracking: Tracking<'a>,
    /// Where it notes what it puts.
    pub notes: Option<SentNotes>,
}

impl<'a> Prepare<'a> {
    /// Tracks, plans and opens every disk of the run. `known`: the host's snapshots.
    pub fn disks(&self, known: &[SnapshotRef]) -> Result<Prepared<'a>> {
        let SnapshotOptions { layout, disks, .. } = self.options;
        let topology = &layout.topology;
        let may_build = known.is_empty() || self.heed_plans()?;
        // A plan that cannot be read may name anything.
        let usable = if may_build { known } else { &[] };
        let parents = find_parents(self.vault, usable, topology, disks, self.monitor)?;
        let mut tracking = Tracking::start(&self.places.pins, self.monitor)?;
        let mut prepared = Vec::new();
        for (disk, parent) in disks.iter().zip(parents) {
            let one = self.disk(disk, parent, &mut tracking);
            prepared.push(one.map_err(|error| match error.kind() {
                ErrorKind::Interrupted(_) | ErrorKind::Damaged => error,
                _ => error.on_disk(disk.name()),
            })?);
        }
        let (machine, boot) = (machine_uuid(), boot_id().ok());
        let resume = Resume {
            vault: self.vault,
            notes: &self.places.notes,
            run: self.run,
            owner: Owner {
                host: self.host,
                machine: machine.as_deref(),
                boot: boot.as_deref(),
            },
            monitor: self.monitor,
        };
        let identities: Vec<_> = disks.iter().map(|disk| &disk.identity).collect();
        let Resumed { sent, notes } = resume.begin(&identities, known)?;
        for (disk, sent) in prepared.iter_mut().zip(sent) {
            disk.sent = sent;
        }
        Ok(Prepared {
            disks: prepared,
            tracking,
            notes,
        })
    }

    /// Whether the run may refer to what is in the vault. The session has been put before.
    fn heed_plans(&self) -> Result<bool> {
        match self.vault.heed_plans(self.run) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Format) => {
                let warning = format!("{error}: everything is stored again; `stillpoint gc` helps");
                self.monitor.tell(Event::Warning(warning));
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Starts to track the disk where it is not tracked yet, and decides how to capture it.
    fn disk(
        &self,
        disk: &Disk,
        parent: Newest,
        tracking: &mut Tracking<'_>,
    ) -> Result<DiskRunOptions> {
        // First: a disk that cannot be read must not end up tracked.
        let reader = open_disk(disk, self.pool)?;
        let mut changes = tracking.attach(disk)?;
        let capture = self.decide(disk, parent.as_ref(), &mut changes)?;
        let packed_before = parent.as_ref().map(|(_, record)| PackedBefore::of(record));
        let (capture, parent) = self.load_base(capture, parent)?;
        let freeze = self.options.level >= Level::Filesystem;
        let set = self.options.layout.freeze_set(slice::from_ref(disk));
        Ok(DiskRunOptions {
            identity: disk.identity.clone(),
            reader,
            changes: Box::new(changes),
            ask_free: ask_free(disk.dev()),
            ask_swap: ask_swap(disk),
            ask_files: ask_files(disk.dev()),
            capture,
            parent,
            packed_before,
            sent: None,
            all_blocks: self.options.all_blocks,
            filesystems: records_of(&set, disk.dev(), freeze),
            expedite: self.expedite.clone(),
        })
    }

    fn decide(
        &self,
        disk: &Disk,
        parent: Option<&(SnapshotId, DiskRecord)>,
        changes: &mut DiskTracker,
    ) -> Result<CaptureMode> {
        let mut witness = witness::steady(changes)?;
        if witness.unaccounted.is_none() {
            // Too busy to know. What the tracker says at the cut counts, when nothing is written.
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
        let full = self.options.full;
        Ok(CaptureMode::decide(
            known.as_ref(),
            &disk.identity,
            &witness,
            full,
        ))
    }

    /// Reads the map of the parent, if there is to be one. Where it is damaged, everything is
    /// stored.
    fn load_base(
        &self,
        capture: CaptureMode,
        parent: Newest,
    ) -> Result<(CaptureMode, Option<Base>)> {
        let Some((snapshot, record)) = parent.filter(|_| capture.parent.is_some()) else {
            return Ok((capture, None));
        };
        match Baseline::load(self.vault, &record, self.monitor) {
            Ok(baseline) => Ok((capture, Some((record, Arc::new(baseline))))),
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Format) => {
                let warning = format!("{error}: taking a full snapshot instead");
                self.monitor.tell(Event::Warning(warning));
                let reason = format!("what the vault has of {snapshot} cannot be relied on");
                Ok((CaptureMode::full(reason), None))
            }
            Err(error) => Err(error),
        }
    }
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

/// Looks again each time: what is mounted, and where, may change during a long copy.
fn ask_free(disk: DevNumber) -> AskFree {
    let mut believed = Vec::new();
    Box::new(move |scan| match scan {
        FreeScan::WholeHost => free_space(&Host::here(), disk),
        FreeScan::BeforeCut => {
            let mut found = free_space(&Host::here(), disk)?;
            believed = std::mem::take(&mut found.believed);
            Ok(found)
        }
        FreeScan::Frozen(deadline) => Ok(FreeSpace::of(free_while_frozen(&believed, deadline)?)),
    })
}

/// Looks again each time: a partition that was swapped to may hold files when a long copy ends.
fn ask_swap(disk: &Disk) -> AskBlocks {
    let (dev, size) = (disk.dev(), disk.identity.size);
    Box::new(move || swap_blocks(dev, size))
}

fn ask_files(disk: DevNumber) -> AskBlocks {
    Box::new(move || sample_file_blocks(disk))
}
