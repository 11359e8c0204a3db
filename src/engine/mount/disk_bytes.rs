//! A disk of a snapshot as something that is read and sought in.

use crate::export::Image;
use crate::model::Bytes;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// The disk, and where reading goes on.
pub struct DiskBytes {
    image: Arc<Image>,
    at: u64,
}

impl DiskBytes {
    /// From the disk's beginning.
    pub fn new(image: Arc<Image>) -> Self {
        Self { image, at: 0 }
    }
}

impl Read for DiskBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.image.size().0.saturating_sub(self.at);
        let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let part = buffer.get_mut(..length).unwrap_or_default();
        let read = self.image.read_at(Bytes(self.at), part);
        read.map_err(io::Error::other)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for DiskBytes {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.image.size().0.checked_add_signed(by),
        };
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
