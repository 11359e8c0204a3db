//! Who is writing to the vault. A collector leaves alone what may belong to a live session. The
//! record of one is locked as long as its process lives, so that what a killed run has left can be
//! told from it, whatever process has its number now.

use super::name::ObjectName;
use super::object_store::{ObjectLock, ObjectStore};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ObjectKind, SessionRecord};
use crate::model::SnapshotId;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use jiff::{SignedDuration, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a run says that it is still there.
pub(super) const BEAT: Duration = Duration::from_secs(60);
/// So many beats in a row may fail: then nobody may take the run for one that lives.
const MOST_MISSED: u32 = 10;
/// How long the end of a run waits for its record to be taken away. A vault that hangs keeps the
/// record; its lock ends with the process, and the next run of the host takes it away.
const LEAVE: Duration = Duration::from_secs(2);
/// A session of another boot of this host is over when nothing was heard of it for so long: a
/// clone of this host may have the same name, and its locks may not be seen here.
const SILENCE: SignedDuration = SignedDuration::from_hours(24);
/// Most records that are put before one is locked.
const MAX_TRIES: u32 = 3;

/// A run's presence in the vault, until it is dropped. A thread of its own says each minute that
/// the run is still there, whatever the run does meanwhile.
pub struct Session {
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
    pub(super) fn begin(
        store: Arc<dyn ObjectStore>,
        run: SnapshotId,
        record: SessionRecord,
        every: Duration,
    ) -> Result<Self> {
        clear_the_dead(store.as_ref(), &record);
        let mut presence = Presence {
            store,
            run,
            record,
            next: 0,
            held: None,
        };
        presence.put()?;
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
            live: Some(live),
            gone,
            missed,
        })
    }

    /// An error when the vault could not be told for many beats that the run is there: what it has
    /// put may be taken for a dead run's.
    pub(super) fn check(&self) -> Result<()> {
        let missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        match &missed.last {
            Some(error) if missed.beats >= MOST_MISSED => Err(error.retold().context(format!(
                "the vault could not be told {} times in a row that this run is at work",
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

/// The record that says that the run is there.
struct Presence {
    store: Arc<dyn ObjectStore>,
    run: SnapshotId,
    record: SessionRecord,
    /// The number of the next beat: none is used twice.
    next: u32,
    held: Option<LockedRecord>,
}

/// A record that was put, and its lock, where there are locks.
struct LockedRecord {
    name: ObjectName,
    _lock: Option<ObjectLock>,
}

impl Presence {
    fn beat(&mut self) -> Result<()> {
        self.record.heartbeat = Timestamp::now();
        // The one before stays until the new one is there and locked.
        if let Some(before) = self.put()? {
            // A vault may permit no deletes: the newest beat counts, and it is there.
            let _ = self.store.delete(&before.name);
        }
        Ok(())
    }

    /// Puts the record as the next beat and locks it; answers the one before.
    fn put(&mut self) -> Result<Option<LockedRecord>> {
        for _ in 0..MAX_TRIES {
            let name = ObjectName::session(self.run, self.next);
            self.next += 1;
            let bytes = self.record.encode()?;
            let put = self.store.put(&name, bytes.into());
            match put.map(|()| self.store.lock(&name)) {
                Ok(Ok(lock)) => return Ok(self.held.replace(LockedRecord { name, _lock: lock })),
                // Another run found it before it was locked, and takes it away.
                Ok(Err(error)) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::NotFound) => {
                }
                Ok(Err(error)) | Err(error) => {
                    // An error does not say that it is not there.
                    let _ = self.store.delete(&name);
                    return Err(error);
                }
            }
        }
        Err(
            Error::new(ErrorKind::Busy, "other runs take this run's session away")
                .with_hint("nothing was stored; run it again"),
        )
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            // A record that stays is told from a live one by its lock.
            let _ = self.store.delete(&held.name);
        }
    }
}

/// Takes away what killed runs of this host have left: their sessions, and objects put in part.
/// What they have put whole stays for the collector. Best effort.
fn clear_the_dead(store: &dyn ObjectStore, own: &SessionRecord) {
    store.clear_unfinished();
    for object in store.list(&ObjectName::sessions()).unwrap_or_default() {
        let bytes = store.get(&object.name, ObjectKind::Session.most_stored());
        let Ok(record) = bytes.and_then(|bytes| SessionRecord::decode(&bytes)) else {
            // Nobody knows whose it is.
            continue;
        };
        let same_boot = record.boot_id == own.boot_id && !own.boot_id.is_empty();
        let silent = own.started.duration_since(record.heartbeat) > SILENCE;
        if record.host == own.host
            && (same_boot || silent)
            && let Ok(Some(_held)) = store.lock(&object.name)
        {
            let _ = store.delete(&object.name);
        }
    }
}
