//! Who is writing to the vault. A collector leaves alone what may belong to a live session. The
//! record of one is locked as long as its process lives, so that what a killed run has left can be
//! told from it, whatever process has its number now.

use super::name::ObjectName;
use super::object_store::{ObjectLock, ObjectStore};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{MAX_OBJECT, SessionRecord};
use crate::model::SnapshotId;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a long run says that it is still there.
const BEAT: Duration = Duration::from_secs(60);
/// A session of another boot of this host is over when nothing was heard of it for so long: a
/// clone of this host may have the same name, and its locks may not be seen here.
const SILENCE: SignedDuration = SignedDuration::from_hours(24);
/// Most records that are put before one is locked.
const MAX_TRIES: u32 = 3;

/// A run's presence in the vault, until it is dropped.
pub struct Session {
    store: Arc<dyn ObjectStore>,
    run: SnapshotId,
    record: SessionRecord,
    beat: u32,
    last: Instant,
    lock: Option<ObjectLock>,
}

impl Session {
    pub(super) fn begin(
        store: Arc<dyn ObjectStore>,
        run: SnapshotId,
        record: SessionRecord,
    ) -> Result<Self> {
        clear_the_dead(store.as_ref(), &record);
        let mut session = Self {
            store,
            run,
            record,
            beat: 0,
            last: Instant::now(),
            lock: None,
        };
        session.put(0)?;
        Ok(session)
    }

    /// Call it now and then: says that the run is still there when it is time to.
    pub fn heartbeat(&mut self) -> Result<()> {
        if self.last.elapsed() < BEAT {
            return Ok(());
        }
        self.last = Instant::now();
        self.record.heartbeat = Timestamp::now();
        let before = ObjectName::session(self.run, self.beat);
        let put = self.put(self.beat + 1);
        put.and(self.store.delete(&before))
    }

    /// Puts the record as this beat, and locks it.
    fn put(&mut self, beat: u32) -> Result<()> {
        for beat in beat..beat + MAX_TRIES {
            let name = ObjectName::session(self.run, beat);
            // First: an error does not say that it is not there.
            self.beat = beat;
            self.store.put(&name, self.record.encode()?.into())?;
            match self.store.lock(&name) {
                Ok(lock) => {
                    self.lock = lock;
                    return Ok(());
                }
                // Another run found it before it was locked, and takes it away.
                Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Err(
            Error::new(ErrorKind::Busy, "other runs take this run's session away")
                .with_hint("nothing was stored; run it again"),
        )
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A record that stays is told from a live one by its lock.
        let _ = self.store.delete(&ObjectName::session(self.run, self.beat));
    }
}

/// Takes away what killed runs of this host have left: their sessions, and objects put in part.
/// What they have put whole stays for the collector. Best effort.
fn clear_the_dead(store: &dyn ObjectStore, own: &SessionRecord) {
    store.clear_unfinished();
    for object in store.list(&ObjectName::sessions()).unwrap_or_default() {
        let bytes = store.get(&object.name, MAX_OBJECT);
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
