//! One tracked disk. It must never say that a block is unchanged when the tracker may not have seen
//! it: where the disk, its marks or the programs are not what they were, it fails.
//!
//! # Why nothing is lost when the epoch changes
//!
//! A program reads the epoch `E`, and before it writes its mark, another CPU's program, which read
//! `E + 1` already, marks the same grain. The first then writes `E` over `E + 1`: a change of epoch
//! `E + 1` that is missing from the changes since `E + 1`. That is harmless. The
//! first program was running when the epoch went up, and `advance` waits for all such programs
//! before it returns `E + 1`. So the second change too was on the disk (events come after the data)
//! before anybody learnt that `E + 1` had begun. Whoever asks "since `E + 1`" got it from an
//! `advance`, and after that `advance` read the blocks changed since an earlier epoch, this one
//! among them: the mark `E` is in that range. The same holds for a summary that is written over.
//! Hence the rule of [`ChangeSource::changed_since`]: advance, ask, then read.

use super::attached::failed;
use super::kernel_log::KernelLog;
use super::mark_layout::{self, FIRST_SUMMARIES, LAST_EPOCH, MarkLayout, Page, SHARED, at};
use super::names;
use super::programs::{Programs, map_id};
use super::source::{ChangeCounts, ChangeSource, CutName, Epoch, Recall, Witness};
use crate::device::{Attributes, Host};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlockSet, Bytes, DevNumber};
use crate::sys::bpf::SharedPages;
use crate::sys::machine;
use aya::maps::{Array, Map, MapData};
use std::fmt;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

/// A disk's marks, as the kernel's programs write them.
pub(super) struct DiskMarks {
    pages: Array<MapData, Page>,
    /// The header and the names.
    header: SharedPages,
    /// The kernel's id of the map.
    pub id: u32,
    /// How it is laid out.
    pub layout: MarkLayout,
}

impl DiskMarks {
    /// Takes hold of a map. `None` when its header is not one of ours.
    pub fn open(map: MapData) -> Result<Option<Self>> {
        let id = map_id(&map)?;
        let header = SharedPages::of(map.fd().as_fd(), SHARED)
            .map_err(failed("share a disk's marks with the kernel"))?;
        let pages: Array<MapData, Page> = Map::Array(map)
            .try_into()
            .map_err(failed("use a disk's marks"))?;
        let first = read(&pages, 0)?;
        let layout = MarkLayout::of_header(&first, pages.len());
        Ok(layout.map(|layout| Self {
            pages,
            header,
            id,
            layout,
        }))
    }

    /// The epoch that marks are made with now.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.header.u32_at(at::EPOCH).load(Ordering::SeqCst))
    }

    /// How often something happened that marks cannot express.
    pub fn voids(&self) -> u64 {
        self.header.u64_at(at::VOIDS).load(Ordering::SeqCst)
    }

    /// How often the disk's capacity was set to another.
    pub fn resizes(&self) -> u64 {
        self.header.u64_at(at::RESIZES).load(Ordering::SeqCst)
    }

    /// How many sectors the programs saw written or discarded.
    fn seen(&self) -> u64 {
        self.header.u64_at(at::SEEN).load(Ordering::SeqCst)
    }

    /// Begins the next epoch; programs that are running may still mark with the last one.
    fn begin_epoch(&self) -> Result<Epoch> {
        let next = self.header.increment(at::EPOCH, LAST_EPOCH);
        next.map(Epoch).ok_or_else(|| {
            Error::new(ErrorKind::Failed, "the disk's marks have no epochs left")
                .with_hint("stop and start tracking of this disk")
        })
    }

    fn changed_since(&self, since: Epoch) -> Result<BlockSet> {
        // What never changed is marked 0.
        let since = since.max(Epoch(1));
        let mut set = BlockSet::new();
        let mut mark_page = 0;
        for summary_page in 0..self.layout.summary_pages() {
            let summaries = read(&self.pages, FIRST_SUMMARIES + summary_page)?;
            for summary in mark_layout::summaries(&summaries) {
                let first = mark_page * mark_layout::MARKS_PER_PAGE;
                if summary.newest >= since && summary.whole >= since {
                    let end = first + mark_layout::MARKS_PER_PAGE;
                    self.layout.insert_grains(&mut set, first, end);
                } else if summary.newest >= since {
                    let marks = read(&self.pages, self.layout.first_marks() + mark_page)?;
                    self.layout
                        .insert_marked(&mut set, mark_page, &marks, since);
                }
                mark_page += 1;
            }
        }
        Ok(set)
    }
}

fn read(pages: &Array<MapData, Page>, index: u64) -> Result<Page> {
    let index = u32::try_from(index).map_err(failed("read marks that far out"))?;
    pages.get(&index, 0).map_err(failed("read a disk's marks"))
}

/// How often a busy disk's counters are read again until they stand still: a few milliseconds.
const SETTLE_TRIES: usize = 200;

/// The key of a disk in the map of all disks: `MKDEV` of `include/linux/kdev_t.h`.
pub(super) fn key(dev: DevNumber) -> u32 {
    dev.major << 20 | dev.minor
}

/// The disk with this key.
pub(super) fn dev_of(key: u32) -> DevNumber {
    DevNumber {
        major: key >> 20,
        minor: key & 0xf_ffff,
    }
}

/// Changes of one tracked disk.
pub struct DiskTracker {
    dev: DevNumber,
    attributes: Attributes,
    programs: Programs,
    marks: DiskMarks,
    boot_id: String,
    /// Where no program notices a set capacity.
    log: Option<KernelLog>,
    /// No program notices a set capacity, and the log cannot be read either.
    is_blind: bool,
}

