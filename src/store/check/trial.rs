//! A try, within a bound: what it puts is noted before, and deleted in the end, whatever happened
//! between. A store that does not answer is left to its thread.

use super::bounds::{ASKED, CheckOptions, no_answer};
use crate::error::{ErrorKind, Result};
use crate::model::SnapshotId;
use crate::store::object_name::ObjectName;
use crate::store::object_store::{Blob, ObjectStore};
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, bounded};
use jiff::Timestamp;
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most tries of a put whose folder another check takes away.
const MAX_TRIES: u32 = 3;
/// How long each of what was put is waited for to be deleted, and all of it.
const TO_DELETE: Duration = Duration::from_secs(15);
const TO_CLEAN: Duration = Duration::from_secs(60);

/// A store that is tried, and what was put into it.
pub(super) struct Trial {
    store: Arc<dyn ObjectStore>,
    options: CheckOptions,
    run: SnapshotId,
    next: u32,
    /// What may be there.
    put: Vec<ObjectName>,
    /// What threads that were given up may still put.
    late: Vec<LatePut>,
    /// Whether something was given up.
    has_hung: Cell<bool>,
}

/// A put that nobody waited for.
struct LatePut {
    name: ObjectName,
    /// Hangs up when it has ended.
    ended: Receiver<()>,
}

impl Trial {
    pub(super) fn new(store: Arc<dyn ObjectStore>, options: CheckOptions) -> Self {
        let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        Self {
            store,
            options,
            run: SnapshotId::generate(now),
            next: 0,
            put: Vec::new(),
            late: Vec::new(),
            has_hung: Cell::new(false),
        }
    }

    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// From here on this store is tried; it has the same objects.
    pub(super) fn use_store(&mut self, store: Arc<dyn ObjectStore>) {
        self.store = store;
    }

    /// All names under which something was put or may have been.
    pub(super) fn used(&self) -> Vec<ObjectName> {
        let numbers = 1..=self.next;
        numbers
            .map(|number| ObjectName::check(self.run, number))
            .collect()
    }

    /// The same bounds for what must be done though it is to stop.
    pub(super) fn options_to_clean(&self) -> CheckOptions {
        CheckOptions {
            stop: || Ok(()),
            large: TO_CLEAN,
            small: self.options.small.min(TO_DELETE),
            ..self.options
        }
    }

    pub(super) fn options(&self) -> CheckOptions {
        self.options
    }

    /// A name that no one has used.
    pub(super) fn fresh(&mut self) -> ObjectName {
        self.next += 1;
        ObjectName::check(self.run, self.next)
    }

    /// Notes that something may be there under a name.
    pub(super) fn may_be_there(&mut self, name: &ObjectName) {
        if !self.put.contains(name) {
            self.put.push(name.clone());
        }
    }

    /// Does `work` in a thread of its own, and waits so long for it.
    ///
    /// # Errors
    /// Its error; of kind `Interrupted` when it is to stop; when time is up.
    pub(super) fn within<T: Send + 'static>(
        &self,
        most: Duration,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match self.options.wait(most, work)? {
            Some(done) => Ok(done),
            None => {
                self.has_hung.set(true);
                Err(no_answer(&self.store.location(), most))
            }
        }
    }

    /// Whether something was given up: what hung once may hang each time.
    pub(super) fn has_hung(&self) -> bool {
        self.has_hung.get()
    }

    /// The same with the store, as long as a small try may take.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn ObjectStore) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.store);
        self.within(self.options.small, move || work(store.as_ref()))
    }

    /// Puts something that `clean` deletes.
    pub(super) fn put(&mut self, name: &ObjectName, bytes: Blob, most: Duration) -> Result<()> {
        let (store, at) = (Arc::clone(&self.store), name.clone());
        self.put_by(name, most, move || {
            let mut put = store.put(&at, bytes.clone());
            for _ in 1..MAX_TRIES {
                match put {
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        put = store.put(&at, bytes.clone());
                    }
                    other => return other,
                }
            }
            put
        })
    }

    /// The same, put by `work`.
    pub(super) fn put_by<T: Send + 'static>(
        &mut self,
        name: &ObjectName,
        most: Duration,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.may_be_there(name);
        let (ended, has_ended) = bounded::<()>(0);
        let result = self.within(most, move || {
            let _ended = ended;
            work()
        });
        if has_ended.try_recv() == Err(TryRecvError::Empty) {
            self.late.push(LatePut {
                name: name.clone(),
                ended: has_ended,
            });
        }
        result
    }

    /// Waits, unless it is to stop.
    pub(super) fn pause(&self, time: Duration) -> Result<()> {
        (self.options.stop)()?;
        std::thread::sleep(time.min(ASKED));
        Ok(())
    }

    /// Deletes one of what was put.
    pub(super) fn delete(&mut self, name: &ObjectName) -> Result<()> {
        let at = name.clone();
        self.ask(move |store| store.delete(&at))?;
        self.put.retain(|one| one != name);
        Ok(())
    }

    /// What was refused is not there; where the store lists what is.
    fn forget_what_is_not_there(&mut self) {
        if let Ok(listed) = self.ask(|store| store.list_all(&ObjectName::checks())) {
            let is_listed = |name: &ObjectName| listed.iter().any(|object| object.name == *name);
            self.put.retain(is_listed);
        }
    }

    /// Deletes all that was put; returns what is or may be left. It does not stop: what is left
    /// would have to be deleted by hand.
    pub(super) fn clean(&mut self) -> Vec<String> {
        self.options = self.options_to_clean();
        let until = Instant::now() + TO_CLEAN;
        // What is put after it was deleted stays.
        let mut late = std::mem::take(&mut self.late);
        late.retain(|one| one.ended.recv_timeout(TO_DELETE) == Err(RecvTimeoutError::Timeout));
        for name in self.put.clone() {
            if Instant::now() < until {
                // What stays is named.
                let _ = self.delete(&name);
            }
        }
        if !self.put.is_empty() {
            self.forget_what_is_not_there();
        }
        self.put.extend(late.into_iter().map(|one| one.name));
        self.put.sort();
        self.put.dedup();
        self.put.iter().map(ToString::to_string).collect()
    }
}
