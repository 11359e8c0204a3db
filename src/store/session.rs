//! Who is writing to the vault. A collector leaves alone what may belong to a live session.

use super::name::ObjectName;
use super::object_store::ObjectStore;
use crate::error::Result;
use crate::format::SessionRecord;
use crate::model::SnapshotId;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a long run says that it is still there.
const BEAT: Duration = Duration::from_secs(60);

/// A run's presence in the vault, until it is dropped.
pub struct Session {
    store: Arc<dyn ObjectStore>,
    run: SnapshotId,
    record: SessionRecord,
    beat: u32,
    last: Instant,
}

impl Session {
    pub(super) fn begin(
        store: Arc<dyn ObjectStore>,
        run: SnapshotId,
        record: SessionRecord,
    ) -> Result<Self> {
        store.put(&ObjectName::session(run, 0), record.encode()?.into())?;
        Ok(Self {
            store,
            run,
            record,
            beat: 0,
            last: Instant::now(),
        })
    }

    /// Call it now and then: says that the run is still there when it is time to.
    pub fn heartbeat(&mut self) -> Result<()> {
        if self.last.elapsed() < BEAT {
            return Ok(());
        }
        self.last = Instant::now();
        self.record.heartbeat = Timestamp::now();
        let next = ObjectName::session(self.run, self.beat + 1);
        self.store.put(&next, self.record.encode()?.into())?;
        self.store
            .delete(&ObjectName::session(self.run, self.beat))?;
        self.beat += 1;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A record that stays is told from a live one by its last heartbeat.
        let _ = self.store.delete(&ObjectName::session(self.run, self.beat));
    }
}
