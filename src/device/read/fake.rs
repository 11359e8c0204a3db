//! A disk in memory, for tests of whatever reads disks. It keeps the kernel's rules (alignment,
//! bounds, nothing in order) and fails on demand; it must never be kinder than a real one.

use super::ordered::OrderedReader;
use super::queue::{Geometry, Queue, ReadDone, ReadRequest};
use super::{BufferPool, DiskReader, ReaderOptions};
use crate::error::Result;
use crate::model::{Bytes, Extent};
use crate::sys::locked::{LockExt, LockResultExt};
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

struct FakeState {
    contents: Vec<u8>,
    logical_block: u32,
    errno: i32,
    bad_blocks: BTreeSet<u64>,
    hanging: bool,
    disorder: u64,
    reads: Vec<Extent>,
}

/// A disk in memory. Clones are the same disk. Readers that it gave out see what is changed later.
#[derive(Clone)]
pub struct FakeDisk(Arc<(Mutex<FakeState>, Condvar)>);

impl FakeDisk {
    /// A disk with these contents, which come in whole logical blocks of this many bytes.
    pub fn new(contents: Vec<u8>, logical_block: u32) -> Self {
        let state = FakeState {
            contents,
            logical_block,
            errno: libc::EIO,
            bad_blocks: BTreeSet::new(),
            hanging: false,
            disorder: 0,
            reads: Vec::new(),
        };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    fn state(&self) -> MutexGuard<'_, FakeState> {
        self.0.0.locked()
    }

    /// Lets each read fail that touches one of these logical blocks.
    pub fn fail_blocks(&self, blocks: impl IntoIterator<Item = u64>) {
        self.state().bad_blocks.extend(blocks);
    }

    /// The error with which bad blocks fail from now on, EIO at first.
    pub fn fail_with(&self, errno: i32) {
        self.state().errno = errno;
    }

    /// From now on reads end out of order and some are short, differently for each seed but zero.
    pub fn disorder(&self, seed: u64) {
        self.state().disorder = seed;
    }

    /// While on, no read ends.
    pub fn hang(&self, on: bool) {
        self.state().hanging = on;
        self.0.1.notify_all();
    }

    /// Changes the contents, or the size.
    pub fn replace(&self, contents: Vec<u8>) {
        self.state().contents = contents;
    }

    /// The reads that were asked for so far, in order.
    pub fn reads(&self) -> Vec<Extent> {
        self.state().reads.clone()
    }

    /// A reader of this disk. The options' engine does not matter.
    pub fn reader(&self, options: &ReaderOptions) -> Result<Box<dyn DiskReader>> {
        let geometry = {
            let state = self.state();
            Geometry {
                name: "/dev/fake".into(),
                size: Bytes(state.contents.len() as u64),
                logical_block: state.logical_block,
            }
        };
        let queue = FakeQueue {
            disk: self.clone(),
            waiting: Vec::new(),
        };
        let reader = OrderedReader::new(geometry, Box::new(queue), options)?;
        Ok(Box::new(reader))
    }
}

struct FakeQueue {
    disk: FakeDisk,
    waiting: Vec<ReadRequest>,
}

impl Queue for FakeQueue {
    fn name(&self) -> String {
        "fake".into()
    }

    fn current_size(&self) -> io::Result<Bytes> {
        Ok(Bytes(self.disk.state().contents.len() as u64))
    }

    fn use_pool(&mut self, _pool: &BufferPool) {}

    fn submit(&mut self, request: ReadRequest) {
        let extent = Extent::new(request.offset, Bytes(request.length as u64));
        self.disk.state().reads.push(extent);
        self.waiting.push(request);
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, until: Instant) -> io::Result<Option<ReadDone>> {
        if self.waiting.is_empty() {
            return Ok(None);
        }
        let mut state = self.disk.state();
        while state.hanging {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let waited = self.disk.0.1.wait_timeout(state, left);
            state = waited.unpoisoned().0;
        }
        let pick = state.chance() as usize % self.waiting.len();
        let mut request = self.waiting.remove(pick);
        let result = state.perform(&mut request);
        Ok(Some(ReadDone {
            token: request.token,
            buffer: request.buffer,
            result,
        }))
    }

    fn abandon(&mut self) {}
}

impl FakeState {
    /// Zero without disorder; otherwise the next of a fixed row of numbers (xorshift64).
    fn chance(&mut self) -> u64 {
        self.disorder ^= self.disorder << 13;
        self.disorder ^= self.disorder >> 7;
        self.disorder ^= self.disorder << 17;
        self.disorder
    }

    fn perform(&mut self, request: &mut ReadRequest) -> io::Result<usize> {
        let block = u64::from(self.logical_block);
        let offset = request.offset.0;
        let memory = request.buffer.space()[request.start..].as_ptr() as u64;
        let aligned = |at: u64| at.is_multiple_of(block);
        let length = request.length as u64;
        if length == 0 || !aligned(offset) || !aligned(length) || !memory.is_multiple_of(512) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut blocks = offset / block..(offset + length).div_ceil(block);
        if blocks.any(|at| self.bad_blocks.contains(&at)) {
            return Err(io::Error::from_raw_os_error(self.errno));
        }
        let left = self.contents.len().saturating_sub(offset as usize);
        let mut length = request.length.min(left);
        if self.disorder != 0 && self.chance().is_multiple_of(4) && length > 1 {
            length -= self.chance() as usize % length;
        }
        let from = &self.contents[offset as usize..][..length];
        request.buffer.space()[request.start..][..length].copy_from_slice(from);
        Ok(length)
    }
}
