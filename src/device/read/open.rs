//! Opening a disk to be read, and choosing how its reads are performed.

use super::DiskReader;
use super::disk::DiskFile;
use super::options::{EngineChoice, ReaderOptions};
use super::ordered::OrderedReader;
use super::queue::AnyQueue;
use super::threads::ThreadQueue;
use super::uring::UringQueue;
use crate::error::{ErrorKind, IoContext, Result};
use crate::sys::ring::{MAX_DEPTH, Ring};
use std::io;
use std::path::Path;

/// Whether this host has an io_uring that can be used; if not, why.
pub fn io_uring_available() -> io::Result<()> {
    Ring::available()
}

/// Opens the disk at `path`.
///
/// # Errors
/// `Usage` when it is no block device; `NotFound`, `Unsupported` (not root) from the system;
/// `Unsupported` when io_uring is asked for and cannot be had.
pub fn open_reader(path: &Path, options: &ReaderOptions) -> Result<Box<dyn DiskReader>> {
    let disk = DiskFile::open(path, options.regular_file)?;
    let depth = options.depth.clamp(1, MAX_DEPTH);
    let queue: AnyQueue = match options.engine {
        EngineChoice::Threads => Box::new(ThreadQueue::new(&disk, depth)?),
        EngineChoice::Uring => Box::new(
            UringQueue::new(&disk, depth)
                .io_context("use io_uring to read", path)
                .map_err(|error| error.with_kind(ErrorKind::Unsupported))?,
        ),
        EngineChoice::Auto => match UringQueue::new(&disk, depth) {
            Ok(queue) => Box::new(queue),
            Err(_) => Box::new(ThreadQueue::new(&disk, depth)?),
        },
    };
    let reader = OrderedReader::new(disk.geometry, queue, options)?;
    Ok(Box::new(reader))
}