impl DiskTracker {
    pub(super) fn new(
        dev: DevNumber,
        programs: Programs,
        marks: DiskMarks,
        boot_id: String,
    ) -> Self {
        let unwatched = programs.capacity.is_none();
        let attributes = Attributes::of(&Host::here(), dev);
        let name = attributes.kernel_name().filter(|_| unwatched);
        let log = name.and_then(|name| KernelLog::open(&name).ok());
        Self {
            is_blind: unwatched && log.is_none(),
            log,
            dev,
            attributes,
            programs,
            marks,
            boot_id,
        }
    }

    /// The disk's device number.
    pub fn dev(&self) -> DevNumber {
        self.dev
    }

    /// Bytes that one mark stands for: 64 KiB, or a power of two times that.
    pub fn grain(&self) -> Bytes {
        self.marks.layout.grain()
    }

    /// See [`Witness::unaccounted`]. The kernel counts an event just after the programs have: the
    /// difference holds when nothing moved while both were read, twice in a row.
    fn counted(&self) -> Result<Option<ChangeCounts>> {
        let mut last = None;
        for _ in 0..SETTLE_TRIES {
            let before = self.marks.seen();
            let Some(counted) = self.attributes.changed_sectors()? else {
                return Ok(None);
            };
            let now = (self.marks.seen() == before).then_some((before, counted));
            if now.is_some() && now == last {
                let changed = counted.written.wrapping_add(counted.discarded);
                return Ok(Some(ChangeCounts {
                    written: counted.written,
                    discarded: counted.discarded,
                    unaccounted: changed.wrapping_sub(before) as i64,
                }));
            }
            last = now;
        }
        Ok(None)
    }

    /// Counts the changes of the disk's capacity in the kernel's log. How far it was read stands
    /// beside the marks, so that the next reader goes on there.
    fn read_log(&mut self) -> Result<()> {
        let next = self.marks.header.u64_at(at::LOG_NEXT);
        let resizes = self.marks.header.u64_at(at::RESIZES);
        let Some(log) = &mut self.log else {
            // Other processes could read the log, so there may have been changes that this one
            // cannot see. They are counted once: what this run copies is not in doubt again.
            if std::mem::take(&mut self.is_blind) && next.load(Ordering::SeqCst) != 0 {
                resizes.fetch_add(1, Ordering::SeqCst);
            }
            return Ok(());
        };
        let from = next.load(Ordering::SeqCst);
        // What was before these marks does not count.
        let found = log.changes_from(if from == 0 { u64::MAX } else { from })?;
        resizes.fetch_add(found.changes, Ordering::SeqCst);
        next.fetch_max(found.next.unwrap_or(0), Ordering::SeqCst);
        Ok(())
    }

    /// Fails unless the programs still mark in the map that we read, and the disk behind the device
    /// number is still the same one.
    fn check(&self) -> Result<()> {
        let gone = |what: &str| {
            Error::new(
                ErrorKind::Inconsistent,
                format!("tracking of disk {} is void: {what}", self.dev),
            )
        };
        let map = self.programs.marks(key(self.dev))?;
        match map.map(|map| map_id(&map)).transpose()? {
            None => return Err(gone("it was stopped by another process")),
            Some(id) if id != self.marks.id => {
                return Err(gone("its marks were begun anew by another process"));
            }
            Some(_) => {}
        }
        if self.attributes.diskseq()? != self.marks.layout.diskseq {
            return Err(gone("another disk has taken its place"));
        }
        Ok(())
    }
}

impl fmt::Debug for DiskTracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskTracker")
            .field("dev", &self.dev)
            .field("map", &self.marks.id)
            .field("epoch", &self.marks.epoch())
            .finish_non_exhaustive()
    }
}

/// How often the kernel's log is waited for.
const LOG_WAITS: usize = 2;

impl ChangeSource for DiskTracker {
    fn ready(&mut self) -> Result<()> {
        for _ in 0..LOG_WAITS {
            self.read_log()?;
            match self.log.as_ref().and_then(KernelLog::kept_back) {
                Some(time) => std::thread::sleep(time),
                None => break,
            }
        }
        Ok(())
    }

    fn witness(&mut self) -> Result<Witness> {
        self.read_log()?;
        let witness = Witness {
            boot_id: self.boot_id.clone(),
            programs: self.programs.ids,
            map: self.marks.id,
            misses: self.programs.recursion_misses()?,
            unaccounted: self.counted()?.map(|counted| counted.unaccounted),
            voids: self.marks.voids(),
            capacity: self.programs.capacity.as_ref().map(|watch| watch.ids),
            resizes: self.marks.resizes(),
            asleep_ms: u64::try_from(machine::asleep()?.as_millis()).unwrap_or(u64::MAX),
            epoch: self.marks.epoch(),
            name: None,
        };
        self.check()?;
        Ok(witness)
    }

    fn advance(&mut self) -> Result<Epoch> {
        let epoch = self.marks.begin_epoch()?;
        self.programs.wait()?;
        Ok(epoch)
    }

    fn name(&mut self, epoch: Epoch) -> Result<CutName> {
        names::leave(&self.marks.header, epoch)
    }

    fn recall(&mut self, cut: &Witness) -> Result<Recall> {
        Ok(names::recall(&self.marks.header, cut))
    }

    fn counts(&mut self) -> Result<Option<ChangeCounts>> {
        self.counted()
    }

    fn changed_since(&mut self, since: Epoch) -> Result<BlockSet> {
        let set = self.marks.changed_since(since)?;
        self.check()?;
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_device_numbers_are_one_to_one() {
        for (major, minor) in [(7, 0), (254, 16), (259, 1_048_575), (4095, 3)] {
            let dev = DevNumber { major, minor };
            assert_eq!(dev_of(key(dev)), dev);
        }
    }
}
