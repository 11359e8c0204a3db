//! The cut: the instant that the snapshot is of. Everything is frozen, the last changed blocks are
//! read into locked memory, and everything is thawed again.

use super::disk_run::DiskRun;
use super::gentle::Gentle;
use super::too_busy::{Backlog, NeverQuiet, never_quiet, too_busy};
use super::window::{Filled, Window};
use crate::capture::{LITTLE, Pipeline};
use crate::device::read::{BufferPool, Limits};
use crate::engine::monitor::{Event, Monitor};
use crate::engine::quiesce::Quiesce;
use crate::engine::run_phase::RunPhase;
use crate::engine::snapshot_options::Consistency;
use crate::error::{Error, Result};
use crate::model::{BLOCK_SIZE, BlockSet, Bytes};
use crate::store::Draft;
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// Most times that everything is frozen before giving up.
const MAX_ATTEMPTS: u32 = 8;
/// After this many times in a row that more had changed than there is room for, the next time will
/// not be different.
const MAX_CROWDED: u32 = 2;
/// The same where there is memory for more room.
const MAX_GROWING: u32 = 4;
/// Most times that everything is flushed and copied before each attempt: what is written to the
/// filesystems during one pass is what the next has to copy.
const MAX_FLUSHES: u32 = 5;
/// A pass that copies less than this share of the one before pays for another.
const SHRINK: f64 = 0.7;
/// Most passes into the window before the freeze.
const MAX_FILLS: u32 = 10;
/// The same share for them: each shortens the freeze, and costs little.
const FILL_SHRINK: f64 = 0.85;

/// How to cut.
#[derive(Clone)]
pub struct CutOptions {
    /// How consistent the copy must be.
    pub consistency: Consistency,
    /// How many blocks are expected in the window; it starts with room for as many.
    pub blocks: usize,
    /// The most blocks there may be room for.
    pub most_blocks: usize,
    /// What is read into while nothing is frozen.
    pub pool: BufferPool,
    /// How gently disks are read while nothing is held.
    pub gentle: Gentle,
}

/// The instant, and how it was reached.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The instant.
    pub time: Timestamp,
    /// How long the freeze was, in the successful attempt; zero if there was none.
    pub held: Duration,
    /// The longest freeze of any attempt.
    pub longest: Duration,
    /// How often everything was frozen.
    pub attempts: u32,
    /// Whether something was written in the window: the copy is of no one instant.
    pub fuzzy: bool,
    /// Whether applications were quiesced by their hooks.
    pub applications: bool,
}

/// What an attempt came to.
struct Attempt {
    time: Timestamp,
    held: Duration,
    outcome: WindowOutcome,
}

/// What happened on the disks in the window.
enum WindowOutcome {
    /// Nothing was written.
    Quiet,
    /// More had changed than there is memory for; nothing was read.
    TooMuch(Bytes),
    /// The disk with this number was written to.
    Written(usize, BlockSet),
}

impl Attempt {
    /// Nothing was frozen: there is no room for what has changed.
    fn too_much(much: Bytes) -> Self {
        Self {
            time: Timestamp::now(),
            held: Duration::ZERO,
            outcome: WindowOutcome::TooMuch(much),
        }
    }
}

/// A cut of all disks at one instant.
pub struct Cutting<'a> {
    /// The disks.
    pub disks: &'a mut [DiskRun],
    /// Where blocks go.
    pub pipeline: &'a mut Pipeline,
    /// What keeps the disks unchanged.
    pub quiesce: &'a mut dyn Quiesce,
    /// What notes on the host what is put: not while anything is frozen.
    pub draft: &'a Draft,
    /// Something was frozen, and is not known to be thawed.
    pub may_be_frozen: bool,
    /// How to cut.
    pub options: CutOptions,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

