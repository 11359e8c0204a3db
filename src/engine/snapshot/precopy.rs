//! Copying while the disks are in use, pass after pass, until what is left fits into a freeze or
//! does not get less. `capture::passes` decides when that is.

use super::disk_run::DiskRun;
use super::gentle::Gentle;
use super::too_busy::{Backlog, too_busy};
use crate::capture::{Budget, LITTLE, Next, PassLog, Pipeline};
use crate::device::read::{IoPriority, Limits};
use crate::engine::monitor::{Event, Monitor};
use crate::engine::quiesce::Quiesce;
use crate::engine::run_phase::RunPhase;
use crate::engine::snapshot_options::{Consistency, OnBusy};
use crate::error::{Error, Result};
use crate::model::{Bytes, DevNumber};
use crate::store::ChunksElsewhere;
use std::sync::Arc;
use std::time::Instant;

/// What is slowed down writes at most this share of what is copied meanwhile.
const SLOW_SHARE: u64 = 4;

/// What pre-copying has left.
#[derive(Clone, Copy)]
pub enum Precopied {
    /// This much, which fits the window.
    Fits(Bytes),
    /// More than fits, and a copy that is of no one instant is accepted.
    Busy,
}

/// Pre-copying of all disks.
pub struct Precopy<'a> {
    /// The disks.
    pub disks: &'a mut [DiskRun],
    /// Where blocks go.
    pub pipeline: &'a mut Pipeline,
    /// What can slow down writers.
    pub quiesce: &'a mut dyn Quiesce,
    /// How consistent the copy must be.
    pub consistency: &'a Consistency,
    /// Most memory for what is read in the window.
    pub window_memory: Bytes,
    /// What anybody has put into the vault. What changes later than the first pass is stored.
    pub elsewhere: Option<&'a Arc<ChunksElsewhere>>,
    /// How gently disks are read.
    pub gentle: &'a Gentle,
    /// Who listens.
    pub monitor: &'a dyn Monitor,
}

impl Precopy<'_> {
    /// Copies until what is left fits the window and gets no less.
    ///
    /// # Errors
    /// `Inconsistent`: more is left than fits into a freeze.
    pub fn until_little_is_left(mut self) -> Result<Precopied> {
        let Consistency {
            max_freeze,
            on_busy,
            allow_fuzzy,
            ..
        } = *self.consistency;
        let budget = Budget {
            max_freeze,
            memory: self.window_memory,
        };
        let mut log = PassLog::default();
        let (mut throttled, mut first) = (false, true);
        loop {
            let left = self.pass(&mut log, first)?;
            first = false;
            match (log.next(budget), on_busy) {
                (Next::Again, _) => {}
                (Next::Cut, _) => return Ok(Precopied::Fits(left)),
                (Next::Busy, OnBusy::Freeze) if left <= self.window_memory => {
                    return Ok(Precopied::Fits(left));
                }
                (Next::Busy, OnBusy::Throttle) if !throttled && self.throttle(&log)? => {
                    throttled = true;
                    log = PassLog::default();
                }
                (Next::Busy, _) if allow_fuzzy => return Ok(Precopied::Busy),
                (Next::Busy, _) => return Err(self.too_busy(left, &log, budget)),
            }
        }
    }

    /// Copies what is wanted once; returns how much has changed meanwhile. The first time, which
    /// copies nearly all, everybody else's reads and writes go before. Later ones have to catch up
    /// with who writes.
    fn pass(&mut self, log: &mut PassLog, first: bool) -> Result<Bytes> {
        let monitor = self.monitor;
        let total = self.disks.iter().map(DiskRun::wanted_bytes).sum();
        monitor.tell(Event::Phase(RunPhase::Copying {
            pass: log.count() + 1,
        }));
        let begun = Instant::now();
        let mut done = Bytes(0);
        let mut progress = |bytes: Bytes| {
            done += bytes;
            monitor.tell(Event::Progress { done, total });
        };
        let is_idle = first && self.gentle.idle;
        let limits = Limits {
            priority: is_idle.then_some(IoPriority::Idle),
            ..self.gentle.limits(monitor)
        };
        let waited = self.gentle.waited();
        let mut read = Bytes(0);
        for (number, disk) in self.disks.iter_mut().enumerate() {
            let elsewhere = self.elsewhere.filter(|_| first).map(Arc::clone);
            let copied =
                disk.copy_wanted_anew(number, self.pipeline, &limits, elsewhere, &mut progress)?;
            read += copied;
        }
        // Nothing in the window waits for a pace.
        let waited = self.gentle.waited().saturating_sub(waited);
        let took = begun.elapsed().saturating_sub(waited);
        let mut left = Bytes(0);
        for disk in self.disks.iter_mut() {
            disk.want_changed()?;
            left += disk.ask_free_after_discards()?;
        }
        match is_idle {
            true => log.add_gentle(read, took, left),
            false => log.add(read, took, left),
        }
        Ok(left)
    }

    /// Slows down what writes to the disks that leave much, so far that a pass leaves a fraction of
    /// what it copies; returns whether that can be had.
    fn throttle(&mut self, log: &PassLog) -> Result<bool> {
        let busy = self
            .disks
            .iter()
            .filter(|disk| disk.wanted_bytes() > LITTLE);
        let busy: Vec<DevNumber> = busy.map(DiskRun::dev).collect();
        let Some(speed) = log.speed().filter(|_| !busy.is_empty()) else {
            return Ok(false);
        };
        let rate = Bytes(speed.0 / SLOW_SHARE / busy.len() as u64);
        self.monitor.tell(Event::Phase(RunPhase::SlowingWriters));
        self.quiesce.throttle(&busy, rate, self.monitor)
    }

    fn too_busy(&self, left: Bytes, log: &PassLog, budget: Budget) -> Error {
        let backlog = Backlog {
            left,
            fits: log.fits(budget),
            memory: budget.memory,
            reading: log.reading(),
        };
        let when = format!("after {} passes", log.count());
        too_busy(self.consistency, &backlog, &when)
    }
}
