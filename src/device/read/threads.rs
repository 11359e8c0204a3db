//! The queue that a few threads perform with `pread`: for hosts where io_uring is missing or off.
//! A thread that hangs in the kernel keeps its buffer; nobody waits for it.

use super::disk::DiskFile;
use super::queue::{Queue, ReadDone, ReadRequest};
use crate::error::{IoContext, Result};
use crate::model::Bytes;
use crate::sys::buffer::BufferPool;
use crate::sys::io_priority::HeldPriority;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

/// More threads than this gain nothing.
const MAX_THREADS: usize = 16;

pub struct ThreadQueue {
    disk: DiskFile,
    requests: Option<Sender<ReadRequest>>,
    done: Receiver<ReadDone>,
    threads: Vec<JoinHandle<()>>,
    in_flight: usize,
}

impl ThreadQueue {
    pub fn new(disk: &DiskFile, depth: usize) -> Result<Self> {
        // Never more in them than the depth.
        let (requests, work) = unbounded::<ReadRequest>();
        let (results, done) = unbounded();
        let mut threads = Vec::new();
        for _ in 0..depth.min(MAX_THREADS) {
            let (file, work, results) = (disk.file.clone(), work.clone(), results.clone());
            let body = move || {
                let mut held = (None, None::<HeldPriority>);
                for request in work {
                    if held.0 != request.priority {
                        // What was held before goes first.
                        drop(held.1.take());
                        held = (
                            request.priority,
                            request.priority.and_then(HeldPriority::set),
                        );
                    }
                    let done = perform(&file, request);
                    // Without a receiver the buffer just returns to its pool.
                    let _ = results.send(done);
                }
            };
            let thread = Builder::new().name("disk-read".into()).spawn(body);
            threads.push(thread.io_context("start threads to read", &disk.geometry.name)?);
        }
        Ok(Self {
            disk: disk.clone(),
            requests: Some(requests),
            done,
            threads,
            in_flight: 0,
        })
    }
}

fn perform(file: &File, mut request: ReadRequest) -> ReadDone {
    let offset = request.offset.0;
    let end = request.start + request.length;
    let result = file.read_at(&mut request.buffer.space()[request.start..end], offset);
    ReadDone {
        token: request.token,
        buffer: request.buffer,
        result,
    }
}

impl Queue for ThreadQueue {
    fn name(&self) -> String {
        let cached = if self.disk.direct { "" } else { ", buffered" };
        format!("pread, {} threads{cached}", self.threads.len())
    }

    fn current_size(&self) -> io::Result<Bytes> {
        self.disk.current_size()
    }

    fn use_pool(&mut self, _pool: &BufferPool) {}

    fn submit(&mut self, request: ReadRequest) {
        let requests = self.requests.as_ref().expect("open until dropped");
        let sent = requests.send(request);
        assert!(sent.is_ok(), "the threads end after the channel does");
        self.in_flight += 1;
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, until: Instant) -> io::Result<Option<ReadDone>> {
        if self.in_flight == 0 {
            return Ok(None);
        }
        match self.done.recv_deadline(until) {
            Ok(done) => {
                self.in_flight -= 1;
                Ok(Some(done))
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(io::Error::other("the reading threads have died"))
            }
        }
    }

    /// The threads are never waited for while they read.
    fn abandon(&mut self) {}
}

impl Drop for ThreadQueue {
    fn drop(&mut self) {
        self.requests = None;
        if self.in_flight == 0 {
            for thread in self.threads.drain(..) {
                // A panic there has been seen as a missing result.
                let _ = thread.join();
            }
        }
    }
}
