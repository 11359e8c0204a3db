//! Starting, finding and stopping the tracker, and which disks it tracks. It must never throw marks
//! away that are still good, nor keep any that are not.

use super::attached::failed;
use super::disk::{DiskMarks, DiskTracker, dev_of, key};
use super::mark_layout::{MarkLayout, Page, RENEW_FROM};
use super::pins::PinDir;
use super::programs::{PinnedPrograms, Programs, map_id, new_marks};
use super::source::Epoch;
use crate::device::{Attributes, Host};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, DevNumber, DiskIdentity};
use crate::sys::machine::boot_id;
use aya::maps::{Array, Map, MapData};
use std::fmt;

/// The disk to track, as it was when it was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackedDisk {
    /// Its device number.
    pub dev: DevNumber,
    /// Its size.
    pub size: Bytes,
    /// The kernel's disk sequence number; none before 5.15.
    pub diskseq: Option<u64>,
}

impl From<&DiskIdentity> for TrackedDisk {
    fn from(disk: &DiskIdentity) -> Self {
        Self {
            dev: disk.dev,
            size: disk.size,
            diskseq: disk.diskseq,
        }
    }
}

/// A tracked disk as it stands now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedStatus {
    /// The disk as it was when tracking of it began.
    pub disk: TrackedDisk,
    /// Bytes that one mark stands for.
    pub grain: Bytes,
    /// The epoch that marks are made with now.
    pub epoch: Epoch,
    /// How often something happened to it that marks cannot express.
    pub voids: u64,
    /// Kernel memory that its marks take.
    pub memory: Bytes,
}

/// Names a disk's marks: the kernel's id of their map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarksId(u32);

/// The running tracker. Dropping it changes nothing: tracking goes on without any process.
pub struct Tracker {
    pins: PinDir,
    pub(super) programs: Programs,
}

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker")
            .field("pins", &self.pins)
            .field("programs", &self.programs.ids)
            .finish_non_exhaustive()
    }
}

impl Tracker {
    /// Finds the running tracker. `None` when there is none, or only one that does not work, which
    /// [`Self::start`] would replace.
    ///
    /// # Errors
    /// Not permitted, or the pin directory belongs to somebody else.
    pub fn open(pins: &PinDir) -> Result<Option<Self>> {
        Ok(match Programs::find(pins)? {
            PinnedPrograms::Running(programs) => Some(Self::with(pins, *programs)),
            PinnedPrograms::Absent | PinnedPrograms::Broken(_) => None,
        })
    }

    /// Takes away what is pinned and does not work, or is of another version. Nothing where there
    /// is no such thing, or the tracker runs.
    ///
    /// # Errors
    /// As [`Self::stop_if_idle`].
    pub fn sweep(pins: &PinDir) -> Result<()> {
        if let Some(lock) = pins.lock()?
            && !matches!(Programs::find(pins)?, PinnedPrograms::Running(_))
        {
            pins.clear(&lock)?;
            pins.remove(&lock)?;
        }
        Ok(())
    }

    /// Stops tracking altogether: the next snapshot of each disk has to compare.
    pub fn stop(self) -> Result<()> {
        if let Some(lock) = self.pins.lock()? {
            self.pins.clear(&lock)?;
            self.pins.remove(&lock)?;
        }
        Ok(())
    }

    /// The same where no disk is tracked; otherwise nothing is done.
    ///
    /// # Errors
    /// Not permitted, or another process changes what is pinned for longer than is waited for.
    pub fn stop_if_idle(self) -> Result<()> {
        if let Some(lock) = self.pins.lock()?
            && self.is_current()?
            && self.keys()?.is_empty()
        {
            self.pins.clear(&lock)?;
            self.pins.remove(&lock)?;
        }
        Ok(())
    }

    /// Whether these programs are those that are pinned now. It says nothing about the moment after
    /// unless the pins are locked.
    fn is_current(&self) -> Result<bool> {
        Ok(match Programs::find(&self.pins)? {
            PinnedPrograms::Running(programs) => programs.ids == self.programs.ids,
            PinnedPrograms::Absent | PinnedPrograms::Broken(_) => false,
        })
    }

    pub(super) fn with(pins: &PinDir, programs: Programs) -> Self {
        Self {
            pins: pins.clone(),
            programs,
        }
    }

    /// Tracks a disk. Marks that are there already are kept if they are of this very disk and have
    /// epochs left; otherwise new ones are begun.
    ///
    /// # Errors
    /// `Unsupported` for a disk whose changes the block layer does not show; `Inconsistent` when
    /// the disk is not (any more) as described; not enough kernel memory.
    pub fn attach(&mut self, disk: &TrackedDisk) -> Result<DiskTracker> {
        check_trackable(disk.dev)?;
        let lock = self.pins.lock()?;
        if lock.is_none() {
            return Err(stopped());
        }
        self.attach_locked(disk)
    }

    pub(super) fn attach_locked(&mut self, disk: &TrackedDisk) -> Result<DiskTracker> {
        let attributes = Attributes::of(&Host::here(), disk.dev);
        let seen = (attributes.size()?, attributes.diskseq()?);
        if seen != (Some(disk.size), disk.diskseq) {
            let message = format!("disk {} is not the one it was a moment ago", disk.dev);
            return Err(Error::new(ErrorKind::Inconsistent, message));
        }
        let programs = match Programs::find(&self.pins)? {
            PinnedPrograms::Running(programs) if programs.ids == self.programs.ids => *programs,
            _ => return Err(stopped()),
        };
        let marks = match self.usable_marks(disk)? {
            Some(marks) => marks,
            None => self.begin_marks(disk)?,
        };
        Ok(DiskTracker::new(disk.dev, programs, marks, boot_id()?))
    }

