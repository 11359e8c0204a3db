//! Tries failed operations again, for stores at the other end of a network: the one place where
//! that is done. A local store never gets this layer: a disk's error is an answer.

use super::stop::{Stop, StopCheck};
use super::{Around, Layered, StoreCall};
use crate::error::{ErrorKind, Result};
use crate::store::object_store::ObjectStore;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often and how fast is tried again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// How often an operation is tried in all; at least once.
    pub tries: u32,
    /// The same until the store has answered for the first time: who mistyped its address shall
    /// hear of it soon.
    pub first_tries: u32,
    /// The longest pause before the second try. Each later one may be twice as long.
    pub first_pause: Duration,
    /// The longest pause there is.
    pub longest_pause: Duration,
    /// No try begins later than this after the first failure, but that `first_tries` are made.
    pub end: Duration,
}

impl RetryPolicy {
    /// For a store at the other end of a network: up to five minutes, for a run that has taken
    /// hours shall outlive a store that is started again.
    pub const DISTANT: Self = Self {
        tries: 20,
        first_tries: 3,
        first_pause: Duration::from_millis(200),
        longest_pause: Duration::from_secs(20),
        end: Duration::from_secs(300),
    };

    /// For a store that is tried while somebody waits.
    pub const SHORT: Self = Self {
        tries: 3,
        first_tries: 3,
        longest_pause: Duration::from_secs(2),
        end: Duration::from_secs(15),
        ..Self::DISTANT
    };

    /// How long to wait after so many tries: at random, so that many hosts do not come back
    /// together.
    fn pause(&self, tried: u32) -> Duration {
        let doubled = 1_u32
            .checked_shl(tried.saturating_sub(1))
            .unwrap_or(u32::MAX);
        let most = self.first_pause.saturating_mul(doubled);
        let mut chance = [0; 4];
        // Without random numbers the pause is the longest.
        let part = match getrandom::fill(&mut chance) {
            Ok(()) => f64::from(u32::from_le_bytes(chance)) / f64::from(u32::MAX),
            Err(_) => 1.0,
        };
        most.min(self.longest_pause).mul_f64(part)
    }
}

/// A store whose failed operations are tried again.
pub type RetryStore = Layered<Retrier>;

/// What is done again, and whether the store was there before.
pub struct Retrier {
    policy: RetryPolicy,
    answered: AtomicBool,
    stop: Stop,
}

impl RetryStore {
    /// `policy` says how often.
    pub fn new(inner: Arc<dyn ObjectStore>, policy: RetryPolicy) -> Self {
        Self {
            inner,
            layer: Retrier::new(policy, || Ok(())),
        }
    }

    /// The same; `stop` is asked before each operation, and while one waits to be tried again.
    /// Deletes are begun for some seconds after it has said to stop.
    #[must_use]
    pub fn until(mut self, stop: StopCheck) -> Self {
        self.layer.stop = Stop::new(stop);
        self
    }
}

impl Retrier {
    /// Tries again as `policy` says, until `stop` says otherwise.
    pub fn new(policy: RetryPolicy, stop: StopCheck) -> Self {
        Self {
            policy,
            answered: AtomicBool::new(false),
            stop: Stop::new(stop),
        }
    }

    /// The same for a store that is known to be there.
    #[must_use]
    pub fn of_one_that_answers(self) -> Self {
        self.answered.store(true, Ordering::Relaxed);
        self
    }

    /// Does an operation, again where that may help.
    pub fn attempt<T>(&self, verb: &str, mut operation: impl FnMut() -> Result<T>) -> Result<T> {
        let policy = self.policy;
        // From the first failure on, however long that try took: a slow link is not a dead one.
        let mut failing_since = None;
        let mut tried = 1;
        loop {
            self.stop.may_begin(verb)?;
            let error = match operation() {
                Err(error) if may_pass(error.kind()) => error,
                other => {
                    self.answered.store(true, Ordering::Relaxed);
                    return other;
                }
            };
            let most = match self.answered.load(Ordering::Relaxed) {
                true => policy.tries,
                false => policy.first_tries,
            };
            let pause = policy.pause(tried);
            let since = *failing_since.get_or_insert_with(Instant::now);
            let is_late = since.elapsed() + pause > policy.end && tried >= policy.first_tries;
            if tried >= most || is_late {
                return Err(match tried {
                    1 => error,
                    _ => error.and_said(format!("tried {tried} times")),
                });
            }
            self.stop.pause(pause)?;
            tried += 1;
        }
    }
}

impl Around for Retrier {
    fn around(
        &self,
        call: StoreCall<'_>,
        operation: &mut dyn FnMut() -> Result<u64>,
    ) -> Result<()> {
        self.attempt(call.verb, operation).map(drop)
    }
}

