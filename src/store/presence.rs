//! The record of a run that writes to the vault: puts it as one beat after the other, decides which
//! other runs of the same host are dead, and deletes their records. It must never delete one that
//! may be a live run's. Whether this run itself is over: `session.rs`.

use super::ask::ask_of_each;
use super::object_name::ObjectName;
use super::object_store::{ObjectLock, ObjectStore};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ObjectKind, Sealer, SessionRecord};
use crate::model::SnapshotId;
use jiff::{SignedDuration, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A session of this host is over when its newest beat is this old, where no lock says more. A
/// clone of this host may have the same name, and its locks may not be seen here.
const LEASE: SignedDuration = SignedDuration::from_hours(24);
/// Most records that are put before one is locked.
const MAX_TRIES: u32 = 3;
/// How many beats stay beside the newest one in a store whose listings may be late: with one a
/// minute, a listing that is a quarter of an hour late still shows one, with minutes to spare. And
/// a run goes on asking for the oldest one until every listing shows one that came after it.
const BEATS_KEPT: usize = 20;

/// The record that says that the run is there.
pub(super) struct Presence {
    store: Arc<dyn ObjectStore>,
    sealer: Sealer,
    pub(super) run: SnapshotId,
    record: SessionRecord,
    /// The number of the next beat: none is used twice.
    next: u32,
    held: Option<LockedRecord>,
    /// Older beats that are still there, the oldest first.
    older: VecDeque<ObjectName>,
}

/// A record that was put, and its lock, where there are locks.
pub(super) struct LockedRecord {
    name: ObjectName,
    lock: Option<ObjectLock>,
}

/// A beat that was put, and the one before, which is still there.
pub(super) struct PutBeat {
    pub(super) put: ObjectName,
    pub(super) before: Option<LockedRecord>,
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
            older: VecDeque::new(),
        }
    }

    /// The store that it is put into.
    pub(super) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Puts the record as the next beat and locks it.
    pub(super) fn put(&mut self) -> Result<PutBeat> {
        if self.held.is_some() {
            self.record.heartbeat = Timestamp::now();
        }
        for _ in 0..MAX_TRIES {
            let name = ObjectName::session(self.run, self.next);
            self.next += 1;
            let bytes = self.record.encode(&self.sealer)?;
            let put = self.store.put(&name, bytes.into());
            match put.map(|()| self.store.lock(&name)) {
                Ok(Ok(lock)) => {
                    let put = name.clone();
                    let before = self.held.replace(LockedRecord { name, lock });
                    return Ok(PutBeat { put, before });
                }
                // Another run found it before it was locked, and deletes it.
                Ok(Err(error)) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::NotFound) => {
                }
                // A copy of this machine, memory and all, has put it: it is that run's.
                Err(error) if error.kind() == ErrorKind::Exists => return Err(error),
                Ok(Err(error)) | Err(error) => {
                    // An error does not say that it is not there.
                    let _ = self.store.delete(&name);
                    return Err(error);
                }
            }
        }
        Err(
            Error::new(ErrorKind::Busy, "other runs take this run's session away")
                .with_hint("run it again; what is in the list is as it was"),
        )
    }
}

impl Presence {
    /// Lets a beat go that a newer one has taken the place of. `oldest` is told, before any goes,
    /// which one will be the oldest.
    pub(super) fn let_go(&mut self, before: LockedRecord, oldest: impl FnOnce(ObjectName)) {
        let kept = match self.store.capabilities().confirms {
            true => BEATS_KEPT,
            false => 0,
        };
        let LockedRecord { name, lock } = before;
        self.older.push_back(name);
        let count = self.older.len().saturating_sub(kept);
        let gone: Vec<ObjectName> = self.older.drain(..count).collect();
        let held = self.held.as_ref().map(|held| &held.name);
        if let Some(name) = self.older.front().or(held) {
            oldest(name.clone());
        }
        for name in &gone {
            // A vault may permit no deletes: the newest beat counts, and it is there.
            let _ = self.store.delete(name);
        }
        drop(lock);
    }

    /// Deletes a beat; the one before is the newest again.
    pub(super) fn take_back(&mut self, beat: PutBeat) {
        let _ = self.store.delete(&beat.put);
        self.held = beat.before;
    }

    /// Removes what killed runs of this host have put in part.
    pub(super) fn clear_unfinished(&self) {
        self.store.clear_unfinished();
    }

    /// Deletes the sessions of killed runs of this host. What they have put stays for the
    /// collector. Best effort; a session that may be live is never deleted:
    ///
    /// - One that is locked is live. One whose lock can be taken is over if it is of this boot, or
    ///   if the last beat it has written of is older than a lease.
    /// - Where there are no locks, one is over when its newest beat is older than a lease by the
    ///   store's clock, whose time now is that of the record that this run has just put. A run that
    ///   slept for so long notices: its beat is gone.
    pub(super) fn clear_the_dead(&self) {
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
        let own = ObjectName::session(self.run, 0);
        let has_locks = self.held.as_ref().is_some_and(|held| held.lock.is_some());
        for object in listed
            .iter()
            .filter(|object| run_of(&object.name) != run_of(&own))
        {
            let beat = newest.get(run_of(&object.name)).copied();
            let has_ended = now
                .zip(beat)
                .is_some_and(|(now, beat)| now.duration_since(beat) > LEASE);
            // Nothing that it says could end it.
            if !has_locks && !has_ended {
                continue;
            }
            let bytes = self
                .store
                .get(&object.name, ObjectKind::Session.most_stored());
            let record = bytes.and_then(|bytes| SessionRecord::decode(&bytes, &self.sealer));
            // One that cannot be read may be anybody's.
            let Some(record) = record.ok().filter(|record| record.host == self.record.host) else {
                continue;
            };
            let is_left_behind = self.is_left_behind(&record);
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
        // Nobody holds a lock on a record that stays.
        let mut all: Vec<&ObjectName> = self.older.iter().collect();
        all.extend(self.held.as_ref().map(|held| &held.name));
        let delete = |name: &&ObjectName| self.store.delete(name);
        let _ = ask_of_each(self.store.as_ref(), &all, &|| Ok(()), delete, |_, _| Ok(()));
    }
}
