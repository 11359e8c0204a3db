//! Whether this run is still taken for a live one (whether another is dead: `presence.rs`). A
//! collector must leave alone what may belong to a live session; a run that was taken for dead must
//! not commit.
//!
//! A session is a lease: a record that is put again each minute, and whose age others measure by
//! the store's clock. A run whose record is gone, or that could not say for long that it is there
//! (it slept, or the vault was out of reach), is over, and stays so: what it has put may be deleted
//! by now. A store in a directory also locks the record for as long as its process lives, so that a
//! killed run's session is over at once, whatever process has its pid now.
//!
//! It asks for the oldest beat that it has kept, by its name. A machine that was paused for longer
//! than a lease puts new beats when it goes on, and the listing by which others take it for dead
//! may be too old to show them: what these delete are the old ones.

use super::ask::ask_both;
use super::object_name::ObjectName;
use super::object_store::ObjectStore;
use super::presence::Presence;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{SnapshotId, counted};
use crate::sys::locked::LockExt;
use crate::sys::machine::since_boot;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A run is over when its newest beat is older: half a lease. In the other half others do not take
/// it for dead yet, whatever was on its way when it looked: a manifest arrives within minutes.
const MOST_SILENT: Duration = Duration::from_secs(12 * 60 * 60);
/// How often a beat that is not found is asked for before it is taken for gone. One answer may be
/// of a copy of the store that lags behind, and a run may have cost hours; a beat that was deleted
/// does not come back, so asking again costs seconds only.
const ASKED: u32 = 3;
/// How long the end of a run waits for its record to be deleted. A vault that hangs keeps the
/// record; its lock ends with the process, and the next run of the host deletes it.
const LEAVE: Duration = Duration::from_secs(2);

/// How long ago something began that goes on in a suspend.
pub type SleeplessClock = Arc<dyn Fn() -> Result<Duration> + Send + Sync>;

/// How a session goes by time.
#[derive(Clone)]
pub struct SessionPace {
    /// The time between two beats.
    pub every: Duration,
    /// How long to wait before a beat that was not found is asked for again.
    pub again: Duration,
    /// By which the age of a beat is measured.
    pub clock: SleeplessClock,
}

impl Default for SessionPace {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(60),
            again: Duration::from_secs(2),
            clock: Arc::new(since_boot),
        }
    }
}

/// A run's presence in the vault, until it is dropped. A thread of its own says each minute that
/// the run is still there, whatever the run does meanwhile.
pub struct Session {
    run: SnapshotId,
    /// The thread ends when this is dropped.
    live: Option<Sender<()>>,
    /// Hangs up when the thread has ended.
    gone: Receiver<()>,
    pulse: Arc<Pulse>,
}

/// What the run knows of its own beats.
struct Pulse {
    store: Arc<dyn ObjectStore>,
    pace: SessionPace,
    beats: Mutex<Beats>,
}

/// The beats that are there.
struct Beats {
    /// The oldest one that was not let go.
    oldest: ObjectName,
    /// When putting the newest one began: the store has noted no earlier time.
    at: Duration,
    /// Why no newer one could be put.
    failed: Option<Error>,
    /// Why the run is over, once it is.
    over: Option<Over>,
}

/// Why a run is over.
#[derive(Clone, Copy)]
enum Over {
    /// Its oldest beat was deleted by somebody else.
    Gone,
    /// Its newest beat was so old.
    Silent(Duration),
}

impl Session {
    /// Puts the first beat, and goes on. `beside` is done once the beat is there, while the
    /// sessions of the dead are looked for.
    pub(super) fn begin(
        mut presence: Presence,
        pace: SessionPace,
        beside: impl FnOnce() + Send,
    ) -> Result<Self> {
        presence.clear_unfinished();
        let at = (pace.clock)()?;
        let first = presence.put()?;
        let beside = || {
            beside();
            Ok(())
        };
        ask_both(beside, || {
            presence.clear_the_dead();
            Ok(())
        })?;
        let run = presence.run;
        let pulse = Arc::new(Pulse {
            store: presence.store(),
            beats: Mutex::new(Beats {
                oldest: first.put,
                at,
                failed: None,
                over: None,
            }),
            pace,
        });
        let (live, live_out) = bounded::<()>(0);
        let (gone_in, gone) = bounded::<()>(0);
        let own = Arc::clone(&pulse);
        let beat_on = move || {
            while live_out.recv_timeout(own.pace.every) == Err(RecvTimeoutError::Timeout) {
                let beat = own.beat(&mut presence);
                own.beats.locked().note(beat);
            }
            drop(presence);
            drop(own);
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
            pulse,
        })
    }

    /// The run whose session it is.
    pub fn run(&self) -> SnapshotId {
        self.run
    }

    /// An error when the run is over as far as this host knows. Nothing is asked of the store.
    pub(super) fn check(&self) -> Result<()> {
        self.pulse.check()
    }

    /// The same, and the store is asked whether the oldest beat is there.
    pub fn ask(&self) -> Result<()> {
        self.pulse.ask()
    }
}

impl Pulse {
    /// Puts the next beat, if the run is not over. The oldest one is asked for after that, before
    /// any goes: a new one must not hide that the old ones were deleted, however long the machine
    /// stood still between.
    fn beat(&self, presence: &mut Presence) -> Result<()> {
        self.check()?;
        let at = (self.pace.clock)()?;
        let beat = presence.put()?;
        if let Err(error) = self.ask() {
            presence.take_back(beat);
            return Err(error);
        }
        self.beats.locked().at = at;
        // The one before stays until the new one is there and locked.
        if let Some(before) = beat.before {
            presence.let_go(before, |oldest| self.beats.locked().oldest = oldest);
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let now = (self.pace.clock)()?;
        let mut beats = self.beats.locked();
        let silent = now.saturating_sub(beats.at);
        if beats.over.is_none() && silent > MOST_SILENT {
            beats.over = Some(Over::Silent(silent));
        }
        beats.over.map_or(Ok(()), |over| Err(beats.end(over)))
    }

    /// Only an answer about the one name counts: a listing may be late.
    fn ask(&self) -> Result<()> {
        let mut misses = 0;
        loop {
            self.check()?;
            let name = self.beats.locked().oldest.clone();
            match self.store.size(&name) {
                // The answer may have come late.
                Ok(_) => return self.check(),
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Err(_) => {}
            }
            let mut beats = self.beats.locked();
            if beats.oldest != name {
                // This run's own thread has let it go meanwhile.
                continue;
            }
            misses += 1;
            if misses >= ASKED {
                beats.over = Some(Over::Gone);
                continue;
            }
            drop(beats);
            std::thread::sleep(self.pace.again);
        }
    }
}

impl Beats {
    fn note(&mut self, beat: Result<()>) {
        // What came before the end is why it came.
        if self.over.is_none() {
            self.failed = beat.err();
        }
    }

    fn end(&self, over: Over) -> Error {
        let what = match over {
            Over::Gone => "this run's session is gone from the vault: the run was taken for dead, \
                           and what it has put may be deleted by others"
                .to_owned(),
            Over::Silent(long) => format!(
                "the vault has not heard of this run for {}: it may be taken for dead, and \
                 what it has put be deleted by others",
                counted(long.as_secs() / 3600, "hour")
            ),
        };
        let error = Error::new(ErrorKind::Failed, what)
            .with_hint("the snapshots that are there are as they were; run it again");
        match &self.failed {
            Some(failed) => error.and_said(format!("its last heartbeat failed: {failed}")),
            None => error,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.live.take();
        let _ = self.gone.recv_timeout(LEAVE);
    }
}