    /// The marks that are there, if they are of this very disk and have epochs left.
    fn usable_marks(&self, disk: &TrackedDisk) -> Result<Option<DiskMarks>> {
        let Some(map) = self.programs.marks(key(disk.dev))? else {
            return Ok(None);
        };
        let marks = DiskMarks::open(map)?;
        Ok(marks.filter(|marks| {
            marks.layout.size == disk.size
                && marks.layout.diskseq == disk.diskseq
                && marks.epoch().0 < RENEW_FROM
        }))
    }

    fn begin_marks(&mut self, disk: &TrackedDisk) -> Result<DiskMarks> {
        self.forget_vanished()?;
        let layout = MarkLayout::plan(disk.size, disk.diskseq, crate::sys::memory::total()?)?;
        let map = new_marks(layout.pages())?;
        let id = map_id(&map)?;
        let mut pages: Array<MapData, Page> = Map::Array(map)
            .try_into()
            .map_err(failed("use new marks"))?;
        pages
            .set(0, layout.header(), 0)
            .map_err(failed("write the header of new marks"))?;
        let map = MapData::from_id(id).map_err(failed("open new marks"))?;
        // The kernel waits for running programs before this returns (see `Programs::wait`), so
        // that from then on every change is marked in the new map.
        self.programs
            .disks
            .insert(key(disk.dev), &map, 0)
            .map_err(failed("hand new marks to the tracking programs"))?;
        DiskMarks::open(map)?
            .ok_or_else(|| Error::new(ErrorKind::Failed, "the header of new marks cannot be read"))
    }

    /// Frees the marks of disks that are no more.
    fn forget_vanished(&mut self) -> Result<()> {
        for key in self.keys()? {
            if !Attributes::of(&Host::here(), dev_of(key)).exist() {
                self.forget(key)?;
            }
        }
        Ok(())
    }

    /// Stops tracking a disk; one that is not tracked is left as it is.
    pub fn detach(&mut self, dev: DevNumber) -> Result<()> {
        self.forget(key(dev))
    }

    fn forget(&mut self, key: u32) -> Result<()> {
        if self.programs.marks(key)?.is_some() {
            self.programs
                .disks
                .remove(&key)
                .map_err(failed("take a disk's marks away"))?;
        }
        Ok(())
    }

    fn keys(&self) -> Result<Vec<u32>> {
        let keys = self.programs.disks.keys().collect::<Result<_, _>>();
        keys.map_err(failed("list the tracked disks"))
    }

    /// What names the marks of a disk of this number, of whatever worth: no others of this boot
    /// have the same. `None` when there are none.
    ///
    /// # Errors
    /// The programs' map cannot be read.
    pub fn marks_of(&self, dev: DevNumber) -> Result<Option<MarksId>> {
        let marks = self.programs.marks(key(dev))?;
        marks.map(|map| Ok(MarksId(map_id(&map)?))).transpose()
    }

    /// Stops tracking a disk if its marks are these; others, that somebody has begun since, are
    /// left as they are.
    ///
    /// # Errors
    /// As [`Self::detach`]; another process changes what is pinned for longer than is waited for.
    pub fn detach_if(&mut self, dev: DevNumber, marks: MarksId) -> Result<()> {
        if let Some(_lock) = self.pins.lock()?
            && self.marks_of(dev)? == Some(marks)
        {
            self.detach(dev)?;
        }
        Ok(())
    }

    /// All tracked disks, by device number.
    pub fn disks(&self) -> Result<Vec<TrackedStatus>> {
        let mut all = Vec::new();
        for key in self.keys()? {
            let Some(map) = self.programs.marks(key)? else {
                continue;
            };
            if let Some(marks) = DiskMarks::open(map)? {
                all.push(TrackedStatus {
                    disk: TrackedDisk {
                        dev: dev_of(key),
                        size: marks.layout.size,
                        diskseq: marks.layout.diskseq,
                    },
                    grain: marks.layout.grain(),
                    epoch: marks.epoch(),
                    voids: marks.voids(),
                    memory: marks.layout.memory(),
                });
            }
        }
        all.sort_by_key(|status| status.disk.dev);
        Ok(all)
    }
}

/// Refuses a disk whose changes the block layer does not show.
fn check_trackable(dev: DevNumber) -> Result<()> {
    let attributes = Attributes::of(&Host::here(), dev);
    if !attributes.exist() {
        let message = format!("there is no disk {dev}");
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    let Some(obstacle) = attributes.obstacle()? else {
        return Ok(());
    };
    let name = attributes.kernel_name().unwrap_or_default();
    let message = format!("disk {dev} cannot be tracked: {}", obstacle.why());
    let hint = obstacle.remedy(&name.replace('/', "!"));
    Err(Error::new(ErrorKind::Unsupported, message).with_hint(hint))
}

fn stopped() -> Error {
    Error::new(
        ErrorKind::Inconsistent,
        "tracking was stopped by another process",
    )
    .with_hint("start it again")
}
