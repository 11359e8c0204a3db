//! What a disk can be restored onto, and the simplest such thing: a raw image in a file.

use super::output_file::OutputFile;
use crate::error::{Error, IoContext, Result};
use crate::model::{Bytes, Extent};
use crate::sys::locked::LockExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

/// Something that takes a disk's bytes.
pub trait Target: Sync {
    /// Writes blocks that are neighbours on the disk, from an offset on. Each is of 64 KiB but for
    /// the disk's last one.
    fn write(&self, offset: Bytes, blocks: &[&[u8]]) -> Result<()>;

    /// Makes the extent read as zeros. It may take as long as writing them, and hears no stop: ask
    /// for little at once.
    fn hole(&self, extent: Extent) -> Result<()>;

    /// No more comes after a failure: whoever waits for something in here waits no longer.
    fn give_up(&self) {}

    /// Everything is written: make it last, and visible.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// A raw image in a file, sparse.
pub struct RawFile {
    file: OutputFile,
    /// One writes at a time. The kernel sees to that itself, but has the others spin meanwhile
    /// (inode_lock), who could unpack.
    writing: Mutex<()>,
}

impl RawFile {
    /// Starts an image of `size` bytes in an empty file; it gets its name when it is finished.
    pub fn create(file: OutputFile, size: Bytes) -> Result<Self> {
        let length = file.file().set_len(size.0);
        length.io_context("set the length of", file.path())?;
        Ok(Self {
            file,
            writing: Mutex::default(),
        })
    }
}

impl Target for RawFile {
    fn write(&self, offset: Bytes, blocks: &[&[u8]]) -> Result<()> {
        let _alone = self.writing.locked();
        each_at(offset, blocks, |at, bytes| {
            self.file
                .file()
                .write_all_at(bytes, at.0)
                .map_err(|error| write_error(self.file.path(), at, error))
        })
    }

    fn hole(&self, _: Extent) -> Result<()> {
        // The file was made empty: what is not written is a hole.
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.file.finish()
    }
}

/// Calls `put` for each block, with its place; the first is at `offset`.
pub(super) fn each_at(
    offset: Bytes,
    blocks: &[&[u8]],
    mut put: impl FnMut(Bytes, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut at = offset;
    for bytes in blocks {
        put(at, bytes)?;
        at += Bytes(bytes.len() as u64);
    }
    Ok(())
}

/// A write that failed; `offset` is the place on the disk that is restored.
pub(super) fn write_error(path: &Path, offset: Bytes, source: std::io::Error) -> Error {
    Error::io(&format!("write at byte {} of", offset.0), path, source)
}
