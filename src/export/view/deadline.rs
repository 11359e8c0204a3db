//! The end of a view's time. What waits in the kernel for a vault that is slow gets errors then,
//! and the thread that looks goes on. It must see the view's mounts, so that thread starts it.

use crate::error::{Error, ErrorKind, Result};
use crate::sys::mounting::{Unmount, unmount};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use std::path::Path;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

/// Until this is dropped, a view is ended when its time is over.
pub struct ViewDeadline {
    dropped: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ViewDeadline {
    pub(super) fn start(images: &Path, until: Instant) -> Result<Self> {
        let (dropped, wait) = bounded::<()>(0);
        let images = images.to_owned();
        let watch = move || {
            let left = until.saturating_duration_since(Instant::now());
            if wait.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                // What is mounted above it keeps it mounted, and nobody reads it any more.
                let _ = unmount(&images, Unmount::Force);
            }
        };
        let thread = Builder::new().name("view deadline".into()).spawn(watch);
        let thread = thread.map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot start a thread").with_source(error)
        })?;
        Ok(Self {
            dropped: Some(dropped),
            thread: Some(thread),
        })
    }
}

impl Drop for ViewDeadline {
    fn drop(&mut self) {
        self.dropped = None;
        if let Some(thread) = self.thread.take() {
            // It has panicked at worst.
            let _ = thread.join();
        }
    }
}