impl Cutting<'_> {
    /// Cuts all disks at one instant.
    pub fn cut(mut self) -> Result<Cut> {
        let mut longest = Duration::ZERO;
        let mut crowded = 0;
        for attempt in 1..=MAX_ATTEMPTS {
            let (applications, tried) = self.attempt()?;
            let Attempt {
                time,
                held,
                outcome,
            } = tried;
            longest = longest.max(held);
            let done = |fuzzy| Cut {
                time,
                held,
                longest,
                attempts: attempt,
                fuzzy,
                applications,
            };
            let last = attempt == MAX_ATTEMPTS;
            let allow_fuzzy = self.options.consistency.allow_fuzzy;
            match outcome {
                WindowOutcome::Quiet => return Ok(done(false)),
                WindowOutcome::TooMuch(much) => {
                    crowded += 1;
                    let blocks = much.block().0 as usize;
                    let grows = blocks < self.options.most_blocks;
                    if last || crowded >= if grows { MAX_GROWING } else { MAX_CROWDED } {
                        return match allow_fuzzy {
                            true => self.cut_fuzzy(),
                            false => Err(self.outgrown(much, attempt)),
                        };
                    }
                    self.options.blocks = (2 * blocks).min(self.options.most_blocks);
                }
                WindowOutcome::Written(..) if last && allow_fuzzy => return Ok(done(true)),
                WindowOutcome::Written(number, blocks) if last => {
                    return Err(self.never_quiet(number, &blocks));
                }
                WindowOutcome::Written(..) => crowded = 0,
            }
            self.monitor.tell(Event::Phase(RunPhase::WaitingForQuiet));
            wait(attempt, self.monitor)?;
        }
        unreachable!("the last attempt returns")
    }

    fn outgrown(&self, much: Bytes, attempts: u32) -> Error {
        let memory = Bytes::of_blocks(self.options.most_blocks as u64);
        let backlog = Backlog {
            left: much,
            fits: memory,
            memory,
            reading: None,
        };
        let when = format!("after {attempts} attempts to cut");
        too_busy(&self.options.consistency, &backlog, &when)
    }

    fn never_quiet(&self, number: usize, written: &BlockSet) -> Error {
        let disk = &self.disks[number];
        let seen = NeverQuiet {
            disk: disk.name(),
            filesystems: disk.filesystems(),
            written,
            attempts: MAX_ATTEMPTS,
        };
        never_quiet(&self.options.consistency, &seen)
    }

    /// Copies what is wanted while nothing is frozen: the copy is of no one instant.
    pub fn cut_fuzzy(mut self) -> Result<Cut> {
        let monitor = self.monitor;
        monitor.tell(Event::Phase(RunPhase::CopyingUnfrozen));
        self.read_into_pool()?;
        self.quiesce.flush(monitor)?;
        let limits = Limits::cancelled_by(monitor);
        for (number, disk) in self.disks.iter_mut().enumerate() {
            disk.want_rest()?;
            disk.ask_free_again()?;
            disk.copy_wanted(number, self.pipeline, &limits, &mut |_| {})?;
            disk.mark_end_in_use()?;
        }
        // What was slowed down for the copy need not be any more.
        self.quiesce.resume_apps(true, monitor)?;
        Ok(Cut {
            time: Timestamp::now(),
            held: Duration::ZERO,
            longest: Duration::ZERO,
            attempts: 0,
            fuzzy: true,
            applications: false,
        })
    }

    /// Everything from the last copying to the last block, once; returns whether applications were
    /// quiesced, and what came of it. Raises `options.blocks` where more is expected in the window.
    fn attempt(&mut self) -> Result<(bool, Attempt)> {
        let monitor = self.monitor;
        self.read_into_pool()?;
        let gentle = self.options.gentle.clone();
        let last = self.copy_the_latest(&gentle.limits(monitor))?;
        let expected = 2 * last.block().0 as usize;
        let options = &mut self.options;
        options.blocks = expected.max(options.blocks).min(options.most_blocks);
        let mut window = Window::new(options.blocks)?;
        self.read_into(window.pool())?;
        // Encoding would take processor time from what waits for the thaw.
        self.pipeline.drain(monitor)?;
        let mut quiesced = false;
        let tried = self.quiesce.quiesce_apps(monitor).and_then(|applications| {
            quiesced = applications;
            let tried = self.cut_into(&mut window, applications)?;
            Ok((applications, tried))
        });
        if quiesced {
            monitor.tell(Event::Phase(RunPhase::LettingApplicationsGo));
        }
        let quiet = |(_, tried): &(bool, Attempt)| matches!(tried.outcome, WindowOutcome::Quiet);
        let cut = tried.as_ref().is_ok_and(quiet);
        let resumed = self.quiesce.resume_apps(cut, monitor);
        if !self.may_be_frozen {
            self.draft.go_on_noting();
        }
        let (applications, tried) = match (tried, &resumed) {
            (Err(error), Err(held)) => return Err(error.context(held)),
            (tried, _) => tried?,
        };
        let applications = resumed? && applications;
        window.hand_over(self.disks, self.pipeline)?;
        Ok((applications, tried))
    }

    /// Reads ahead into the window, freezes, and reads the rest.
    fn cut_into(&mut self, window: &mut Window, applications: bool) -> Result<Attempt> {
        let monitor = self.monitor;
        self.quiesce.flush(monitor)?;
        let mut much = self.fill_early(window)?;
        if applications && much.is_some() {
            // This is what the prescript had written out. Now that applications are quiesced, it
            // will not be more.
            window.hand_over(self.disks, self.pipeline)?;
            self.read_into_pool()?;
            self.copy_the_latest(&Limits::cancelled_by(monitor))?;
            self.pipeline.drain(monitor)?;
            self.read_into(window.pool())?;
            much = self.fill_early(window)?;
        }
        if let Some(much) = much {
            return Ok(Attempt::too_much(much));
        }
        // The last look at free space. With applications quiesced, the one before must do.
        for disk in self.disks.iter_mut().filter(|_| !applications) {
            disk.ask_free_again()?;
        }
        self.freeze_and_read(window)
    }

    /// Flushes and copies while nothing is frozen, until what is left fits the window twice or
    /// shrinks no more; returns how much the last pass had to copy.
    fn copy_the_latest(&mut self, limits: &Limits<'_>) -> Result<Bytes> {
        let monitor = self.monitor;
        let enough = Bytes(self.options.most_blocks as u64 * BLOCK_SIZE / 2);
        let mut before = Bytes(u64::MAX);
        for _ in 0..MAX_FLUSHES {
            let begun = Instant::now();
            self.quiesce.flush(monitor)?;
            let mut copied = Bytes(0);
            for (number, disk) in self.disks.iter_mut().enumerate() {
                // The epoch first: what is put to use after the answer has a mark.
                disk.want_changed()?;
                copied += disk.ask_free_again()?;
                disk.copy_wanted(number, self.pipeline, limits, &mut |_| {})?;
            }
            monitor.tell(Event::Note(format!(
                "wrote out what was dirty and copied {copied} in {:.0?}",
                begun.elapsed()
            )));
            let shrinks = (copied.0 as f64) < SHRINK * before.0 as f64;
            before = copied;
            if copied <= enough || !shrinks {
                break;
            }
        }
        Ok(before)
    }

    /// Passes into the window while nothing is frozen yet: no encoding holds them up, so that less
    /// is left than pre-copying leaves. Returns how much there is if it is too much.
    fn fill_early(&mut self, window: &mut Window) -> Result<Option<Bytes>> {
        let monitor = self.monitor;
        let limits = Limits::cancelled_by(monitor);
        let mut before = Bytes(u64::MAX);
        for _ in 0..MAX_FILLS {
            let begun = Instant::now();
            for disk in self.disks.iter_mut() {
                if disk.want_changed()? > LITTLE {
                    disk.ask_free_after_discards()?;
                }
            }
            let read = match window.fill(self.disks, &limits)? {
                Filled::Read(read) => read,
                Filled::TooMuch(much) => return Ok(Some(much)),
            };
            monitor.tell(Event::Note(format!(
                "read {read} ahead in {:.0?}",
                begun.elapsed()
            )));
            let shrinks = (read.0 as f64) < FILL_SHRINK * before.0 as f64;
            before = read;
            if read <= LITTLE || !shrinks {
                break;
            }
        }
        Ok(None)
    }

    /// Freezes everything and reads the rest.
    fn freeze_and_read(&mut self, window: &mut Window) -> Result<Attempt> {
        self.monitor.tell(Event::Phase(RunPhase::Cutting));
        self.monitor.check()?;
        self.draft.hold_notes();
        // Until it is thawed: where that fails, nobody knows.
        self.may_be_frozen = true;
        let deadline = self.quiesce.freeze()?;
        let time = Timestamp::now();
        let outcome = read_rest(self.disks, window, self.quiesce.freezes(), deadline);
        let held = self.quiesce.thaw()?;
        self.may_be_frozen = false;
        Ok(Attempt {
            time,
            held,
            outcome: outcome?,
        })
    }

    fn read_into_pool(&mut self) -> Result<()> {
        let pool = self.options.pool.clone();
        self.read_into(&pool)
    }

    /// Has all disks read into these buffers from now on.
    fn read_into(&mut self, pool: &BufferPool) -> Result<()> {
        self.disks
            .iter_mut()
            .try_for_each(|disk| disk.read_into(pool))
    }
}

