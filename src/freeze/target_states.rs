//! The state of each target of a run, and the threads that freeze and thaw, in the guardian and in
//! a process that thaws in its place. Nothing here allocates, logs or holds a lock for long once
//! the first target is frozen. Nothing is ever thawed whose state is not `Frozen`.

use super::record::Journal;
use super::state::TargetState;
use crate::sys;
use crate::sys::locked::{LockExt, LockResultExt};
use nix::errno::Errno;
use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// At most this many targets are frozen at a time. Nearly all of a freeze is waiting for grace
/// periods of RCU, and calls that wait at the same time share them.
pub(super) const FREEZERS: usize = 16;
/// At most this many targets are thawed at a time: when as many thaws are stuck, the rest waits.
pub(super) const THAWERS: usize = 8;
/// How often a thaw that failed is tried.
const THAW_TRIES: u32 = 20;
/// The pause between two tries.
const THAW_PAUSE: Duration = Duration::from_millis(50);

/// How the thaw of one target went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ThawOutcome {
    Thawed,
    /// Nothing was to be done.
    NotFrozen,
    /// Still frozen.
    Failed(Errno),
    /// The call has not returned.
    Stuck,
}

/// How long the last call for one target took, and its error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CallResult {
    /// In microseconds.
    pub(super) micros: u32,
    /// 0 for none.
    pub(super) errno: i32,
}

/// What the worker threads are to do. It only ever rises.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Wait,
    Freeze,
    Thaw,
}

/// One target. The thread that changed its state writes the other fields.
#[derive(Debug)]
struct TargetProgress {
    wave: u16,
    state: AtomicU8,
    freeze_micros: AtomicU32,
    thaw_micros: AtomicU32,
    errno: AtomicI32,
}

/// All targets of one run.
pub(super) struct TargetStates {
    fds: Arc<Vec<OwnedFd>>,
    targets: Vec<TargetProgress>,
    /// The first target that no freezer has taken.
    next: AtomicUsize,
    stage: Mutex<Stage>,
    /// Notified when the stage rises, or a target has been frozen.
    changed: Condvar,
    journal: Option<Journal>,
    /// A byte is written whenever a worker has finished a task.
    wake: PipeWriter,
}

impl TargetStates {
    /// All targets in freeze order, each with its wave and the state it is in.
    pub(super) fn new(
        fds: Arc<Vec<OwnedFd>>,
        plan: impl Iterator<Item = (u16, TargetState)>,
        journal: Option<Journal>,
        wake: PipeWriter,
    ) -> Self {
        let targets = plan.map(|(wave, state)| TargetProgress {
            wave,
            state: AtomicU8::new(state as u8),
            freeze_micros: AtomicU32::new(0),
            thaw_micros: AtomicU32::new(0),
            errno: AtomicI32::new(0),
        });
        Self {
            targets: targets.collect(),
            next: AtomicUsize::new(0),
            fds,
            stage: Mutex::new(Stage::Wait),
            changed: Condvar::new(),
            journal,
            wake,
        }
    }

    /// Lets the freezing threads begin.
    pub(super) fn order_freeze(&self) {
        self.advance(Stage::Freeze);
    }

    /// Stops each freezing thread before its next target, and has everything thawed that is frozen.
    pub(super) fn order_thaw(&self) {
        self.advance(Stage::Thaw);
    }

    fn advance(&self, to: Stage) {
        let mut stage = self.stage.locked();
        *stage = (*stage).max(to);
        self.changed.notify_all();
    }

    fn stage(&self) -> Stage {
        *self.stage.locked()
    }

    fn wait_for(&self, wanted: Stage) -> Stage {
        let mut stage = self.stage.locked();
        while *stage < wanted {
            stage = self.changed.wait(stage).unpoisoned();
        }
        *stage
    }

    /// What a freezing thread does: it takes one target after another, until a freeze fails or the
    /// order to thaw comes. Then it thaws like the other threads.
    pub(super) fn run_freezer(&self) {
        if self.wait_for(Stage::Freeze) == Stage::Freeze {
            loop {
                let index = self.next.fetch_add(1, SeqCst);
                let (Some(target), Some(fd)) = (self.targets.get(index), self.fds.get(index))
                else {
                    break;
                };
                if !self.await_turn(target.wave) || !self.freeze_one(index, target, fd) {
                    break;
                }
            }
            self.wake();
        }
        self.run_thawer();
    }

    /// Waits until all earlier waves are frozen; returns false when they will not be.
    fn await_turn(&self, wave: u16) -> bool {
        let mut stage = self.stage.locked();
        loop {
            if *stage == Stage::Thaw || self.refused().is_some() {
                return false;
            }
            let mut earlier = self.targets.iter().take_while(|target| target.wave < wave);
            if earlier.all(|target| target.state.load(SeqCst) == TargetState::Frozen as u8) {
                return true;
            }
            stage = self.changed.wait(stage).unpoisoned();
        }
    }

