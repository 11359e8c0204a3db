//! The bytes of a file, hole for hole. What cannot be read ends it: no byte is ever made up.

use crate::error::Result;
use crate::model::Bytes;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// Why the bytes of a file were not copied.
#[derive(Debug)]
pub enum DataFailure {
    /// They cannot be read.
    Read(io::Error),
    /// They cannot be written.
    Write(io::Error),
    /// It was stopped.
    Stop(crate::Error),
}

/// A stretch of a file.
struct Stretch {
    from: u64,
    to: u64,
}

/// Copies the bytes of a file of that length into an empty one, and makes it as long. `moved` is
/// told of each piece, and may stop it.
pub(super) fn copy_data(
    from: &File,
    to: &File,
    length: Bytes,
    moved: &mut dyn FnMut(Bytes) -> Result<()>,
) -> Result<(), DataFailure> {
    let mut buffer = vec![0; PIECE.min(length.0 as usize)];
    let mut at = 0;
    while let Some(data) = next_data(from, at, length.0).map_err(DataFailure::Read)? {
        at = data.from;
        while at < data.to {
            moved(Bytes(0)).map_err(DataFailure::Stop)?;
            let piece = piece(&mut buffer, data.to - at);
            from.read_exact_at(piece, at).map_err(DataFailure::Read)?;
            to.write_all_at(piece, at).map_err(DataFailure::Write)?;
            at += piece.len() as u64;
            moved(Bytes(piece.len() as u64)).map_err(DataFailure::Stop)?;
        }
    }
    to.set_len(length.0).map_err(DataFailure::Write)
}

/// Writes the bytes of a file of that length, holes as zeros.
///
/// # Errors
/// What `moved` says, or why it could not be read or written.
pub fn copy_to_stream(
    from: &File,
    to: &mut dyn Write,
    length: Bytes,
    moved: &mut dyn FnMut(Bytes) -> Result<()>,
) -> Result<(), DataFailure> {
    let mut buffer = vec![0; PIECE.min(length.0 as usize)];
    let mut at = 0;
    while at < length.0 {
        moved(Bytes(0)).map_err(DataFailure::Stop)?;
        let piece = piece(&mut buffer, length.0 - at);
        from.read_exact_at(piece, at).map_err(DataFailure::Read)?;
        to.write_all(piece).map_err(DataFailure::Write)?;
        at += piece.len() as u64;
        moved(Bytes(piece.len() as u64)).map_err(DataFailure::Stop)?;
    }
    to.flush().map_err(DataFailure::Write)
}

fn piece(buffer: &mut [u8], left: u64) -> &mut [u8] {
    let length = buffer
        .len()
        .min(usize::try_from(left).unwrap_or(usize::MAX));
    &mut buffer[..length]
}

/// The next stretch that is no hole; `None` where only holes are left.
fn next_data(file: &File, at: u64, length: u64) -> io::Result<Option<Stretch>> {
    if at >= length {
        return Ok(None);
    }
    let seek = |at: u64, to: Whence| {
        let at = i64::try_from(at).map_err(|_| Errno::EOVERFLOW)?;
        lseek(file, at, to).map(|found| u64::try_from(found).unwrap_or(0))
    };
    match seek(at, Whence::SeekData) {
        Ok(from) if from < length => {
            let to = seek(from, Whence::SeekHole)?.min(length);
            // A stretch that is none would be asked for again for ever.
            let to = if to > from { to } else { length };
            Ok(Some(Stretch { from, to }))
        }
        Ok(_) | Err(Errno::ENXIO) => Ok(None),
        // The filesystem does not know of holes.
        Err(Errno::EINVAL) => Ok(Some(Stretch {
            from: at,
            to: length,
        })),
        Err(errno) => Err(errno.into()),
    }
}