/// Longer after each attempt that failed, so that what writes in bursts can end one.
fn wait(attempt: u32, monitor: &dyn Monitor) -> Result<()> {
    let until = Instant::now() + Duration::from_millis(50) * attempt * attempt;
    while Instant::now() < until {
        monitor.check()?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What happens while everything is frozen. It must not log, print, or wait without the deadline.
///
/// Where there is no room for what has changed, and a trim is under way, filesystems that are
/// `frozen` are asked once more for their free space: while trims go on, it never gets less.
fn read_rest(
    disks: &mut [DiskRun],
    window: &mut Window,
    frozen: bool,
    deadline: Instant,
) -> Result<WindowOutcome> {
    for disk in disks.iter_mut() {
        disk.want_rest()?;
    }
    if frozen && !window.has_room(disks) {
        for disk in disks.iter_mut() {
            disk.ask_free_while_frozen(deadline)?;
        }
    }
    let limits = Limits::until(deadline);
    if let Filled::TooMuch(much) = window.fill(disks, &limits)? {
        // It stays wanted: the next pass reads it.
        return Ok(WindowOutcome::TooMuch(much));
    }
    let mut outcome = WindowOutcome::Quiet;
    for (number, disk) in disks.iter_mut().enumerate() {
        let written = disk.written_since_cut()?;
        disk.mark_end()?;
        if !written.is_empty() {
            outcome = WindowOutcome::Written(number, written);
        }
    }
    Ok(outcome)
}
