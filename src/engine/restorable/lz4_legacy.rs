//! The old format of lz4 (`lz4 -l`), which the kernel takes an initramfs in: a magic number, then
//! blocks of at most 8 MiB unpacked, each behind its length. An end mark there is none.

use std::io::{self, Read};

const MAGIC: u32 = 0x184c_2102;

/// A block, unpacked.
const BLOCK: usize = 8 << 20;

/// Longest block as it is stored: `LZ4_COMPRESSBOUND` of lz4.h.
const STORED: usize = BLOCK + BLOCK / 255 + 16;

/// Unpacks as it is read.
pub(super) struct Lz4Legacy<R> {
    inner: R,
    block: Vec<u8>,
    at: usize,
}

impl<R: Read> Lz4Legacy<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            block: Vec::new(),
            at: 0,
        }
    }

    /// Unpacks the next block; the end leaves an empty one.
    fn next_block(&mut self) -> io::Result<()> {
        (self.at, self.block) = (0, Vec::new());
        let mut length = MAGIC;
        // Streams one after another each begin anew.
        while length == MAGIC {
            let mut word = [0; 4];
            match self.inner.read_exact(&mut word) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            }
            length = u32::from_le_bytes(word);
        }
        let length = length as usize;
        // The image is filled up with zeros.
        if length == 0 {
            return Ok(());
        }
        if length > STORED {
            return Err(damaged());
        }
        let mut stored = Vec::new();
        let read = (&mut self.inner)
            .take(length as u64)
            .read_to_end(&mut stored)?;
        if read != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut block = vec![0; BLOCK];
        let unpacked = lz4_flex::block::decompress_into(&stored, &mut block);
        block.truncate(unpacked.map_err(|_| damaged())?);
        self.block = block;
        match self.block.is_empty() {
            true => Err(damaged()),
            false => Ok(()),
        }
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a block of lz4 is damaged")
}

impl<R: Read> Read for Lz4Legacy<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            self.next_block()?;
        }
        let rest = self.block.get(self.at..).unwrap_or_default();
        let taken = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        self.at += taken;
        Ok(taken)
    }
}
