//! Reading a disk's blocks: many reads at once, delivered in order, with direct I/O. What cannot be
//! read is an error with its place; it must never come out as zeros, stale bytes or a shorter disk.
//!
//! [`open_reader`] gives a [`DiskReader`]. Below it, one loop (`ordered`) drives one of the queues:
//! io_uring (`uring`), threads with `pread` (`threads`), a disk in memory for tests (`fake`).

mod disk;
#[cfg(feature = "testing")]
mod fake;
mod fault;
mod open;
mod options;
mod ordered;
mod pace;
mod queue;
mod threads;
mod uring;

#[cfg(test)]
mod tests;

pub use crate::sys::buffer::{Buffer, BufferPool};
pub use crate::sys::io_priority::IoPriority;
#[cfg(feature = "testing")]
pub use fake::FakeDisk;
pub use fault::Unreadable;
pub use open::{io_uring_available, open_reader};
pub use options::{EngineChoice, ReaderOptions};
pub use pace::Pace;

use crate::error::Result;
use crate::model::{Bytes, Cancel, Extent};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Takes what was read: each extent in the order it was asked for, with a buffer that holds exactly
/// its bytes.
pub type Sink<'a> = dyn FnMut(Extent, Buffer) -> Result<()> + 'a;

/// A disk that can be read.
pub trait DiskReader: Send {
    /// The disk's size when it was opened. A disk that has another size later fails to be read.
    fn size(&self) -> Bytes;

    /// The device's logical block in bytes: extents start at multiples of it, and end at one or at
    /// the end of the disk.
    fn logical_block(&self) -> u32;

    /// How it is read, for people: `io_uring, registered buffers, depth 16`.
    fn engine_name(&self) -> String;

    /// Reads into the buffers of this pool from now on.
    fn set_pool(&mut self, pool: &BufferPool) -> Result<()>;

    /// Reads all of `extents`, in any order, none longer than a buffer, and gives them to `sink` in
    /// the order they came in. Several reads are in flight while the sink works.
    ///
    /// When this fails, the reads in flight have ended; a reader that could not wait for them
    /// (because of the deadline, or because the device hangs) refuses to be used again.
    ///
    /// # Errors
    /// - the sink's or `limits.cancel`'s error, as it is;
    /// - `Io`: the device cannot be read, with the bad places ([`Unreadable`] is the source when
    ///   the device reported media errors), or it is gone;
    /// - `Inconsistent`: the deadline passed, or the disk has another size now;
    /// - `Failed`: an extent that is empty, too long, not aligned, or outside the disk.
    fn read(
        &mut self,
        extents: &mut dyn Iterator<Item = Extent>,
        limits: &Limits<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<ReadStats>;
}

/// When to give up reading, and how gently to read until then.
#[derive(Clone, Copy, Default)]
pub struct Limits<'a> {
    /// The moment after which nothing is waited for. While something is frozen there is one.
    pub deadline: Option<Instant>,
    /// Asked several times a second; its error ends the read.
    pub cancel: Option<&'a dyn Cancel>,
    /// How fast; not used where there is a deadline.
    pub pace: Option<&'a Pace>,
    /// How urgent; `None`: as all that this process does.
    pub priority: Option<IoPriority>,
}

impl<'a> Limits<'a> {
    /// No deadline; the read ends with the error of `cancel`.
    pub fn cancelled_by(cancel: &'a dyn Cancel) -> Self {
        Self {
            cancel: Some(cancel),
            ..Self::default()
        }
    }

    /// In the window: nothing else matters, and nobody is asked.
    pub fn until(deadline: Instant) -> Self {
        Self {
            deadline: Some(deadline),
            priority: Some(IoPriority::Urgent),
            ..Self::default()
        }
    }
}

/// What was asked of a device, retries included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadStats {
    /// How many reads.
    pub reads: u64,
    /// How many bytes came back.
    pub bytes: Bytes,
}

/// A sum of [`ReadStats`] over reads, and over readers that share it. Counts while they read.
#[derive(Debug, Default)]
pub struct ReadCounter {
    reads: AtomicU64,
    bytes: AtomicU64,
}

impl ReadCounter {
    /// The sum so far.
    pub fn total(&self) -> ReadStats {
        ReadStats {
            reads: self.reads.load(Ordering::Relaxed),
            bytes: Bytes(self.bytes.load(Ordering::Relaxed)),
        }
    }

    fn add_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
