//! When pre-copying has done what it can. Pure: numbers in, a decision out. The passes right before
//! the freeze have limits of their own (`engine/snapshot/cut.rs`).

use crate::model::{BLOCK_SIZE, Bytes};
use std::time::Duration;

/// What may be left for the window.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// How long the filesystems may stand frozen.
    pub max_freeze: Duration,
    /// How much memory there is for what is read in the window.
    pub memory: Bytes,
}

/// What to do after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Copy what changed in another pass.
    Again,
    /// The rest fits: freeze and read it.
    Cut,
    /// The rest does not shrink and does not fit.
    Busy,
}

/// What the passes so far have shown.
#[derive(Clone, Debug, Default)]
pub struct PassLog {
    passes: Vec<Bytes>,
    /// Of passes that read as fast as the window will.
    fast: Speed,
    /// Of passes that read gently.
    gentle: Speed,
}

/// Bytes read and the time that took.
#[derive(Clone, Copy, Debug, Default)]
struct Speed {
    read: Bytes,
    took: Duration,
}

impl Speed {
    fn add(&mut self, read: Bytes, took: Duration) {
        self.read += read;
        self.took += took;
    }

    /// Bytes a second, 1 at least; `None` where too little was read to tell.
    fn a_second(self) -> Option<Bytes> {
        let known = self.read > LITTLE && !self.took.is_zero();
        known.then(|| Bytes(((self.read.0 as f64 / self.took.as_secs_f64()) as u64).max(1)))
    }
}

/// So little is read in the window without a thought.
pub const LITTLE: Bytes = Bytes(4 << 20);
/// Most passes before giving up.
const MAX_PASSES: usize = 16;
/// A pass that leaves more than this share of what the one before left does not pay.
const SHRINK: f64 = 0.7;
/// So many in a row that do not pay, and no more are made.
const STALLS: usize = 2;

impl PassLog {
    /// A pass read this much in this time, and this much has changed meanwhile.
    pub fn add(&mut self, read: Bytes, took: Duration, left: Bytes) {
        self.fast.add(read, took);
        self.passes.push(left);
    }

    /// The same of a pass that others' reads and writes went before: the window is faster.
    pub fn add_gentle(&mut self, read: Bytes, took: Duration, left: Bytes) {
        self.gentle.add(read, took);
        self.passes.push(left);
    }

    /// How many passes there were.
    pub fn count(&self) -> usize {
        self.passes.len()
    }

    /// What fits into the window: memory for it, and a quarter of the time at the speed seen so
    /// far. The freezing itself and a slow moment need the rest.
    pub fn fits(&self, budget: Budget) -> Bytes {
        // Nothing read yet says nothing about the speed.
        let by_time = match self.speed() {
            Some(speed) => (speed.0 as f64 * budget.max_freeze.as_secs_f64() / 4.0) as u64,
            None => LITTLE.0,
        };
        Bytes(by_time.max(BLOCK_SIZE).min(budget.memory.0))
    }

    /// What to do now.
    pub fn next(&self, budget: Budget) -> Next {
        let Some(left) = self.passes.last() else {
            return Next::Again;
        };
        let fits = self.fits(budget);
        if left.0 <= fits.0.min(LITTLE.0) {
            return Next::Cut;
        }
        let stalled = self.stalled();
        match left.0 <= fits.0 {
            _ if stalled == 0 && self.count() < MAX_PASSES => Next::Again,
            true => Next::Cut,
            // Another may help: what writes in bursts can end one.
            false if stalled < STALLS && self.count() < MAX_PASSES => Next::Again,
            false => Next::Busy,
        }
    }

    /// How many passes in a row, to the last, did not help.
    fn stalled(&self) -> usize {
        let steps = self.passes.windows(2).rev();
        steps
            .take_while(|step| (step[1].0 as f64) >= SHRINK * step[0].0 as f64)
            .count()
    }

    /// How long the rest takes to read at the speed seen so far; `None` where nothing is known.
    pub fn reading(&self) -> Option<Duration> {
        let (left, speed) = (self.passes.last()?, self.speed()?);
        Some(Duration::from_secs_f64(left.0 as f64 / speed.0 as f64))
    }

    /// Bytes a second, 1 at least; `None` while too little has been read to tell.
    pub fn speed(&self) -> Option<Bytes> {
        self.fast.a_second().or(self.gentle.a_second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const BUDGET: Budget = Budget {
        max_freeze: Duration::from_secs(2),
        memory: Bytes(64 * MIB),
    };

    fn log(speed_mib: u64, left: &[u64]) -> PassLog {
        let mut log = PassLog::default();
        for left in left {
            log.add(
                Bytes(speed_mib * MIB),
                Duration::from_secs(1),
                Bytes(left * MIB),
            );
        }
        log
    }

    #[test]
    fn a_quiet_disk_is_cut_at_once() {
        assert_eq!(log(500, &[0]).next(BUDGET), Next::Cut);
        assert_eq!(log(500, &[3]).next(BUDGET), Next::Cut);
    }

    #[test]
    fn what_shrinks_is_copied_again_and_what_fits_is_cut_when_it_no_longer_does() {
        assert_eq!(log(500, &[900]).next(BUDGET), Next::Again);
        assert_eq!(log(500, &[900, 300]).next(BUDGET), Next::Again);
        assert_eq!(log(500, &[900, 50, 48]).next(BUDGET), Next::Cut);
    }

    #[test]
    fn what_never_fits_is_busy_and_never_an_endless_loop() {
        assert_eq!(log(500, &[900, 890]).next(BUDGET), Next::Again);
        assert_eq!(log(500, &[900, 890, 880]).next(BUDGET), Next::Busy);
        assert_eq!(log(500, &[900, 890, 500, 490]).next(BUDGET), Next::Again);
        assert_eq!(
            log(5, &[90, 89, 88]).next(BUDGET),
            Next::Busy,
            "64 MiB at 5 MiB/s is 13 s"
        );
        let mut endless = PassLog::default();
        for _ in 0..100 {
            endless.add(Bytes(MIB), Duration::from_secs(1), Bytes(1000 * MIB));
        }
        assert_eq!(endless.next(BUDGET), Next::Busy);
    }

    #[test]
    fn how_long_the_rest_takes_is_told_once_the_speed_is_known() {
        assert_eq!(
            log(100, &[900, 300]).reading(),
            Some(Duration::from_secs(3))
        );
        assert_eq!(log(100, &[]).reading(), None);
        assert_eq!(log(1, &[900]).reading(), None, "too little was read");
    }

    #[test]
    fn memory_bounds_the_window_whatever_the_speed() {
        assert_eq!(log(100_000, &[0]).fits(BUDGET), Bytes(64 * MIB));
        assert_eq!(log(8, &[0]).fits(BUDGET), Bytes(4 * MIB));
    }
}
