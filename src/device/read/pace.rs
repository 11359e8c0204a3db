//! How gently a disk is read while it is in use. Nothing of it is used while anything is frozen or
//! held.

use crate::model::{Bytes, Meter};
use crate::sys::locked::LockExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How fast disks are read, all of a run together.
#[derive(Debug)]
pub struct Pace {
    meter: Meter,
    /// How long was waited for it.
    waited: Mutex<Duration>,
}

impl Pace {
    /// So many bytes a second.
    pub fn new(a_second: Bytes) -> Self {
        Self {
            meter: Meter::new(a_second.0),
            waited: Mutex::default(),
        }
    }

    /// How long readers have waited for it so far.
    pub fn waited(&self) -> Duration {
        *self.waited.locked()
    }

    /// How long to wait before the next read begins.
    pub(super) fn wait(&self) -> Duration {
        self.meter.wait(Instant::now())
    }

    /// Notes that a read of so many bytes begins.
    pub(super) fn take(&self, bytes: Bytes) {
        self.meter.take(Instant::now(), bytes.0);
    }

    /// Waits for so long.
    pub(super) fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
        *self.waited.locked() += time;
    }
}
