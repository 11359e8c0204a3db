//! Asks a job to stop, and waits for jobs that others work on.

use super::{JobDirectory, JobId, JobRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Cancel;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// How often the record is read.
const PAUSE: Duration = Duration::from_millis(50);

impl JobDirectory {
    /// Asks a job to stop: it thaws, and takes back what it has done. Returns its record from
    /// before.
    ///
    /// # Errors
    /// Its process is another user's; and as [`JobDirectory::read`].
    pub fn ask_to_stop(&self, id: JobId) -> Result<JobRecord> {
        let before = self.look(id)?;
        // If it exits between the two calls, its record says how it ended.
        if let Some(running) = before.process.hold().filter(|_| !before.state.is_end()) {
            match running.send(Signal::SIGTERM) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => {
                    let what = format!("cannot stop job {id}");
                    return Err(Error::new(ErrorKind::Unsupported, what)
                        .with_source(errno)
                        .with_hint("it can be stopped by root, or by the user who started it"));
                }
            }
        }
        Ok(before)
    }

    /// Returns the record once the job has ended, or as it is at `until`. `cancel`: an error when
    /// the caller is to stop waiting.
    ///
    /// # Errors
    /// That of `cancel`; and as [`JobDirectory::read`].
    pub fn wait(
        &self,
        id: JobId,
        until: Option<Instant>,
        cancel: &dyn Cancel,
    ) -> Result<JobRecord> {
        loop {
            let record = self.look(id)?;
            let late = until.is_some_and(|until| Instant::now() >= until);
            if record.state.is_end() || late {
                return Ok(record);
            }
            cancel.check()?;
            std::thread::sleep(PAUSE);
        }
    }
}
