//! The queue that io_uring performs: registered file and, where allowed, registered buffers.

use super::disk::DiskFile;
use super::queue::{Queue, ReadDone, ReadRequest};
use crate::model::Bytes;
use crate::sys::buffer::BufferPool;
use crate::sys::ring::Ring;
use std::io;
use std::time::Instant;

pub struct UringQueue {
    disk: DiskFile,
    ring: Ring,
    depth: usize,
}

impl UringQueue {
    /// Fails when this host has no (usable) io_uring.
    pub fn new(disk: &DiskFile, depth: usize) -> io::Result<Self> {
        Ok(Self {
            disk: disk.clone(),
            ring: Ring::new(disk.file.clone(), depth)?,
            depth,
        })
    }
}

impl Queue for UringQueue {
    fn name(&self) -> String {
        let buffers = if self.ring.has_fixed_buffers() {
            "registered"
        } else {
            "plain"
        };
        let cached = if self.disk.direct { "" } else { ", buffered" };
        format!("io_uring, {buffers} buffers, depth {}{cached}", self.depth)
    }

    fn current_size(&self) -> io::Result<Bytes> {
        self.disk.current_size()
    }

    fn use_pool(&mut self, pool: &BufferPool) {
        // When it fails, reads work all the same, a little slower, and `name` tells.
        let _ = self.ring.register_buffers(pool);
    }

    fn submit(&mut self, request: ReadRequest) {
        self.ring.submit(request);
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ring.flush()
    }

    fn wait(&mut self, until: Instant) -> io::Result<Option<ReadDone>> {
        self.ring.wait(Some(until))
    }

    fn abandon(&mut self) {
        self.ring.abandon();
    }
}
