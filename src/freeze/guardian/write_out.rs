//! Writes filesystems out before they are frozen, in a thread of the guardian: a call for a device
//! that never answers would keep the engine's own process from exiting. It never runs while
//! something is frozen.

use crate::sys::locked::{LockExt, LockResultExt};
use nix::errno::Errno;
use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// The target that could not be written out, and why.
type Written = Result<(), (usize, Errno)>;

#[derive(Clone, Copy)]
enum WriteOutProgress {
    Idle,
    Ordered,
    Done(Written),
}

/// The targets of one run, to be written out as often as it is ordered.
pub(super) struct WriteOut {
    fds: Arc<Vec<OwnedFd>>,
    progress: Mutex<WriteOutProgress>,
    ordered: Condvar,
    /// A byte is written when it is done.
    wake: PipeWriter,
}

impl WriteOut {
    /// All targets in freeze order.
    pub(super) fn new(fds: Arc<Vec<OwnedFd>>, wake: PipeWriter) -> Self {
        Self {
            fds,
            progress: Mutex::new(WriteOutProgress::Idle),
            ordered: Condvar::new(),
            wake,
        }
    }

    fn progress(&self) -> MutexGuard<'_, WriteOutProgress> {
        self.progress.locked()
    }

    /// Has the thread write all targets out, unless it does so already.
    pub(super) fn order(&self) {
        *self.progress() = WriteOutProgress::Ordered;
        self.ordered.notify_all();
    }

    /// How the order went: `None` before it is done, and when this has been asked before.
    pub(super) fn take(&self) -> Option<Written> {
        let mut progress = self.progress();
        let WriteOutProgress::Done(written) = *progress else {
            return None;
        };
        *progress = WriteOutProgress::Idle;
        Some(written)
    }

    /// What the thread does, for good.
    pub(super) fn run(&self) {
        loop {
            self.await_order();
            let sync = |(index, fd)| nix::unistd::syncfs(fd).map_err(|errno| (index, errno));
            let written = self.fds.iter().enumerate().try_for_each(sync);
            *self.progress() = WriteOutProgress::Done(written);
            // When nobody reads the pipe, nobody waits.
            let _ = (&self.wake).write(&[1]);
        }
    }

    fn await_order(&self) {
        let mut progress = self.progress();
        while !matches!(*progress, WriteOutProgress::Ordered) {
            progress = self.ordered.wait(progress).unpoisoned();
        }
    }
}
