//! Which runs are writing to the vault. A collector must leave alone what may belong to a live
//! session.
//!
//! A session is a lease: a record that is put again each minute, and whose age is measured by the
//! store's clock. A store in a directory also locks the record for as long as its process lives, so
//! that a killed run's session is over at once, whatever process has its pid now.

use super::presence::Presence;
use crate::error::{Error, ErrorKind, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a run says that it is still there.
pub(super) const BEAT: Duration = Duration::from_secs(60);
/// Most beats in a row that may fail: after that, others may take the run for dead.
const MOST_MISSED: u32 = 10;
/// How long the end of a run waits for its record to be deleted. A vault that hangs keeps the
/// record; its lock ends with the process, and the next run of the host deletes it.
const LEAVE: Duration = Duration::from_secs(2);

/// A run's presence in the vault, until it is dropped. A thread of its own says each minute that
/// the run is still there, whatever the run does meanwhile.
pub struct Session {
    run: SnapshotId,
    /// The thread ends when this is dropped.
    live: Option<Sender<()>>,
    /// Hangs up when the thread has ended.
    gone: Receiver<()>,
    missed: Arc<Mutex<Missed>>,
}

/// The beats that failed since the last good one.
#[derive(Default)]
struct Missed {
    beats: u32,
    last: Option<Error>,
}

impl Session {
    /// `every`: the time between two beats.
    pub(super) fn begin(mut presence: Presence, every: Duration) -> Result<Self> {
        presence.clear_unfinished();
        presence.put()?;
        presence.clear_the_dead();
        let run = presence.run;
        let (live, live_out) = bounded::<()>(0);
        let (gone_in, gone) = bounded::<()>(0);
        let missed = Arc::<Mutex<Missed>>::default();
        let noted = Arc::clone(&missed);
        let beat_on = move || {
            while live_out.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let beat = presence.beat();
                noted
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .note(beat);
            }
            drop(presence);
            drop(gone_in);
        };
        let thread = std::thread::Builder::new().name("session".into());
        thread.spawn(beat_on).map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot start a thread").with_source(error)
        })?;
        Ok(Self {
            run,
            live: Some(live),
            gone,
            missed,
        })
    }

    /// The run whose session it is.
    pub(super) fn run(&self) -> SnapshotId {
        self.run
    }

    /// An error when many beats in a row have failed: what the run has put may be taken for a dead
    /// run's.
    pub(super) fn check(&self) -> Result<()> {
        let missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        match &missed.last {
            Some(error) if missed.beats >= MOST_MISSED => Err(error.retold().context(format!(
                "{} heartbeats of this run in a row could not be put into the vault",
                missed.beats
            ))),
            _ => Ok(()),
        }
    }
}

impl Missed {
    fn note(&mut self, beat: Result<()>) {
        self.last = beat.err();
        self.beats = match self.last {
            Some(_) => self.beats.saturating_add(1),
            None => 0,
        };
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.live.take();
        let _ = self.gone.recv_timeout(LEAVE);
    }
}
