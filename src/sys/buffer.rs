//! Memory that disks are read into: allocated once, aligned for direct I/O, handed out, returned. A
//! buffer that the kernel may still write to must never be given to anyone else: whoever starts an
//! I/O owns the buffer until the I/O is over.
#![expect(unsafe_code, reason = "anonymous mappings")]

use super::locked::{LockExt, LockResultExt};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::model::Bytes;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// Every buffer starts at a multiple of this, and its size is one.
pub const BUFFER_ALIGNMENT: usize = 4096;

/// The largest buffer there can be: io_uring takes at most 1 GiB as one registered piece.
pub const MAX_BUFFER: usize = 256 << 20;

/// A huge page on x86-64 and (with 4 KiB pages) arm64. Only a hint: nothing breaks if it is wrong.
/// It matters: a read into contiguous memory is one segment for the device instead of 256, which
/// made 1 MiB reads of a loop disk over virtio 1.1 to 2.0 times as fast (the more without
/// registered buffers). Pools of less than this have none.
const HUGE_PAGE: usize = 2 << 20;

/// Mapped memory. Unmapped when the pool and all its buffers are gone.
struct Region {
    /// The start of the mapping, `HUGE_PAGE` longer than `length`.
    map: NonNull<libc::c_void>,
    /// The first buffer: the first multiple of `HUGE_PAGE` in the mapping.
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the region is plain memory, not tied to a thread; access to its parts goes through
// `Buffer`, each of which has a part of its own.
unsafe impl Send for Region {}
// SAFETY: as above; a shared `Region` gives out no access to the memory.
unsafe impl Sync for Region {}

impl Region {
    fn new(length: usize) -> nix::Result<Self> {
        let whole = length
            .checked_add(HUGE_PAGE)
            .and_then(NonZeroUsize::new)
            .ok_or(nix::Error::ENOMEM)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new private mapping anywhere the kernel likes: no existing memory is touched.
        let map = unsafe { mmap_anonymous(None, whole, access, MapFlags::MAP_PRIVATE) }?;
        let start = map.cast::<u8>();
        let skip = start.align_offset(HUGE_PAGE).min(HUGE_PAGE);
        // SAFETY: `skip` is at most HUGE_PAGE and the mapping is that much longer than `length`.
        let base = unsafe { start.add(skip) };
        let region = Self { map, base, length };
        // A child that is forked while the disk writes into our pages could make the kernel copy
        // them, and the data would land in the wrong copy: open(2), "O_DIRECT", on fork(2).
        region.advise(MmapAdvise::MADV_DONTFORK)?;
        // Hints, about which nobody needs to know when the kernel has no such thing.
        let _ = region.advise(MmapAdvise::MADV_DONTDUMP);
        let _ = region.advise(MmapAdvise::MADV_HUGEPAGE);
        Ok(region)
    }

    fn advise(&self, advice: MmapAdvise) -> nix::Result<()> {
        // SAFETY: the range is our own mapping, and none of the advices used changes its contents
        // in this process.
        unsafe { madvise(self.base.cast(), self.length, advice) }
    }

