//! A disk of a snapshot as something that is read and sought in. What asks it for signatures takes
//! a failed read for none: so it remembers what failed, and asks no more.

use crate::error::{Error, ErrorKind};
use crate::export::InPlace;
use crate::model::{BLOCK_SIZE, Bytes};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

/// Each read ends within this time.
const WITHIN: Duration = Duration::from_secs(60);

/// The disk, and where reading goes on.
pub struct DiskBytes {
    image: Arc<dyn InPlace>,
    at: u64,
    failed: Option<FailedRead>,
}

struct FailedRead {
    /// Where it began.
    block: u64,
    error: Error,
}

impl DiskBytes {
    /// From the disk's beginning.
    pub fn new(image: Arc<dyn InPlace>) -> Self {
        Self {
            image,
            at: 0,
            failed: None,
        }
    }

    /// What has failed since this was asked last.
    pub fn take_failure(&mut self) -> Option<Error> {
        self.failed.take().map(|failed| failed.error)
    }

    /// Whether a read would wait again for what has failed already.
    fn has_failed(&self) -> bool {
        let block = self.at / BLOCK_SIZE;
        self.failed.as_ref().is_some_and(|failed| {
            failed.block == block || failed.error.kind() != ErrorKind::Damaged
        })
    }
}

impl Read for DiskBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.image.size().0.saturating_sub(self.at);
        let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let part = buffer.get_mut(..length).unwrap_or_default();
        if self.has_failed() {
            return Err(io::Error::other("it could not be read before"));
        }
        if let Err(error) = self.image.read_within(Bytes(self.at), part, WITHIN) {
            let told = error.to_string();
            let block = self.at / BLOCK_SIZE;
            self.failed.get_or_insert(FailedRead { block, error });
            return Err(io::Error::other(told));
        }
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
