//! Which runs are writing to the vault. A collector must leave alone what may belong to a live
//! session.
//!
//! A session is a lease: a record that is put again each minute, and whose age is measured by the
//! store's clock. A store in a directory also locks the record for as long as its process lives, so
//! that a killed run's session is over at once, whatever process has its pid now.

use super::name::ObjectName;
use super::object_store::{ObjectLock, ObjectStore};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ObjectKind, Sealer, SessionRecord};
use crate::model::SnapshotId;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often a run says that it is still there.
pub(super) const BEAT: Duration = Duration::from_secs(60);
/// Most beats in a row that may fail: after that, others may take the run for dead.
const MOST_MISSED: u32 = 10;
/// How long the end of a run waits for its record to be deleted. A vault that hangs keeps the
/// record; its lock ends with the process, and the next run of the host deletes it.
const LEAVE: Duration = Duration::from_secs(2);
/// A session of this host is over when its newest beat is this old, where no lock says more. A
/// clone of this host may have the same name, and its locks may not be seen here.
const LEASE: SignedDuration = SignedDuration::from_hours(24);
/// Most records that are put before one is locked.
const MAX_TRIES: u32 = 3;

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
        presence.store.clear_unfinished();
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

/// The record that says that the run is there.
pub(super) struct Presence {
    store: Arc<dyn ObjectStore>,
    sealer: Sealer,
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
    /// Nothing is put yet.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        sealer: Sealer,
        run: SnapshotId,
        record: SessionRecord,
    ) -> Self {
        Self {
            store,
            sealer,
            run,
            record,
            next: 0,
            held: None,
        }
    }

    fn beat(&mut self) -> Result<()> {
        self.record.heartbeat = Timestamp::now();
        // The one before stays until the new one is there and locked.
        if let Some(before) = self.put()? {
            // A vault may permit no deletes: the newest beat counts, and it is there.
            let _ = self.store.delete(&before.name);
        }
        Ok(())
    }

    /// Puts the record as the next beat and locks it; returns the one before.
    fn put(&mut self) -> Result<Option<LockedRecord>> {
        for _ in 0..MAX_TRIES {
            let name = ObjectName::session(self.run, self.next);
            self.next += 1;
            let bytes = self.record.encode(&self.sealer)?;
            let put = self.store.put(&name, bytes.into());
            match put.map(|()| self.store.lock(&name)) {
                Ok(Ok(lock)) => return Ok(self.held.replace(LockedRecord { name, _lock: lock })),
                // Another run found it before it was locked, and deletes it.
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

impl Presence {
    /// Deletes the sessions of killed runs of this host. What they have put stays for the
    /// collector. Best effort; a session that may be live is never deleted:
    ///
    /// - One that is locked is live. One whose lock can be taken is over if it is of this boot, or
    ///   if the last beat it has written of is older than a lease.
    /// - Where there are no locks, one is over when its newest beat is older than a lease by the
    ///   store's clock, whose time now is that of the record that this run has just put. A run that
    ///   slept for so long puts its session back with its next beat.
    fn clear_the_dead(&self) {
        let listed = self.store.list_all(&ObjectName::sessions());
        let listed = listed.unwrap_or_default();
        let now = self.held.as_ref().and_then(|own| {
            let mut objects = listed.iter();
            objects.find(|object| object.name == own.name)
        });
        let now = now.map(|object| object.modified);
        let mut newest: HashMap<&str, Timestamp> = HashMap::new();
        for object in &listed {
            let beat = newest
                .entry(run_of(&object.name))
                .or_insert(object.modified);
            *beat = object.modified.max(*beat);
        }
        for object in &listed {
            let bytes = self
                .store
                .get(&object.name, ObjectKind::Session.most_stored());
            let record = bytes.and_then(|bytes| SessionRecord::decode(&bytes, &self.sealer));
            // One that cannot be read may be anybody's.
            let Some(record) = record.ok().filter(|record| record.host == self.record.host) else {
                continue;
            };
            let is_left_behind = self.is_left_behind(&record);
            let beat = newest.get(run_of(&object.name)).copied();
            let has_ended = now
                .zip(beat)
                .is_some_and(|(now, beat)| now.duration_since(beat) > LEASE);
            if !is_left_behind && !has_ended {
                continue;
            }
            let Ok(lock) = self.store.lock(&object.name) else {
                continue;
            };
            let is_over = match lock {
                Some(_) => is_left_behind,
                None => has_ended,
            };
            // A run that has put this and has not locked it yet notices: the lock is held here.
            if is_over {
                let _ = self.store.delete(&object.name);
            }
            drop(lock);
        }
    }

    /// Whether a record of this host that nobody holds a lock on is a dead run's.
    fn is_left_behind(&self, record: &SessionRecord) -> bool {
        let own = &self.record;
        let same_boot = record.boot_id == own.boot_id && !own.boot_id.is_empty();
        same_boot || own.started.duration_since(record.heartbeat) > LEASE
    }
}

/// What the names of all beats of a run begin with.
fn run_of(session: &ObjectName) -> &str {
    let name = session.as_str();
    name.rsplit_once('-').map_or(name, |(run, _)| run)
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            // Nobody holds a lock on a record that stays.
            let _ = self.store.delete(&held.name);
        }
    }
}
