//! Writing filesystems out before they are frozen, in a thread of the guardian's process: a device
//! that never answers would keep the engine's own process from its end. It never runs while
//! something is frozen.

use nix::errno::Errno;
use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What came of it: the target that could not be written out, and why.
type Outcome = Result<(), (usize, Errno)>;

#[derive(Clone, Copy)]
enum Progress {
    Idle,
    Ordered,
    Done(Outcome),
}

/// The targets of one run, to be written out as often as it is ordered.
pub(super) struct WriteOut {
    fds: Arc<Vec<OwnedFd>>,
    progress: Mutex<Progress>,
    bell: Condvar,
    /// Rung when it is done.
    ring: PipeWriter,
}

impl WriteOut {
    /// All targets in freeze order.
    pub(super) fn new(fds: Arc<Vec<OwnedFd>>, ring: PipeWriter) -> Self {
        Self {
            fds,
            progress: Mutex::new(Progress::Idle),
            bell: Condvar::new(),
            ring,
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the thread begin, unless it is at work.
    pub(super) fn order(&self) {
        *self.progress() = Progress::Ordered;
        self.bell.notify_all();
    }

    /// What came of the order; once, and only when it is done.
    pub(super) fn take(&self) -> Option<Outcome> {
        let mut progress = self.progress();
        let Progress::Done(outcome) = *progress else {
            return None;
        };
        *progress = Progress::Idle;
        Some(outcome)
    }

    /// The life of the thread.
    pub(super) fn run(&self) {
        loop {
            self.await_order();
            let sync = |(index, fd)| nix::unistd::syncfs(fd).map_err(|errno| (index, errno));
            let outcome = self.fds.iter().enumerate().try_for_each(sync);
            *self.progress() = Progress::Done(outcome);
            // Nobody listening means that nobody waits.
            let _ = (&self.ring).write(&[1]);
        }
    }

    fn await_order(&self) {
        let mut progress = self.progress();
        while !matches!(*progress, Progress::Ordered) {
            progress = self
                .bell
                .wait(progress)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}
