//! Waits that end when the run is told to stop. Deletes are what a run takes itself out by, so they
//! have some time left then.

use crate::error::Result;
use crate::sys::locked::LockExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Asked whether to go on; its error says why not.
pub type StopCheck = fn() -> Result<()>;

/// How often that is asked in a wait.
const ASKED: Duration = Duration::from_millis(100);
/// For so long after a stop deletes are begun: what is left then is the collector's.
const LEFT_FOR_DELETES: Duration = Duration::from_secs(10);

/// Whether to go on, for each operation.
pub(super) struct Stop {
    check: StopCheck,
    /// When it was first noticed that it is to stop.
    noticed: Mutex<Option<Instant>>,
    left_for_deletes: Duration,
}

impl Stop {
    /// `check` says when to stop.
    pub(super) fn new(check: StopCheck) -> Self {
        Self {
            check,
            noticed: Mutex::default(),
            left_for_deletes: LEFT_FOR_DELETES,
        }
    }

    /// Whether an operation may begin.
    pub(super) fn may_begin(&self, verb: &str) -> Result<()> {
        let Err(stop) = (self.check)() else {
            return Ok(());
        };
        let noticed = *self.noticed.locked().get_or_insert_with(Instant::now);
        let is_in_time = noticed.elapsed() <= self.left_for_deletes;
        match verb == "delete" && is_in_time {
            true => Ok(()),
            false => Err(stop),
        }
    }

    /// Waits so long, but not beyond a stop.
    pub(super) fn pause(&self, mut left: Duration) -> Result<()> {
        while !left.is_zero() {
            (self.check)()?;
            let part = left.min(ASKED);
            std::thread::sleep(part);
            left -= part;
        }
        (self.check)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};

    fn stopped() -> Result<()> {
        Err(Error::new(ErrorKind::Interrupted(2), "stopped"))
    }

    #[test]
    fn only_deletes_have_time_left_after_a_stop() {
        let goes_on = Stop::new(|| Ok(()));
        assert!(goes_on.may_begin("put").is_ok() && goes_on.may_begin("delete").is_ok());
        let mut stop = Stop::new(stopped);
        for verb in ["put", "get", "size", "list"] {
            let error = stop.may_begin(verb).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Interrupted(2), "{verb}");
        }
        stop.may_begin("delete").unwrap();
        stop.left_for_deletes = Duration::ZERO;
        stop.may_begin("delete").unwrap_err();
    }

    #[test]
    fn a_wait_ends_with_a_stop() {
        // Longer than any test may take.
        let error = Stop::new(stopped).pause(Duration::MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted(2));
    }
}