    fn lock(&self) -> nix::Result<()> {
        // SAFETY: the range is our own mapping; locking changes no contents.
        unsafe { mlock(self.base.cast(), self.length) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no `Buffer` is left: each holds the region alive.
        let unmapped = unsafe { munmap(self.map, self.length + HUGE_PAGE) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

struct Pool {
    region: Region,
    size: usize,
    count: usize,
    free: Mutex<Vec<usize>>,
    returned: Condvar,
}

impl Pool {
    fn free(&self) -> MutexGuard<'_, Vec<usize>> {
        // Nothing can panic while it is held; a list of free buffers is whole at any moment.
        self.free.locked()
    }
}

/// A fixed number of buffers of one size. Clones share the buffers.
#[derive(Clone)]
pub struct BufferPool(Arc<Pool>);

impl BufferPool {
    /// Maps memory for `count` buffers of `size` bytes each, a multiple of [`BUFFER_ALIGNMENT`] up
    /// to [`MAX_BUFFER`]. The memory is not touched yet: see [`BufferPool::lock`].
    pub fn new(count: usize, size: Bytes) -> Result<Self> {
        let bad = || {
            let message = format!("cannot have {count} buffers of {} bytes", size.0);
            Error::new(ErrorKind::Failed, message)
        };
        let size = usize::try_from(size.0).map_err(|_| bad())?;
        if size == 0 || size > MAX_BUFFER || !size.is_multiple_of(BUFFER_ALIGNMENT) {
            return Err(bad());
        }
        let length = count.checked_mul(size).filter(|&total| total > 0);
        let region = Region::new(length.ok_or_else(bad)?)
            .map_err(|errno| bad().with_source(std::io::Error::from(errno)))?;
        Ok(Self(Arc::new(Pool {
            region,
            size,
            count,
            free: Mutex::new((0..count).rev().collect()),
            returned: Condvar::new(),
        })))
    }

    /// Brings all of it into memory and keeps it there (`mlock`), so that nothing can fault while
    /// filesystems are frozen. Needs root or `RLIMIT_MEMLOCK`.
    pub fn lock(&self) -> Result<()> {
        self.0
            .region
            .lock()
            .io_context("lock read buffers in", Path::new("memory"))
            .map_err(|error| {
                let total = self.total();
                error.with_hint(format!("run as root, or allow {total} with `ulimit -l`"))
            })
    }

    /// Bytes in each buffer.
    pub fn buffer_size(&self) -> Bytes {
        Bytes(self.0.size as u64)
    }

    /// How many buffers there are.
    pub fn count(&self) -> usize {
        self.0.count
    }

    /// All the memory in it.
    pub fn total(&self) -> Bytes {
        Bytes(self.0.region.length as u64)
    }

    /// How many buffers nobody has at the moment.
    pub fn available(&self) -> usize {
        self.0.free().len()
    }

    /// An empty buffer, if one is free.
    pub fn try_take(&self) -> Option<Buffer> {
        let slot = self.0.free().pop()?;
        Some(self.buffer(slot))
    }

    /// An empty buffer, when one becomes free. `patience` is asked before each wait: it says for
    /// how long to wait until it is asked again, or fails with what shall be returned.
    pub fn take(&self, patience: &mut dyn FnMut() -> Result<Duration>) -> Result<Buffer> {
        loop {
            let wait = patience()?;
            let mut free = self.0.free();
            if free.is_empty() {
                free = self.0.returned.wait_timeout(free, wait).unpoisoned().0;
            }
            if let Some(slot) = free.pop() {
                drop(free);
                return Ok(self.buffer(slot));
            }
        }
    }

    fn buffer(&self, slot: usize) -> Buffer {
        Buffer {
            pool: Arc::clone(&self.0),
            slot,
            length: 0,
        }
    }

    /// Whether the buffer is one of this pool's.
    pub fn owns(&self, buffer: &Buffer) -> bool {
        Arc::ptr_eq(&self.0, &buffer.pool)
    }

    /// Where the memory starts, for registering it with a ring.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.0.region.base
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferPool({} x {})", self.0.count, self.buffer_size())
    }
}

/// One buffer of a [`BufferPool`], to which it returns when dropped, in whatever thread. Reads as
/// the bytes that were filled in.
pub struct Buffer {
    pool: Arc<Pool>,
    slot: usize,
    length: usize,
}

impl Buffer {
    /// How many bytes there is room for.
    pub fn capacity(&self) -> usize {
        self.pool.size
    }

    /// All of the room, whatever is in it now.
    pub fn space(&mut self) -> &mut [u8] {
        // SAFETY: the slot is in the region, which `pool` keeps mapped (zeroed at first, so always
        // initialised), and belongs to this buffer alone: it leaves the free list once. `&mut self`
        // keeps others away as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), self.pool.size) }
    }

    /// Says how many bytes are filled in.
    ///
    /// # Panics
    /// When there is no room for so many.
    pub fn set_len(&mut self, length: usize) {
        assert!(length <= self.pool.size, "a buffer cannot hold {length}");
        self.length = length;
    }

    /// Where it starts.
    pub(super) fn start(&self) -> NonNull<u8> {
        // SAFETY: `slot < count`, and the region is `count * size` long.
        unsafe { self.pool.region.base.add(self.slot * self.pool.size) }
    }

    /// How far from the pool's start it starts.
    pub(super) fn position(&self) -> usize {
        self.slot * self.pool.size
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: as in `space`; `length` is at most the buffer's size.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), self.length) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.free().push(self.slot);
        self.pool.returned.notify_one();
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} of {})", self.length, self.pool.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: usize) -> BufferPool {
        BufferPool::new(count, Bytes(8192)).unwrap()
    }

