//! Slowing down what writes to busy disks, around another layer: while blocks are copied, and only
//! then. It must never be in force while filesystems are flushed or frozen, or applications are
//! quiesced: what they wait for would have to wait too.

use super::Quiesce;
use crate::engine::monitor::{Event, Monitor};
use crate::error::Result;
use crate::freeze::{Throttle, ThrottleOptions};
use crate::model::{Bytes, DevNumber};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Slows down writers when it is asked to.
pub struct ThrottledQuiesce {
    inner: Box<dyn Quiesce>,
    program: PathBuf,
    run_dir: PathBuf,
    throttle: Option<Throttle>,
    /// Applications are quiesced: they resume the sooner the less has to wait.
    quiesced: bool,
}

impl ThrottledQuiesce {
    /// Around `inner`. `program` becomes the throttle watcher; the note lies in `run_dir`.
    pub fn new(inner: Box<dyn Quiesce>, program: PathBuf, run_dir: PathBuf) -> Self {
        Self {
            inner,
            program,
            run_dir,
            throttle: None,
            quiesced: false,
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

impl Quiesce for ThrottledQuiesce {
    fn throttle(
        &mut self,
        disks: &[DevNumber],
        rate: Bytes,
        monitor: &dyn Monitor,
    ) -> Result<bool> {
        // The one of an earlier copy was for other disks.
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

    fn flush(&mut self, monitor: &dyn Monitor) -> Result<()> {
        self.at_full_speed(|inner| inner.flush(monitor))?;
        if let Some(throttle) = self.throttle.as_ref().filter(|_| !self.quiesced) {
            throttle.press();
        }
        Ok(())
    }

    fn quiesce_apps(&mut self, monitor: &dyn Monitor) -> Result<bool> {
        self.quiesced = self.at_full_speed(|inner| inner.quiesce_apps(monitor))?;
        Ok(self.quiesced)
    }

    fn resume_apps(&mut self, cut: bool, monitor: &dyn Monitor) -> Result<bool> {
        self.quiesced = false;
        let resumed = self.inner.resume_apps(cut, monitor);
        if cut {
            self.throttle = None;
        }
        resumed
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
