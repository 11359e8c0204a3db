//! The sequence of a snapshot, from the first block read to the cut: the same for live disks and
//! for disks in memory.

use super::captured_disk::CapturedDisk;
use super::cut::{Cut, CutOptions, Cutting};
use super::disk_run::DiskRun;
use super::disk_run_options::DiskRunOptions;
use super::elsewhere;
use super::gentle::Gentle;
use super::precopy::{Precopied, Precopy};
use super::room::{self, StoreEstimate};
use super::sample;
use crate::capture::{Pipeline, PipelineOptions};
use crate::device::FreeDoubt;
use crate::device::read::BufferPool;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::quiesce::Quiesce;
use crate::engine::run_phase::RunPhase;
use crate::engine::snapshot_options::Consistency;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BLOCK_SIZE, Bytes, Mode};
use crate::store::{ChunksElsewhere, Draft};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How to capture.
#[derive(Clone)]
pub struct CaptureOptions {
    /// How consistent the copy must be.
    pub consistency: Consistency,
    /// How many threads encode.
    pub workers: usize,
    /// Most memory for what is read in the window.
    pub window_memory: Bytes,
    /// What the disks are read into while nothing is frozen: buffers of 1 MiB. A larger pool takes
    /// its place when much is to be read.
    pub pool: BufferPool,
    /// How gently disks are read while nothing is held.
    pub gentle: Gentle,
    /// What anybody has put into the vault is not put again, where the vault is made so.
    pub share: bool,
}

/// Most memory for what is read in the window: see [`window_memory`].
const WINDOW_MOST: u64 = 256 << 20;
/// Buffers when much is to be read. Not always: the kernel has to bring all of it into memory
/// before the first read, which takes longer on a virtual machine than reading little.
const MANY_BUFFERS: usize = 32;
/// More than this is much.
const MUCH: Bytes = Bytes(64 << 20);
/// Most times that a copy is made before giving up: marks that prove nothing are rare.
const MAX_ATTEMPTS: u32 = 3;
/// The window has room for at least this much.
const WINDOW_LEAST: u64 = 8 << 20;
/// The window takes at most this share of the machine's memory.
const WINDOW_SHARE: u64 = 32;

/// How much memory the window may take, on a machine with this much: it is locked.
pub fn window_memory(machine: Bytes) -> Bytes {
    Bytes((machine.0 / WINDOW_SHARE).clamp(WINDOW_LEAST, WINDOW_MOST))
}

/// What a run has captured; nothing of it is a snapshot yet.
pub struct CaptureResult {
    /// The disks, and what of each was stored.
    pub disks: Vec<CapturedDisk>,
    /// The instant.
    pub cut: Cut,
    /// What anybody had put into the vault, where that was looked for.
    pub elsewhere: Option<Arc<ChunksElsewhere>>,
}

/// Captures all disks at one instant.
pub fn capture(
    disks: Vec<DiskRunOptions>,
    draft: &Arc<Draft>,
    quiesce: &mut dyn Quiesce,
    options: &CaptureOptions,
    monitor: &dyn Monitor,
) -> Result<CaptureResult> {
    let threads = PipelineOptions {
        disks: disks.len(),
        workers: options.workers,
    };
    let pipeline = Pipeline::start(draft, threads)?;
    let disks = disks.into_iter().map(DiskRun::begin);
    let disks = disks.collect::<Result<Vec<_>>>()?;
    let elsewhere = match options.share {
        true => elsewhere::look(draft, &disks, monitor)?,
        false => None,
    };
    let mut capture = Capture {
        draft: Arc::clone(draft),
        disks,
        elsewhere,
        pipeline,
        quiesce,
        options: options.clone(),
        monitor,
        doubts: BTreeSet::new(),
        told_of_room: false,
        was_held: false,
    };
    let cut = capture.until_proven();
    let was_held = capture.was_held;
    let result = cut.and_then(|cut| capture.finish(cut));
    // What a run that failed has left frozen may be where the vault is.
    if result.is_ok() || !was_held {
        elsewhere::note(draft, monitor);
    }
    result
}

