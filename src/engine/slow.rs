//! Slowing down what writes to busy disks, around something else that holds them still: while
//! blocks are copied, and only then. It must never be in force while filesystems are written out or
//! frozen, or applications held: what they wait for would have to wait too.

use super::monitor::{Event, Monitor};
use super::quiesce::Quiesce;
use crate::error::Result;
use crate::freeze::{Throttle, ThrottleOptions};
use crate::model::{Bytes, DevNumber};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Slows down when it is asked to.
pub struct Slow {
    inner: Box<dyn Quiesce>,
    program: PathBuf,
    run_dir: PathBuf,
    throttle: Option<Throttle>,
    /// Applications are held: they are let go the sooner the less has to wait.
    holding: bool,
}

impl Slow {
    /// Around `inner`. `program` becomes the throttle's keeper, `run_dir` keeps its note.
    pub fn new(inner: Box<dyn Quiesce>, program: PathBuf, run_dir: PathBuf) -> Self {
        Self {
            inner,
            program,
            run_dir,
            throttle: None,
            holding: false,
        }
    }

    /// Does what must not be slowed down.
    fn at_full_speed<T>(&mut self, work: impl FnOnce(&mut dyn Quiesce) -> T) -> T {
        if let Some(throttle) = &self.throttle {
            throttle.lift();
        }
        work(self.inner.as_mut())
    }
}

impl Quiesce for Slow {
    fn slow(&mut self, disks: &[DevNumber], rate: Bytes, monitor: &dyn Monitor) -> Result<bool> {
        // Of a copy before this one: it was for other disks.
        self.throttle = None;
        let options = ThrottleOptions {
            program: self.program.clone(),
            run_dir: self.run_dir.clone(),
            disks: disks.to_vec(),
            rate,
        };
        match Throttle::begin(&options) {
            Ok(throttle) => {
                let count = throttle.count();
                monitor.tell(Event::Note(format!(
                    "slowed down what writes, to {rate} a second for each disk ({count} limits of \
                     control groups)"
                )));
                self.throttle = Some(throttle);
                Ok(true)
            }
            Err(error) => {
                monitor.tell(Event::Warning(format!(
                    "what writes cannot be slowed down: {error}: going on as with --on-busy fail"
                )));
                Ok(false)
            }
        }
    }

    fn settle(&mut self) -> Result<()> {
        self.at_full_speed(|inner| inner.settle())?;
        if let Some(throttle) = self.throttle.as_ref().filter(|_| !self.holding) {
            throttle.press();
        }
        Ok(())
    }

    fn hold(&mut self, monitor: &dyn Monitor) -> Result<bool> {
        self.holding = self.at_full_speed(|inner| inner.hold(monitor))?;
        Ok(self.holding)
    }

    fn release(&mut self, cut: bool, monitor: &dyn Monitor) -> Result<bool> {
        self.holding = false;
        let released = self.inner.release(cut, monitor);
        if cut {
            self.throttle = None;
        }
        released
    }

    fn freeze(&mut self) -> Result<Instant> {
        self.at_full_speed(|inner| inner.freeze())
    }

    fn thaw(&mut self) -> Result<Duration> {
        self.inner.thaw()
    }

    fn freezes(&self) -> bool {
        self.inner.freezes()
    }
}
