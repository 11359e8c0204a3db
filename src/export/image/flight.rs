//! Chunks on their way from the vault. Who wants one of them waits here, and no longer than he
//! says: a vault that hangs must not hang its readers.

use super::source::{ChunkSource, Landed};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlockIndex, Run};
use crate::sys::locked::{LockExt, LockResultExt};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// Chunks that are got with one request.
pub(super) struct Flight {
    pub(super) source: Arc<ChunkSource>,
    pub(super) run: Run,
    /// A thread has taken it up.
    begun: AtomicBool,
    /// Somebody waits for it, or has.
    wanted: AtomicBool,
    /// How many wait for it.
    waiting: AtomicUsize,
    /// A bit for each of its blocks that somebody has waited for.
    awaited: AtomicU64,
    landed: Mutex<Option<Vec<Landed>>>,
    arrived: Condvar,
}

/// What a flight has brought for one block.
pub(super) enum Brought {
    /// Its bytes.
    Plain(Arc<Vec<u8>>),
    /// Nothing: it is to be asked for by itself.
    Alone,
}

impl Flight {
    /// One that nobody has taken up. `wanted`: somebody waits for it.
    pub(super) fn new(source: &Arc<ChunkSource>, run: Run, wanted: bool) -> Arc<Self> {
        Arc::new(Self {
            source: Arc::clone(source),
            run,
            begun: AtomicBool::new(false),
            wanted: AtomicBool::new(wanted),
            waiting: AtomicUsize::new(0),
            awaited: AtomicU64::new(0),
            landed: Mutex::default(),
            arrived: Condvar::new(),
        })
    }

    /// Takes it up; false: another thread has.
    pub(super) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::AcqRel)
    }

    /// Notes that somebody waits for it; true: it should be taken up before others now.
    pub(super) fn want(&self) -> bool {
        !self.wanted.swap(true, Ordering::AcqRel) && !self.begun.load(Ordering::Acquire)
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_given_up(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Hands over what came of its chunks, to all that wait; nobody begins to wait any more. What
    /// nobody waits for is let go: who waits for another flight, too, holds no more than his own.
    pub(super) fn land(&self, mut landed: Vec<Landed>) {
        let awaited = self.awaited.load(Ordering::Acquire);
        let_go(&mut landed, awaited);
        *self.landed.locked() = Some(landed);
        if !self.is_given_up() {
            self.arrived.notify_all();
        }
    }

    /// Waits for a block of it.
    ///
    /// # Errors
    /// Why the block cannot be had; `Io` when the vault has not answered in time.
    pub(super) fn wait(&self, block: BlockIndex, until: Instant) -> Result<Brought> {
        let mut landed = self.landed.locked();
        loop {
            if let Some(all) = landed.as_deref() {
                let number = block.0.checked_sub(self.run.start.0);
                return match number.and_then(|number| all.get(number as usize)) {
                    Some(Landed::Plain(plain)) => Ok(Brought::Plain(Arc::clone(plain))),
                    Some(Landed::Bad(error)) => Err(error.retold()),
                    Some(Landed::Alone) | None => Ok(Brought::Alone),
                };
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.is_late(block));
            }
            landed = self.arrived.wait_timeout(landed, left).unpoisoned().0;
        }
    }

    fn is_late(&self, block: BlockIndex) -> Error {
        let name = &self.source.name;
        let what = format!(
            "block {} of {name}: the vault did not answer in time",
            block.0
        );
        Error::new(ErrorKind::Io, what)
            .at("read", name)
            .at_offset(block.offset())
            .with_hint("look whether the vault's disk, or the way to it, still works")
    }
}

/// Lets go of what nobody has waited for.
fn let_go(landed: &mut [Landed], awaited: u64) {
    for (number, one) in (0..).zip(landed) {
        if awaited & bit(number) == 0 {
            *one = Landed::Alone;
        }
    }
}

/// The bit of the block of this number in a flight. The last one is for all that are too many.
fn bit(number: u64) -> u64 {
    1 << number.min(63)
}

/// One who waits for a flight, until this is dropped.
pub(super) struct Waiter(Arc<Flight>);

impl Waiter {
    /// One more, who waits for this block. The pool is held meanwhile: a flight whose blocks are
    /// kept, or known not to be had, is not found any more.
    pub(super) fn of(flight: Arc<Flight>, block: BlockIndex) -> Self {
        let number = block.0.saturating_sub(flight.run.start.0);
        flight.awaited.fetch_or(bit(number), Ordering::AcqRel);
        flight.waiting.fetch_add(1, Ordering::AcqRel);
        Self(flight)
    }

    /// What he waits for.
    pub(super) fn flight(&self) -> &Arc<Flight> {
        &self.0
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_waited_for_is_held() {
        let kept: Arc<Vec<u8>> = Arc::new(vec![7; 100]);
        let mut landed: Vec<Landed> = (0..70).map(|_| Landed::Plain(Arc::clone(&kept))).collect();
        let_go(&mut landed, bit(0) | bit(31) | bit(65));
        let held = (0..70).filter(|at| matches!(landed[*at], Landed::Plain(_)));
        // Those that are too many are held together.
        let expected: Vec<usize> = [0, 31].into_iter().chain(63..70).collect();
        assert_eq!(held.collect::<Vec<_>>(), expected);
        assert_eq!(Arc::strong_count(&kept), 1 + expected.len());
    }
}