/// A capture at work.
struct Capture<'a> {
    draft: Arc<Draft>,
    disks: Vec<DiskRun>,
    elsewhere: Option<Arc<ChunksElsewhere>>,
    pipeline: Pipeline,
    quiesce: &'a mut dyn Quiesce,
    options: CaptureOptions,
    monitor: &'a dyn Monitor,
    /// Doubts that have been reported.
    doubts: BTreeSet<FreeDoubt>,
    /// Little room has been reported, or that it is not known.
    told_of_room: bool,
    /// Something was held or frozen, and may be still.
    was_held: bool,
}

impl Capture<'_> {
    /// Copies and cuts until marks prove what the copy rests on.
    fn until_proven(&mut self) -> Result<Cut> {
        let losses = self.disks.iter().filter_map(sample::loss);
        losses.for_each(|loss| self.warn(loss));
        let mut attempt = 1;
        loop {
            let mut precopied = self.precopy()?;
            if self.check_tracking()? {
                precopied = self.precopy()?;
            }
            self.report_doubts();
            let cut = self.cut(precopied)?;
            if !self.start_over_unproven(&cut, attempt)? {
                return Ok(cut);
            }
            attempt += 1;
        }
    }

    fn finish(mut self, cut: Cut) -> Result<CaptureResult> {
        self.report_doubts();
        if cut.fuzzy {
            let warning = "the disks were written to while they were copied: this copy is of no \
                           one instant";
            self.warn(warning.into());
        }
        self.monitor.tell(Event::Phase(RunPhase::StoringRest));
        let stored = self.pipeline.finish()?;
        let archived = self.disks.iter().filter_map(sample::archived);
        for warning in archived {
            self.monitor.tell(Event::Warning(warning));
        }
        let disks = self.disks.into_iter().zip(stored);
        let disks: Vec<_> = disks.map(|(disk, stored)| disk.finish(stored)).collect();
        for disk in &disks {
            if let Some(error) = disk.sent.as_ref().and_then(|sent| sent.trouble()) {
                let name = &disk.identity.name;
                self.monitor.tell(Event::Warning(format!(
                    "{name}: {error}: from there on, what a run that was cut off has put was put \
                     again; the store does not give it back"
                )));
            }
        }
        let elsewhere = self.elsewhere;
        elsewhere
            .iter()
            .for_each(|it| elsewhere::tell(it, self.monitor));
        Ok(CaptureResult {
            disks,
            cut,
            elsewhere,
        })
    }

    fn warn(&self, warning: String) {
        self.monitor.tell(Event::Warning(warning));
    }

    /// Reports which filesystems are not believed about their free space, each once.
    fn report_doubts(&mut self) {
        let doubts = self.disks.iter_mut().flat_map(DiskRun::take_doubts);
        for doubt in doubts.collect::<Vec<_>>() {
            if !self.doubts.insert(doubt.clone()) {
                continue;
            }
            if doubt.is_alarming {
                self.warn(doubt.what);
            } else {
                self.monitor.tell(Event::Note(doubt.what));
            }
        }
    }

    /// Ends the run where the vault has no room for anything, with what is packed already counted
    /// in; warns once where it may have too little. Nothing is held or frozen yet.
    fn look_at_room(&mut self) -> Result<()> {
        let room = match self.draft.room() {
            Ok(None) => return Ok(()),
            Ok(Some(room)) => room,
            Err(error) => {
                if !std::mem::replace(&mut self.told_of_room, true) {
                    let what = format!("how much room the vault has is not known: {error}");
                    self.monitor.tell(Event::Note(what));
                }
                return Ok(());
            }
        };
        room::refuse_full(room, self.pipeline.held()).map_or(Ok(()), Err)?;
        if !self.told_of_room {
            let disks: Vec<_> = self.disks.iter().filter_map(StoreEstimate::of).collect();
            if let Some(warning) = room::warn_of_little(room, &disks) {
                self.told_of_room = true;
                self.warn(warning);
            }
        }
        Ok(())
    }

    fn precopy(&mut self) -> Result<Precopied> {
        self.look_at_room()?;
        self.enough_buffers()?;
        Precopy {
            disks: &mut self.disks,
            pipeline: &mut self.pipeline,
            quiesce: self.quiesce,
            consistency: &self.options.consistency,
            window_memory: self.options.window_memory,
            elsewhere: self.elsewhere.as_ref(),
            gentle: &self.options.gentle,
            monitor: self.monitor,
        }
        .until_little_is_left()
    }

    /// Has the disks read into more buffers, if much is wanted of them.
    fn enough_buffers(&mut self) -> Result<()> {
        let wanted: Bytes = self.disks.iter().map(DiskRun::wanted_bytes).sum();
        let pool = &mut self.options.pool;
        if wanted <= MUCH || pool.count() >= MANY_BUFFERS {
            return Ok(());
        }
        *pool = BufferPool::new(MANY_BUFFERS, pool.buffer_size())?;
        self.disks
            .iter_mut()
            .try_for_each(|disk| disk.read_into(pool))
    }

    fn cut(&mut self, precopied: Precopied) -> Result<Cut> {
        // What does not fit now would fail after the freeze. All that is known of it counts.
        if matches!(self.draft.room(), Ok(Some(_))) {
            self.pipeline.drain(self.monitor)?;
            self.look_at_room()?;
        }
        self.was_held = true;
        let most = self.options.window_memory;
        let expected = match precopied {
            Precopied::Fits(left) => 4 * left.0,
            Precopied::Busy => 0,
        };
        let blocks = expected.max(WINDOW_LEAST).min(most.0) / BLOCK_SIZE;
        let options = CutOptions {
            consistency: self.options.consistency,
            blocks: blocks as usize,
            most_blocks: most.block().0 as usize,
            pool: self.options.pool.clone(),
            gentle: self.options.gentle.clone(),
        };
        let cutting = Cutting {
            disks: &mut self.disks,
            pipeline: &mut self.pipeline,
            quiesce: self.quiesce,
            draft: &self.draft,
            may_be_frozen: false,
            options,
            monitor: self.monitor,
        };
        match precopied {
            Precopied::Fits(_) => cutting.cut(),
            Precopied::Busy => cutting.cut_fuzzy(),
        }
    }

    /// Every copy rests on marks, at least on those of this run. Where they prove nothing, the disk
    /// starts over; returns whether one does. A copy that is of no one instant need not rest on
    /// marks, as long as this run has read every block of it.
    fn start_over_unproven(&mut self, cut: &Cut, attempt: u32) -> Result<bool> {
        let mut any = false;
        for disk in &mut self.disks {
            let doubt = match disk.check_proof() {
                Some(void) if !cut.fuzzy || disk.mode() == Mode::Incremental => void.to_string(),
                _ if !disk.swap_is_the_same()? => "what is swapped to has changed".into(),
                _ => continue,
            };
            let name = disk.name();
            if attempt == MAX_ATTEMPTS {
                return Err(Error::new(
                    ErrorKind::Inconsistent,
                    format!("{name}: changes could not be tracked during the run: {doubt}"),
                )
                .with_hint(
                    "no snapshot was made; run it again, at a quieter time if this repeats",
                ));
            }
            let why = format!("tracking lost its proof at the cut: {doubt}");
            let note = format!("{name}: {why}: reading everything");
            self.monitor.tell(Event::Note(note));
            disk.start_over(&why)?;
            any = true;
        }
        for disk in self.disks.iter_mut().filter(|_| any) {
            disk.read_into(&self.options.pool)?;
        }
        Ok(any)
    }

    /// Reads a sample of what tracking calls unchanged; returns whether a disk starts over.
    fn check_tracking(&mut self) -> Result<bool> {
        let mut again = false;
        for number in 0..self.disks.len() {
            let disk = &mut self.disks[number];
            if let Some(block) = sample::check_free(disk, self.monitor)? {
                let why = sample::free_alarm(disk, block).to_string();
                self.warn(format!("{why}: all blocks are copied; please report this"));
                self.disks[number].start_over_with_all_blocks(&why)?;
                again = true;
                continue;
            }
            let (why, what) = match sample::check(disk, self.monitor) {
                Ok(None) => continue,
                Ok(Some(block)) => {
                    let alarm = sample::alarm(disk, block).to_string();
                    (alarm, "comparing everything; please report this")
                }
                Err(error) if error.kind() == ErrorKind::Damaged => (
                    format!("{}: the parent snapshot is damaged: {error}", disk.name()),
                    "comparing everything; run `stillpoint verify`, and if need be `snapshot \
                     --full`",
                ),
                Err(error) => return Err(error),
            };
            self.warn(format!("{why}: {what}"));
            self.disks[number].start_over(&why)?;
            again = true;
        }
        Ok(again)
    }
}
