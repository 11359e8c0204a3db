//! How long a check waits for what may never answer, and who may stop it.

use crate::error::{Error, ErrorKind, Result};
use crate::store::layer::StopCheck;
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::time::{Duration, Instant};

/// How often it is asked whether to stop.
pub(super) const ASKED: Duration = Duration::from_millis(100);

/// How long is waited, and who may stop it.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// For each small try.
    pub small: Duration,
    /// For the largest object to go one way.
    pub large: Duration,
    /// For what was put to be seen.
    pub late: Duration,
    /// Asked while it waits; its error ends the check.
    pub stop: StopCheck,
}

impl CheckOptions {
    /// As `check` does it.
    pub fn until(stop: StopCheck) -> Self {
        Self {
            small: Duration::from_secs(60),
            large: Duration::from_secs(600),
            late: Duration::from_secs(10),
            stop,
        }
    }

    /// Does `work` at `place` in a thread of its own, and waits as long as for a small try. One
    /// that does not end is left to its thread.
    ///
    /// # Errors
    /// Its error; of kind `Interrupted` when it is to stop; when time is up.
    pub fn within<T: Send + 'static>(
        &self,
        place: &str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let done = self.wait(self.small, work)?;
        done.ok_or_else(|| no_answer(place, self.small))
    }

    /// The same, for so long; `None`: time is up.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        most: Duration,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<Option<T>> {
        let until = Instant::now() + most;
        let (done, answer) = bounded(1);
        let thread = std::thread::Builder::new().name("check".into());
        let thread = thread.spawn(move || {
            // Nobody may wait for it any more.
            let _ = done.send(work());
        });
        thread.map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot start a thread").with_source(error)
        })?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match answer.recv_timeout(left.min(ASKED)) {
                Ok(result) => return result.map(Some),
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => (self.stop)()?,
                Err(_) => return Ok(None),
            }
        }
    }
}

/// The error where time is up.
pub(super) fn no_answer(place: &str, most: Duration) -> Error {
    let what = format!("{place} did not answer within {} s", most.as_secs_f32());
    Error::new(ErrorKind::Io, what).with_hint("is it up, and can this host reach it?")
}