    /// Freezes one target; returns false when the freeze failed, or the order to thaw has come.
    fn freeze_one(&self, index: usize, target: &TargetProgress, fd: &OwnedFd) -> bool {
        // The state changes before the stage is read: a thread that orders the thaw and then finds
        // no target in this state can rely on that.
        self.enter(index, target, TargetState::Freezing);
        if self.stage() == Stage::Thaw {
            self.enter(index, target, TargetState::Planned);
            return false;
        }
        let begun = Instant::now();
        let result = sys::freeze::freeze(fd);
        target.freeze_micros.store(micros(begun), SeqCst);
        if let Err(errno) = result {
            target.errno.store(errno as i32, SeqCst);
        }
        let state = match result {
            Ok(()) => TargetState::Frozen,
            Err(_) => TargetState::Refused,
        };
        self.enter(index, target, state);
        // Wakes the threads that wait for their turn.
        self.advance(Stage::Freeze);
        result.is_ok()
    }

    /// What a thawing thread does: it waits for the order, then takes what is frozen, in reverse
    /// order, each target once.
    pub(super) fn run_thawer(&self) {
        self.wait_for(Stage::Thaw);
        let all = self.targets.iter().zip(self.fds.iter());
        for (index, (target, fd)) in all.enumerate().rev() {
            let mine = target.state.compare_exchange(
                TargetState::Frozen as u8,
                TargetState::Thawing as u8,
                SeqCst,
                SeqCst,
            );
            if mine.is_ok() {
                let begun = Instant::now();
                let result = thaw_stubbornly(fd);
                target.thaw_micros.store(micros(begun), SeqCst);
                let errno = result.err().map_or(0, |errno| errno as i32);
                target.errno.store(errno, SeqCst);
                let state = match result {
                    Ok(()) | Err(Errno::EINVAL) => TargetState::Thawed,
                    Err(_) => TargetState::Lost,
                };
                self.enter(index, target, state);
            }
        }
        self.wake();
    }

    /// Changes a target's state, in the record first: as soon as the state is visible, another
    /// thread may go on from it, and its entry in the record must come after ours.
    fn enter(&self, index: usize, target: &TargetProgress, state: TargetState) {
        if let Some(journal) = &self.journal {
            journal.note(index, state);
        }
        target.state.store(state as u8, SeqCst);
    }

    fn wake(&self) {
        // When nobody reads the pipe, nobody waits.
        let _ = (&self.wake).write(&[1]);
    }

    fn states(&self) -> impl Iterator<Item = TargetState> {
        let bytes = self.targets.iter().map(|target| target.state.load(SeqCst));
        bytes.map(TargetState::from_byte)
    }

    /// Whether every target is frozen.
    pub(super) fn all_frozen(&self) -> bool {
        self.states().all(|state| state == TargetState::Frozen)
    }

    /// The first target whose freeze failed, and its error.
    pub(super) fn refused(&self) -> Option<(usize, i32)> {
        let index = self
            .states()
            .position(|state| state == TargetState::Refused)?;
        let errno = self.targets.get(index)?.errno.load(SeqCst);
        Some((index, errno))
    }

    /// How many targets a thread still works on or has to, and the first of them.
    pub(super) fn unsettled(&self) -> (u32, usize) {
        let mut first = None;
        let mut count = 0;
        for (index, state) in self.states().enumerate() {
            if !state.is_settled() {
                first.get_or_insert(index);
                count += 1;
            }
        }
        (count, first.unwrap_or(0))
    }

    /// Whether a target is still frozen and no thread will thaw it.
    pub(super) fn lost_any(&self) -> bool {
        self.states().any(|state| state == TargetState::Lost)
    }

    /// How the thaw of one target went; `None` when it was not to be thawed.
    pub(super) fn outcome(&self, index: usize) -> Option<ThawOutcome> {
        let target = self.targets.get(index)?;
        let errno = Errno::from_raw(target.errno.load(SeqCst));
        match TargetState::from_byte(target.state.load(SeqCst)) {
            TargetState::Thawed if errno == Errno::EINVAL => Some(ThawOutcome::NotFrozen),
            TargetState::Thawed => Some(ThawOutcome::Thawed),
            TargetState::Lost => Some(ThawOutcome::Failed(errno)),
            TargetState::Freezing | TargetState::Frozen | TargetState::Thawing => {
                Some(ThawOutcome::Stuck)
            }
            TargetState::Planned | TargetState::Unknown | TargetState::Refused => None,
        }
    }

    /// How long the freeze of each target took.
    pub(super) fn freeze_results(&self) -> impl Iterator<Item = CallResult> {
        self.targets.iter().map(|target| CallResult {
            micros: target.freeze_micros.load(SeqCst),
            errno: 0,
        })
    }

    /// How long the thaw of each target took, and its error.
    pub(super) fn thaw_results(&self) -> impl Iterator<Item = CallResult> {
        self.targets.iter().map(|target| CallResult {
            micros: target.thaw_micros.load(SeqCst),
            errno: target.errno.load(SeqCst),
        })
    }
}

/// Tries again, as a thaw that fails leaves the filesystem frozen. `EINVAL` means that it is not
/// frozen.
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