/// Whether the same operation may succeed a moment later.
fn may_pass(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Io | ErrorKind::Busy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::store::{Blob, FaultStore, MemoryStore, ObjectName, Operation};
    use std::sync::atomic::AtomicU32;

    const POLICY: RetryPolicy = RetryPolicy {
        tries: 3,
        first_tries: 3,
        first_pause: Duration::from_micros(10),
        longest_pause: Duration::from_micros(30),
        end: Duration::from_secs(300),
    };

    fn name() -> ObjectName {
        ObjectName::parse("index/x").unwrap()
    }

    /// A store with one object, whose moments fail as `fails` says until so many have; and how
    /// many operations of it are begun.
    fn failing(
        times: u32,
        kind: ErrorKind,
        fails: fn(&Operation<'_>) -> bool,
    ) -> (RetryStore, Arc<AtomicU32>) {
        let inner: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new());
        inner.put(&name(), Blob::from_static(b"1")).unwrap();
        let (failed, begun) = (AtomicU32::new(0), Arc::new(AtomicU32::new(0)));
        let counted = Arc::clone(&begun);
        let faulty = FaultStore::new(inner, move |operation| {
            if !operation.done {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            if fails(&operation) && failed.fetch_add(1, Ordering::SeqCst) < times {
                return Err(Error::new(kind, "the test says so"));
            }
            Ok(())
        });
        (RetryStore::new(Arc::new(faulty), POLICY), begun)
    }

    #[test]
    fn what_passes_is_tried_again_and_what_stays_is_not() {
        for (times, kind, tries) in [
            (0, ErrorKind::Io, 1),
            (2, ErrorKind::Io, 3),
            (3, ErrorKind::Io, 3),
            (1, ErrorKind::Busy, 2),
            (1, ErrorKind::NotFound, 1),
            (1, ErrorKind::Damaged, 1),
            (1, ErrorKind::NoSpace, 1),
        ] {
            let (store, begun) = failing(times, kind, |operation| !operation.done);
            let got = store.get(&name(), 10);
            assert_eq!(got.is_ok(), times < tries, "{kind:?}");
            assert_eq!(begun.load(Ordering::SeqCst), tries, "{kind:?}");
        }
    }

    #[test]
    fn a_first_try_that_took_long_is_followed_by_another() {
        let tries = Arc::new(AtomicU32::new(0));
        let (counted, length) = (Arc::clone(&tries), Duration::from_millis(50));
        let slow = FaultStore::new(Arc::new(MemoryStore::new()), move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(length);
            Err(Error::new(ErrorKind::Io, "the test says so"))
        });
        let policy = RetryPolicy {
            first_tries: 1,
            end: length / 2,
            ..POLICY
        };
        let store = RetryStore::new(Arc::new(slow), policy);
        // As for a store that has answered before.
        store.layer.answered.store(true, Ordering::SeqCst);
        store.get(&name(), 10).unwrap_err();
        assert_eq!(tries.load(Ordering::SeqCst), 2, "and then it is late");
    }

    #[test]
    fn a_put_whose_answer_was_lost_is_done() {
        let (store, begun) = failing(1, ErrorKind::Io, |operation| operation.done);
        let other = ObjectName::parse("index/y").unwrap();
        store.put(&other, Blob::from_static(b"2")).unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        assert_eq!(store.get(&other, 10).unwrap(), "2");
        // The first try finds a name that is taken: that is an error.
        let taken = store.put(&other, Blob::from_static(b"3")).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::Exists);
    }

    #[test]
    fn nothing_is_listed_twice() {
        let (store, begun) = failing(1, ErrorKind::Io, |operation| operation.done);
        let mut seen = 0;
        let listed = store.list(&ObjectName::parse("index").unwrap(), &mut |_| {
            seen += 1;
            Ok(())
        });
        assert_eq!(listed.unwrap_err().kind(), ErrorKind::Io);
        assert_eq!((seen, begun.load(Ordering::SeqCst)), (1, 1));
        // Nothing was handed out yet: it is tried again.
        let (store, begun) = failing(1, ErrorKind::Io, |operation| !operation.done);
        let found = store.list_all(&ObjectName::parse("index").unwrap());
        assert_eq!((found.unwrap().len(), begun.load(Ordering::SeqCst)), (1, 2));
    }

    #[test]
    fn who_is_stopped_does_not_try_again() {
        let (store, begun) = failing(2, ErrorKind::Io, |operation| !operation.done);
        static STOPPED: AtomicBool = AtomicBool::new(false);
        let store = store.until(|| match STOPPED.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Interrupted(2), "stopped")),
            false => Ok(()),
        });
        // It fails once before it is stopped.
        let stopped = store.layer.attempt("get", || {
            STOPPED.store(true, Ordering::SeqCst);
            store.inner.get(&name(), 10)
        });
        assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted(2));
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        // Nothing else begins, but that what was put is taken out: once, as it fails.
        let error = store.size(&name()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted(2));
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        store.delete(&name()).unwrap_err();
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        store.delete(&name()).unwrap();
    }

    #[test]
    fn a_store_that_never_answered_is_left_soon() {
        let hasty = RetryPolicy {
            first_tries: 2,
            ..POLICY
        };
        let (inner, begun) = failing(6 + 8, ErrorKind::Io, |operation| !operation.done);
        let store = RetryStore::new(Arc::new(inner), hasty);
        // The store below tries three times by itself.
        assert!(store.get(&name(), 10).is_err());
        assert_eq!(begun.load(Ordering::SeqCst), 2 * 3);
        // From the first answer on it has more tries.
        store.layer.answered.store(true, Ordering::Relaxed);
        store.get(&name(), 10).unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 6 + 9);
    }

    #[test]
    fn pauses_are_bounded() {
        for tried in [1, 2, 3, 31, 32, 33, u32::MAX] {
            assert!(POLICY.pause(tried) <= POLICY.longest_pause);
        }
        assert!(POLICY.pause(1) <= POLICY.first_pause);
    }
}
