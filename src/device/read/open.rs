//! Opening a disk to be read, and choosing how. It opens read-only, and a block device or nothing
//! (tests may allow regular files).

use super::ordered::OrderedReader;
use super::queue::{AnyQueue, Geometry};
use super::threads::ThreadQueue;
use super::uring::UringQueue;
use super::{BufferPool, DiskReader, ReadCounter};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::Bytes;
use crate::sys::block::{logical_block_size, size_of};
use crate::sys::ring::{MAX_DEPTH, Ring};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// How to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// io_uring where the host has it, threads otherwise.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// Threads that call `pread`.
    Threads,
}

/// How a disk is opened and read.
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// What is read into. Readers may share one.
    pub pool: BufferPool,
    /// How many reads are in flight at most (1 to 256).
    pub depth: usize,
    /// How to read.
    pub engine: EngineChoice,
    /// Accept a regular file too, as a disk with this logical block (a power of two from 512 on).
    pub regular_file: Option<u32>,
    /// Where reads are counted.
    pub counter: Arc<ReadCounter>,
}

impl ReaderOptions {
    /// Reads in flight when nothing else is asked for.
    pub const DEPTH: usize = 16;

    /// The usual choices.
    pub fn new(pool: BufferPool) -> Self {
        Self {
            pool,
            depth: Self::DEPTH,
            engine: EngineChoice::Auto,
            regular_file: None,
            counter: Arc::default(),
        }
    }
}

/// Whether this host has an io_uring that can be used; if not, why.
pub fn io_uring_available() -> io::Result<()> {
    Ring::available()
}

/// A disk that is open, and what it was like then.
#[derive(Clone)]
pub struct OpenDisk {
    pub geometry: Geometry,
    pub file: Arc<File>,
    /// Whether reads go past the page cache.
    pub direct: bool,
}

impl OpenDisk {
    fn open(path: &Path, regular_file: Option<u32>) -> Result<Self> {
        // Before it is opened, which for a FIFO or a tape would have effects.
        check_kind(
            path,
            &path.metadata().io_context("open", path)?,
            regular_file,
        )?;
        let (file, direct) = open_direct(path).io_context("open", path)?;
        let metadata = file.metadata().io_context("look at", path)?;
        check_kind(path, &metadata, regular_file)?;
        let logical_block = match regular_file {
            Some(block) if metadata.is_file() => block,
            _ => logical_block_size(file.as_fd()).io_context("ask the block size of", path)?,
        };
        let mut disk = Self {
            geometry: Geometry {
                name: path.to_owned(),
                size: Bytes(0),
                logical_block,
            },
            file: Arc::new(file),
            direct,
        };
        disk.geometry.size = disk.current_size().io_context("ask the size of", path)?;
        Ok(disk)
    }

    /// The size now; zero for a device that is gone.
    pub fn current_size(&self) -> io::Result<Bytes> {
        let metadata = self.file.metadata()?;
        if metadata.is_file() {
            return Ok(Bytes(metadata.len()));
        }
        size_of(&*self.file)
    }
}

fn check_kind(path: &Path, metadata: &Metadata, regular_file: Option<u32>) -> Result<()> {
    let kind = metadata.file_type();
    if kind.is_block_device() || (kind.is_file() && regular_file.is_some()) {
        return Ok(());
    }
    let message = format!("{} is not a disk", path.display());
    Err(Error::new(ErrorKind::Usage, message).with_hint("`stillpoint disks` lists the disks"))
}

/// Past the page cache where the file can do that: a filesystem without direct I/O says EINVAL.
fn open_direct(path: &Path) -> io::Result<(File, bool)> {
    let open = |flags| {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags).open(path)
    };
    match open(libc::O_DIRECT) {
        // Never for a device: its cache may be older than what was written to its partitions.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && path.is_file() => {
            Ok((open(0)?, false))
        }
        file => Ok((file?, true)),
    }
}

/// Opens the disk at `path`.
///
/// # Errors
/// `Usage` when it is no block device; `NotFound`, `Unsupported` (not root) from the system;
/// `Unsupported` when io_uring is asked for and cannot be had.
pub fn open_reader(path: &Path, options: &ReaderOptions) -> Result<Box<dyn DiskReader>> {
    let disk = OpenDisk::open(path, options.regular_file)?;
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
