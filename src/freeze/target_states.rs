//! Which target is in which state, and the threads that freeze and thaw. Nothing here allocates,
//! logs or takes a lock for long once the first target is frozen, and nothing is ever thawed that
//! this ledger does not hold as frozen.

use super::guardian::wire::Entry;
use super::record::Journal;
use crate::sys;
use nix::errno::Errno;
use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many targets are frozen at a time, at most. Nearly all of a freeze is waiting for grace
/// periods of RCU, which those that wait at the same time share.
pub(super) const FREEZERS: usize = 16;
/// How many targets are thawed at a time, at most: so many may be stuck before the rest waits.
pub(super) const THAWERS: usize = 8;
/// How often a thaw that failed is tried.
const THAW_TRIES: u32 = 20;
/// The pause between two tries.
const THAW_PAUSE: Duration = Duration::from_millis(50);

/// Where a target stands. The byte is what the record says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// Not touched.
    Planned = b'.',
    /// The record cannot be kept up to date while something is frozen: it may be frozen.
    Unknown = b'?',
    /// `FIFREEZE` has been called and has not come back.
    Freezing = b'f',
    /// Frozen by us.
    Frozen = b'F',
    /// `FITHAW` has been called and has not come back.
    Thawing = b'w',
    /// Thawed by us, or found thawed.
    Thawed = b't',
    /// `FIFREEZE` failed: not frozen by us.
    Refused = b'x',
    /// `FITHAW` failed for good: still frozen.
    Lost = b'L',
}

impl State {
    const ALL: [Self; 8] = [
        Self::Planned,
        Self::Unknown,
        Self::Freezing,
        Self::Frozen,
        Self::Thawing,
        Self::Thawed,
        Self::Refused,
        Self::Lost,
    ];

    /// What a byte of the record means; an unknown one means that it may be frozen.
    pub(super) fn from_byte(byte: u8) -> Self {
        let known = Self::ALL.into_iter().find(|state| *state as u8 == byte);
        known.unwrap_or(Self::Unknown)
    }

    /// Whether a run that died here may have left the target frozen.
    pub(super) fn may_be_frozen(self) -> bool {
        !matches!(self, Self::Planned | Self::Thawed | Self::Refused)
    }

    fn settled(self) -> bool {
        !matches!(self, Self::Freezing | Self::Frozen | Self::Thawing)
    }
}

/// How a thaw went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Thawed,
    /// Nothing was to be done.
    NotFrozen,
    /// Still frozen.
    Failed(Errno),
    /// The call has not come back.
    Stuck,
}

/// What the workers wait for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Wait,
    Freeze,
    Thaw,
}

/// One target's line. Its fields are written by whoever moved its state.
#[derive(Debug)]
struct Line {
    wave: u16,
    state: AtomicU8,
    freeze_micros: AtomicU32,
    thaw_micros: AtomicU32,
    errno: AtomicI32,
}

/// All targets of one run.
pub(super) struct Ledger {
    fds: Arc<Vec<OwnedFd>>,
    lines: Vec<Line>,
    /// The first target that no freezer has taken.
    next: AtomicUsize,
    stage: Mutex<Stage>,
    bell: Condvar,
    journal: Option<Journal>,
    /// Rung whenever a worker has come to an end of something.
    ring: PipeWriter,
}

impl Ledger {
    /// All targets in freeze order, each with its wave and the state it is in.
    pub(super) fn new(
        fds: Arc<Vec<OwnedFd>>,
        plan: impl Iterator<Item = (u16, State)>,
        journal: Option<Journal>,
        ring: PipeWriter,
    ) -> Self {
        let lines = plan.map(|(wave, state)| Line {
            wave,
            state: AtomicU8::new(state as u8),
            freeze_micros: AtomicU32::new(0),
            thaw_micros: AtomicU32::new(0),
            errno: AtomicI32::new(0),
        });
        Self {
            lines: lines.collect(),
            next: AtomicUsize::new(0),
            fds,
            stage: Mutex::new(Stage::Wait),
            bell: Condvar::new(),
            journal,
            ring,
        }
    }

    /// Lets the freezer begin.
    pub(super) fn order_freeze(&self) {
        self.advance(Stage::Freeze);
    }

    /// Stops the freezer before its next target, and has everything thawed that is frozen.
    pub(super) fn order_thaw(&self) {
        self.advance(Stage::Thaw);
    }

