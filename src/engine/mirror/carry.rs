//! Carries segments from the source to the second place, several at once. Each is checked on the
//! way, and what is damaged is left where it is.

use super::lacking::Standing;
use crate::engine::monitor::{Event, Monitor};
use crate::engine::verify::is_damage;
use crate::error::{Error, Result};
use crate::model::{Bytes, ObjectId};
use crate::store::{MirrorWriter, StoredObject, Vault};
use crate::sys::locked::{LockExt, LockResultExt};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Puts an object where it is missing, or in place of what is wrong there.
pub(super) fn put(
    writer: &MirrorWriter<'_>,
    object: &StoredObject,
    standing: &Standing,
) -> Result<()> {
    match standing {
        Standing::Wrong(_) => writer.replace(object),
        Standing::There | Standing::Missing => writer.put(object),
    }
}

/// A segment to carry.
pub(super) struct Load {
    pub(super) segment: ObjectId,
    /// How many slots must be in it.
    pub(super) slots: u32,
    /// Whether something else stands under its name.
    pub(super) replaces: bool,
}

/// What became of one.
pub(super) enum Carried {
    /// It is there, with so many bytes.
    Put(ObjectId, u64),
    /// It is damaged in the source, or not there, as text.
    Damaged(ObjectId, String),
}

/// How far all is.
pub(super) struct CarryProgress {
    done: AtomicU64,
    total: u64,
}

impl CarryProgress {
    /// Of so many bytes, as far as that is known.
    pub(super) fn of(total: u64) -> Self {
        Self {
            done: AtomicU64::new(0),
            total,
        }
    }

    fn add(&self, bytes: u64, monitor: &dyn Monitor) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        monitor.tell(Event::Progress {
            done: Bytes(done),
            total: Bytes(self.total.max(done)),
        });
    }
}

/// Both places, and who listens.
pub(super) struct Carrier<'a> {
    pub(super) source: &'a Vault,
    pub(super) writer: &'a MirrorWriter<'a>,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) progress: &'a CarryProgress,
}

impl Carrier<'_> {
    /// Carries all of them.
    ///
    /// # Errors
    /// The first that is no damage of the source. What was carried until then is there.
    pub(super) fn carry(&self, loads: &[Load]) -> Result<Vec<Carried>> {
        let next = AtomicUsize::new(0);
        let carried = Mutex::new(Vec::new());
        let failure = Mutex::new(None);
        let work = || {
            while failure.locked().is_none()
                && let Some(load) = loads.get(next.fetch_add(1, Ordering::Relaxed))
            {
                match self.one(load) {
                    Ok(one) => carried.locked().push(one),
                    Err(error) => {
                        failure.locked().get_or_insert(error);
                        return;
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.writer.puts_at_once().min(loads.len()) {
                let thread = std::thread::Builder::new().name("mirror".into());
                // A host without a thread left still carries, one after another.
                let _ = thread.spawn_scoped(scope, work);
            }
            work();
        });
        let failure: Option<Error> = failure.into_inner().unpoisoned();
        match failure {
            Some(error) => Err(error),
            None => Ok(carried.into_inner().unpoisoned()),
        }
    }

    fn one(&self, load: &Load) -> Result<Carried> {
        self.monitor.check()?;
        let id = load.segment;
        let object = match self.source.stored_segment(id, load.slots) {
            Ok(object) => object,
            Err(error) if is_damage(&error) => return Ok(Carried::Damaged(id, error.to_string())),
            Err(error) => return Err(error),
        };
        match load.replaces {
            true => self.writer.replace(&object)?,
            false => self.writer.put(&object)?,
        }
        self.progress.add(object.length(), self.monitor);
        Ok(Carried::Put(id, object.length()))
    }
}
