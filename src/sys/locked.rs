//! Locks between threads, taken even where a thread has panicked while it held them.
//!
//! A value behind a lock of this program is changed in one step, so it is whole whenever a panic
//! unwinds. Whoever joins the thread reports the panic. To refuse the lock as well would make one
//! panic into many, also in what thaws, puts back and takes out.

use std::sync::{LockResult, Mutex, MutexGuard, PoisonError};

/// Takes a lock whether or not it is poisoned.
pub trait LockExt<T> {
    /// Waits for the lock and takes it.
    fn locked(&self) -> MutexGuard<'_, T>;
}

impl<T> LockExt<T> for Mutex<T> {
    fn locked(&self) -> MutexGuard<'_, T> {
        self.lock().unpoisoned()
    }
}

/// What the standard library returns of a lock, where it says whether the lock is poisoned.
pub trait LockResultExt<T> {
    /// The value whether or not the lock is poisoned.
    fn unpoisoned(self) -> T;
}

impl<T> LockResultExt<T> for LockResult<T> {
    fn unpoisoned(self) -> T {
        self.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_taken_after_a_panic_in_it() {
        let lock = Mutex::new(1);
        let panicked = std::thread::scope(|scope| {
            let work = || {
                *lock.locked() = 2;
                let _held = lock.locked();
                std::panic::resume_unwind(Box::new("while it is held"));
            };
            scope.spawn(work).join()
        });
        assert!(panicked.is_err() && lock.is_poisoned());
        assert_eq!(*lock.locked(), 2);
        assert_eq!(lock.into_inner().unpoisoned(), 2);
    }
}