    fn advance(&self, to: Stage) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        *stage = (*stage).max(to);
        self.bell.notify_all();
    }

    fn stage(&self) -> Stage {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, wanted: Stage) -> Stage {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        while *stage < wanted {
            stage = self
                .bell
                .wait(stage)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *stage
    }

    /// The life of a thread that freezes: takes one target after the other, until one refuses or
    /// the order to thaw comes; then it thaws like the others.
    pub(super) fn run_freezer(&self) {
        if self.wait_for(Stage::Freeze) == Stage::Freeze {
            loop {
                let index = self.next.fetch_add(1, SeqCst);
                let (Some(line), Some(fd)) = (self.lines.get(index), self.fds.get(index)) else {
                    break;
                };
                if !self.await_turn(line.wave) || !self.freeze_one(index, line, fd) {
                    break;
                }
            }
            self.ring();
        }
        self.run_thawer();
    }

    /// Waits until all earlier waves are frozen; false when that will not be.
    fn await_turn(&self, wave: u16) -> bool {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if *stage == Stage::Thaw || self.refused().is_some() {
                return false;
            }
            let mut earlier = self.lines.iter().take_while(|line| line.wave < wave);
            if earlier.all(|line| line.state.load(SeqCst) == State::Frozen as u8) {
                return true;
            }
            stage = self
                .bell
                .wait(stage)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Freezes one target; false when it or another refused, or the order to thaw has come.
    fn freeze_one(&self, index: usize, line: &Line, fd: &OwnedFd) -> bool {
        // Said before it is asked: whoever orders the thaw and then finds nothing in the works may
        // rely on it.
        self.enter(index, line, State::Freezing);
        if self.stage() == Stage::Thaw {
            self.enter(index, line, State::Planned);
            return false;
        }
        let begun = Instant::now();
        let result = sys::freeze::freeze(fd);
        line.freeze_micros.store(micros(begun), SeqCst);
        if let Err(errno) = result {
            line.errno.store(errno as i32, SeqCst);
        }
        let frozen = result.is_ok();
        self.enter(
            index,
            line,
            if frozen {
                State::Frozen
            } else {
                State::Refused
            },
        );
        // For those that wait for their turn.
        self.advance(Stage::Freeze);
        frozen
    }

    /// The life of a thread that thaws: waits for the order, then takes what is frozen, last
    /// frozen first, each target once.
    pub(super) fn run_thawer(&self) {
        self.wait_for(Stage::Thaw);
        for (index, (line, fd)) in self.lines.iter().zip(self.fds.iter()).enumerate().rev() {
            let mine = line.state.compare_exchange(
                State::Frozen as u8,
                State::Thawing as u8,
                SeqCst,
                SeqCst,
            );
            if mine.is_ok() {
                let begun = Instant::now();
                let result = thaw_stubbornly(fd);
                line.thaw_micros.store(micros(begun), SeqCst);
                let errno = result.err().map_or(0, |errno| errno as i32);
                line.errno.store(errno, SeqCst);
                let lost = !matches!(result, Ok(()) | Err(Errno::EINVAL));
                self.enter(index, line, if lost { State::Lost } else { State::Thawed });
            }
        }
        self.ring();
    }

    /// The record first: once the state is out, another thread may go on from it, and its note
    /// must come after ours.
    fn enter(&self, index: usize, line: &Line, state: State) {
        if let Some(journal) = &self.journal {
            journal.note(index, state);
        }
        line.state.store(state as u8, SeqCst);
    }

    fn ring(&self) {
        // Nobody listening means that nobody waits.
        let _ = (&self.ring).write(&[1]);
    }

    fn states(&self) -> impl Iterator<Item = State> {
        let bytes = self.lines.iter().map(|line| line.state.load(SeqCst));
        bytes.map(State::from_byte)
    }

    /// Whether every target is frozen.
    pub(super) fn all_frozen(&self) -> bool {
        self.states().all(|state| state == State::Frozen)
    }

    /// The target that refused to freeze, and why.
    pub(super) fn refused(&self) -> Option<(usize, i32)> {
        let index = self.states().position(|state| state == State::Refused)?;
        let errno = self.lines.get(index)?.errno.load(SeqCst);
        Some((index, errno))
    }

    /// How many targets a thread still has to do with, and the first of them.
    pub(super) fn unsettled(&self) -> (u32, usize) {
        let mut first = None;
        let mut count = 0;
        for (index, state) in self.states().enumerate() {
            if !state.settled() {
                first.get_or_insert(index);
                count += 1;
            }
        }
        (count, first.unwrap_or(0))
    }

    /// Whether a target may still be frozen although nobody is at work on it.
    pub(super) fn lost_any(&self) -> bool {
        self.states().any(|state| state == State::Lost)
    }

    /// How the thaw of one target went; `None` when it was not to be thawed.
    pub(super) fn outcome(&self, index: usize) -> Option<Outcome> {
        let line = self.lines.get(index)?;
        let errno = Errno::from_raw(line.errno.load(SeqCst));
        match State::from_byte(line.state.load(SeqCst)) {
            State::Thawed if errno == Errno::EINVAL => Some(Outcome::NotFrozen),
            State::Thawed => Some(Outcome::Thawed),
            State::Lost => Some(Outcome::Failed(errno)),
            State::Freezing | State::Frozen | State::Thawing => Some(Outcome::Stuck),
            State::Planned | State::Unknown | State::Refused => None,
        }
    }

    /// What each target took to freeze.
    pub(super) fn freeze_entries(&self) -> impl Iterator<Item = Entry> {
        self.lines.iter().map(|line| Entry {
            micros: line.freeze_micros.load(SeqCst),
            errno: 0,
        })
    }

    /// What each target took to thaw, and what it said.
    pub(super) fn thaw_entries(&self) -> impl Iterator<Item = Entry> {
        self.lines.iter().map(|line| Entry {
            micros: line.thaw_micros.load(SeqCst),
            errno: line.errno.load(SeqCst),
        })
    }
}

/// A thaw that fails leaves the filesystem frozen: worth some patience. `EINVAL` says that it is
/// not frozen.
fn thaw_stubbornly(fd: &OwnedFd) -> Result<(), Errno> {
    let mut last = Errno::EIO;
    for _ in 0..THAW_TRIES {
        match sys::freeze::thaw(fd) {
            Ok(()) => return Ok(()),
            Err(Errno::EINVAL) => return Err(Errno::EINVAL),
            Err(errno) => last = errno,
        }
        std::thread::sleep(THAW_PAUSE);
    }
    Err(last)
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}
