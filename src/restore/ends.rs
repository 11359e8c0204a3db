//! The two ends of a disk in memory, which is where partition tables are. What is between them
//! cannot be read or written here.

use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};

/// The first and the last bytes of a disk.
#[derive(Debug)]
pub struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
    size: u64,
    at: u64,
}

impl Ends {
    /// The ends of a disk of `size` bytes; `tail` ends where the disk does.
    pub fn new(head: Vec<u8>, tail: Vec<u8>, size: u64) -> Self {
        Self {
            head,
            tail,
            size,
            at: 0,
        }
    }

    /// Head and tail.
    pub fn into_parts(self) -> (Vec<u8>, Vec<u8>) {
        (self.head, self.tail)
    }

    fn place(&mut self, length: usize) -> Result<&mut [u8]> {
        let tail_at = self.size - self.tail.len() as u64;
        let (bytes, at) = if self.at >= tail_at {
            (&mut self.tail, self.at - tail_at)
        } else {
            (&mut self.head, self.at)
        };
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let end = at.saturating_add(length);
        let place = bytes.get_mut(at..end);
        let place = place.ok_or_else(|| Error::from(ErrorKind::UnexpectedEof))?;
        self.at += length as u64;
        Ok(place)
    }
}

impl Read for Ends {
    fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        to.copy_from_slice(self.place(to.len())?);
        Ok(to.len())
    }
}

impl Write for Ends {
    fn write(&mut self, from: &[u8]) -> Result<usize> {
        self.place(from.len())?.copy_from_slice(from);
        Ok(from.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Seek for Ends {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
