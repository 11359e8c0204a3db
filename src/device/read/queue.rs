//! What the reading loop needs from whatever performs the reads. No policy here: order, retries and
//! errors are the loop's.

use crate::model::Bytes;
use crate::sys::buffer::BufferPool;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

pub use crate::sys::ring::{ReadDone, ReadRequest};

/// What is known of an open disk.
#[derive(Clone, Debug)]
pub struct Geometry {
    /// How errors name it.
    pub name: PathBuf,
    /// Size when it was opened.
    pub size: Bytes,
    /// Alignment of offsets and lengths, in bytes.
    pub logical_block: u32,
}

/// Reads in flight on one disk. It owns their buffers until each is over.
pub trait Queue: Send {
    /// For people.
    fn name(&self) -> String;

    /// The disk's size now.
    fn current_size(&self) -> io::Result<Bytes>;

    /// These buffers will be read into. Called with nothing in flight.
    fn use_pool(&mut self, pool: &BufferPool);

    /// Puts a read in line. The caller keeps to the depth the queue was made for.
    fn submit(&mut self, request: ReadRequest);

    /// Makes sure that what is in line is being worked on.
    fn flush(&mut self) -> io::Result<()>;

    /// Any read that is over, waiting for one until then. `None` when the time is up, or nothing is
    /// in flight.
    fn wait(&mut self, until: Instant) -> io::Result<Option<ReadDone>>;

    /// Nobody will wait for what is in flight: dropping the queue must not either.
    fn abandon(&mut self);
}

/// Whichever was chosen.
pub type AnyQueue = Box<dyn Queue>;
