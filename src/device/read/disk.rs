//! A disk that is open to be read. It is opened read-only, and must be a block device (tests may
//! allow regular files).

use super::queue::Geometry;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::Bytes;
use crate::sys::block::{logical_block_size, size_of};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// A disk that is open, and what it was like then.
#[derive(Clone)]
pub struct DiskFile {
    pub geometry: Geometry,
    pub file: Arc<File>,
    /// Whether reads go past the page cache.
    pub direct: bool,
}

impl DiskFile {
    pub fn open(path: &Path, regular_file: Option<u32>) -> Result<Self> {
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