    fn out_of_patience() -> Result<Duration> {
        Err(Error::new(ErrorKind::Interrupted(15), "stopped"))
    }

    #[test]
    fn buffers_are_aligned_apart_and_hold_what_was_put_in() {
        let pool = pool(3);
        let mut all: Vec<_> = std::iter::from_fn(|| pool.try_take()).collect();
        assert_eq!(all.len(), 3);
        for (number, buffer) in (1_u8..).zip(&mut all) {
            assert!(buffer.is_empty(), "a taken buffer holds nothing");
            assert_eq!(buffer.start().align_offset(BUFFER_ALIGNMENT), 0);
            buffer.space().fill(number);
            buffer.set_len(8192 - usize::from(number));
        }
        for (number, buffer) in (1_u8..).zip(&all) {
            assert_eq!(buffer.len(), 8192 - usize::from(number));
            assert!(buffer.iter().all(|&byte| byte == number));
        }
    }

    #[test]
    fn a_dropped_buffer_returns_empty_even_from_another_thread() {
        let pool = pool(1);
        let mut buffer = pool.try_take().unwrap();
        buffer.set_len(1);
        assert!(pool.try_take().is_none());
        let giver = std::thread::spawn(move || drop(buffer));
        let again = pool.take(&mut || Ok(Duration::from_secs(10))).unwrap();
        giver.join().unwrap();
        assert!(again.is_empty());
        assert_eq!(pool.available(), 0);
    }

    #[test]
    fn taking_ends_when_patience_does() {
        let pool = pool(1);
        let _held = pool.try_take().unwrap();
        let mut asked = 0;
        let error = pool
            .take(&mut || {
                asked += 1;
                if asked == 3 {
                    return out_of_patience();
                }
                Ok(Duration::from_millis(1))
            })
            .unwrap_err();
        assert_eq!((error.kind(), asked), (ErrorKind::Interrupted(15), 3));
    }

    #[test]
    fn buffers_outlive_their_pool() {
        let pool = pool(1);
        let mut buffer = pool.try_take().unwrap();
        drop(pool);
        buffer.space().fill(7);
        buffer.set_len(8192);
        assert!(buffer.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn sizes_that_direct_io_cannot_use_are_refused() {
        for (count, size) in [
            (0, 4096),
            (1, 0),
            (1, 512),
            (1, 4097),
            (1, MAX_BUFFER as u64 + 4096),
            (usize::MAX, 4096),
            (usize::MAX / 4096 - 1, 4096),
        ] {
            assert!(
                BufferPool::new(count, Bytes(size)).is_err(),
                "{count} x {size}"
            );
        }
    }

    #[test]
    fn locked_memory_is_counted_by_the_kernel() {
        let pool = BufferPool::new(2, Bytes(16 << 10)).unwrap();
        pool.lock().unwrap();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let start = format!("{:x}-", pool.base().as_ptr() as usize);
        let ours = smaps.lines().skip_while(|line| !line.starts_with(&start));
        let locked = ours.clone().find(|line| line.starts_with("Locked:"));
        assert_eq!(locked.unwrap().split_whitespace().nth(1), Some("32"));
        let flags = ours.clone().find(|line| line.starts_with("VmFlags:"));
        assert!(
            flags.unwrap().contains(" dc "),
            "must not be copied by fork"
        );
    }
}
