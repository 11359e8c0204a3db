//! Reads through io_uring. A read in flight owns its buffer: the ring must never free or hand out
//! memory that the kernel may still write to, also not when it is dropped too early.
#![expect(unsafe_code, reason = "submission of I/O into our memory")]

use super::buffer::{Buffer, BufferPool};
use super::io_priority::IoPriority;
use crate::model::Bytes;
use io_uring::types::{Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most reads in flight in one ring.
pub const MAX_DEPTH: usize = 256;

/// Memory is registered in pieces of at most this many bytes: the kernel's limit,
/// `io_uring/rsrc.c: io_buffer_validate()`, "arbitrary limit, but we need something".
const MAX_REGISTERED: usize = 1 << 30;

/// For how long a dropped ring waits for the reads that are in flight.
const DROP_GRACE: Duration = Duration::from_millis(500);

/// A pause after the kernel was short of memory for a request.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// A read that shall be started.
#[derive(Debug)]
pub struct ReadRequest {
    /// Comes back with the result.
    pub token: u64,
    /// Where on the disk.
    pub offset: Bytes,
    /// Where in the buffer.
    pub start: usize,
    /// How many bytes.
    pub length: usize,
    /// What to read into.
    pub buffer: Buffer,
    /// How urgent; a ring takes that of the thread that submits.
    pub priority: Option<IoPriority>,
}

/// A read that is over.
#[derive(Debug)]
pub struct ReadDone {
    /// As in the request.
    pub token: u64,
    /// The request's buffer; its `len` is as it was.
    pub buffer: Buffer,
    /// How many bytes were read, or why none.
    pub result: io::Result<usize>,
}

struct InFlight {
    token: u64,
    buffer: Buffer,
}

/// An io_uring for reads of one file.
pub struct Ring {
    ring: IoUring,
    file: Arc<File>,
    fixed_file: bool,
    fixed_buffers: Option<BufferPool>,
    /// Index = `user_data` of the kernel's entries.
    slots: Vec<Option<InFlight>>,
    free: Vec<usize>,
    abandoned: bool,
}

impl Ring {
    /// A ring for up to `depth` reads at once of `file`. Fails where io_uring is missing (ENOSYS),
    /// switched off (EPERM), or too old to wait with a time limit (before 5.11; ENOSYS too).
    pub fn new(file: Arc<File>, depth: usize) -> io::Result<Self> {
        let depth = depth.clamp(1, MAX_DEPTH);
        // Its memory is not given to children: they have no business with our ring.
        let ring: IoUring = IoUring::builder().dontfork().build(depth as u32)?;
        if !ring.params().is_feature_ext_arg() {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        let fixed_file = ring.submitter().register_files(&[file.as_raw_fd()]).is_ok();
        Ok(Self {
            ring,
            file,
            fixed_file,
            fixed_buffers: None,
            slots: (0..depth).map(|_| None).collect(),
            free: (0..depth).rev().collect(),
            abandoned: false,
        })
    }

    /// Whether io_uring can be used on this host; if not, with the reason.
    pub fn available() -> io::Result<()> {
        Self::new(Arc::new(File::open("/dev/null")?), 1).map(drop)
    }

    /// Makes the pool's memory known to the kernel, which then need not look it up for each read.
    /// Replaces the pool of an earlier call. It is only faster: when it fails (`RLIMIT_MEMLOCK`),
    /// buffers of that pool can be read into all the same.
    pub fn register_buffers(&mut self, pool: &BufferPool) -> io::Result<()> {
        if self.in_flight() > 0 {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        if self.fixed_buffers.take().is_some() {
            self.ring.submitter().unregister_buffers()?;
        }
        let total = pool.total().0 as usize;
        let piece = piece_size(pool);
        let pieces: Vec<_> = (0..total)
            .step_by(piece)
            .map(|at| libc::iovec {
                iov_base: pool.base().as_ptr().wrapping_add(at).cast(),
                iov_len: piece.min(total - at),
            })
            .collect();
        // SAFETY: the pieces are the pool's own memory, which stays mapped: `fixed_buffers` holds
        // the pool as long as it is registered. Registering alone writes nothing to it.
        unsafe { self.ring.submitter().register_buffers(&pieces) }?;
        self.fixed_buffers = Some(pool.clone());
        Ok(())
    }

    /// Whether a pool's memory is registered.
    pub fn has_fixed_buffers(&self) -> bool {
        self.fixed_buffers.is_some()
    }

    /// How many reads were started and not yet returned by [`Ring::wait`].
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts a read in line. It begins with [`Ring::flush`] or [`Ring::wait`] at the latest.
    ///
    /// # Panics
    /// When it does not fit its buffer, or as many reads as the ring has room for are in flight.
    pub fn submit(&mut self, request: ReadRequest) {
        let end = request.start.checked_add(request.length);
        assert!(
            end.is_some_and(|end| end <= request.buffer.capacity()),
            "a read must fit its buffer"
        );
        let slot = self.free.pop().expect("never more reads than the depth");
        let entry = self.entry(&request).user_data(slot as u64);
        self.slots[slot] = Some(InFlight {
            token: request.token,
            buffer: request.buffer,
        });
        // SAFETY: the entry's memory is a buffer's, checked above to be in bounds, and the slot
        // owns that buffer until the kernel reports this entry as done (or for ever: see `drop`).
        // The file is kept open by `self.file`.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        assert!(pushed.is_ok(), "the queue has an entry for each slot");
    }

    fn entry(&self, request: &ReadRequest) -> squeue::Entry {
        let buffer = &request.buffer;
        let memory = buffer.start().as_ptr().wrapping_add(request.start);
        let length = request.length as u32;
        let offset = request.offset.0;
        let fd = Fd(self.file.as_raw_fd());
        let fixed = self.fixed_buffers.as_ref().filter(|pool| pool.owns(buffer));
        match (fixed, self.fixed_file) {
            (Some(pool), with_file) => {
                let index = (buffer.position() / piece_size(pool)) as u16;
                if with_file {
                    opcode::ReadFixed::new(Fixed(0), memory, length, index)
                } else {
                    opcode::ReadFixed::new(fd, memory, length, index)
                }
                .offset(offset)
                .build()
            }
            (None, true) => opcode::Read::new(Fixed(0), memory, length)
                .offset(offset)
                .build(),
            (None, false) => opcode::Read::new(fd, memory, length).offset(offset).build(),
        }
    }

    /// Hands what is in line to the kernel.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() {
            return Ok(());
        }
        match self.ring.submit() {
            Ok(_) => Ok(()),
            // What is left stays in line.
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A read that is over, any of those in flight, waiting for one until `until` (for ever if
    /// there is none). `None` when the time is up or nothing is in flight.
    pub fn wait(&mut self, until: Option<Instant>) -> io::Result<Option<ReadDone>> {
        loop {
            if let Some(done) = self.reap() {
                return Ok(Some(done));
            }
            if self.in_flight() == 0 {
                return Ok(None);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let waited = match left {
                Some(left) => {
                    let time = Timespec::from(left);
                    let args = SubmitArgs::new().timespec(&time);
                    self.ring.submitter().submit_with_args(1, &args)
                }
                None => self.ring.submit_and_wait(1),
            };
            match waited {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => {}
                Err(error) if is_passing(&error) => {
                    if error.raw_os_error() != Some(libc::EINTR) {
                        std::thread::sleep(BUSY_PAUSE);
                    }
                }
                Err(error) => return Err(error),
            }
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(self.reap());
            }
        }
    }

    /// A read that is over already.
    fn reap(&mut self) -> Option<ReadDone> {
        let entry = self.ring.completion().next()?;
        let slot = entry.user_data() as usize;
        let InFlight { token, buffer } = self.slots[slot]
            .take()
            .expect("the kernel reports each read once");
        self.free.push(slot);
        let result = entry.result();
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        Some(ReadDone {
            token,
            buffer,
            result,
        })
    }

    /// Says that nobody waits for the reads in flight any more, so that dropping the ring takes no
    /// time. Their buffers are lost to the pool.
    pub fn abandon(&mut self) {
        self.abandoned = true;
    }
}

/// Size of the pieces in which a pool is registered: a whole number of buffers each.
fn piece_size(pool: &BufferPool) -> usize {
    let size = pool.buffer_size().0 as usize;
    (MAX_REGISTERED / size) * size
}

/// Whether it only means "not now".
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)
    )
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.abandoned {
            let until = Instant::now() + DROP_GRACE;
            while let Ok(Some(done)) = self.wait(Some(until)) {
                drop(done);
            }
        }
        while let Some(done) = self.reap() {
            drop(done);
        }
        // A device read cannot be called back (IORING_OP_ASYNC_CANCEL only finds what has not
        // reached the driver), so the kernel may still write to these: they are never used again.
        for in_flight in self.slots.iter_mut().filter_map(Option::take) {
            mem::forget(in_flight.buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    /// A file from which reads hang until something is written to the other end.
    fn hanging() -> (Arc<File>, File) {
        let (reader, writer) = std::io::pipe().unwrap();
        let file = |fd: OwnedFd| File::from(fd);
        (Arc::new(file(reader.into())), file(writer.into()))
    }

    fn request(pool: &BufferPool, token: u64) -> ReadRequest {
        ReadRequest {
            token,
            offset: Bytes(0),
            start: 0,
            length: 4096,
            buffer: pool.try_take().unwrap(),
            priority: None,
        }
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(20))
    }

    #[test]
    fn a_read_that_hangs_is_given_up_and_its_buffer_never_used_again() {
        let pool = BufferPool::new(2, Bytes(4096)).unwrap();
        let (file, mut writer) = hanging();
        let mut ring = Ring::new(file, 2).unwrap();
        ring.register_buffers(&pool).unwrap();
        ring.submit(request(&pool, 7));
        assert!(ring.wait(soon()).unwrap().is_none());
        assert_eq!(ring.in_flight(), 1);
        assert!(ring.register_buffers(&pool).is_err(), "in use");
        ring.abandon();
        drop(ring);
        // The pipe is closed by now, or the read still there: either way the buffer is not.
        let _ = writer.write_all(b"late");
        assert_eq!(pool.available(), 1);
    }

    #[test]
    fn a_dropped_ring_waits_for_reads_that_end() {
        let pool = BufferPool::new(2, Bytes(4096)).unwrap();
        let (file, mut writer) = hanging();
        let mut ring = Ring::new(file, 2).unwrap();
        ring.submit(request(&pool, 7));
        ring.flush().unwrap();
        let late = std::thread::spawn(move || {
            std::thread::sleep(DROP_GRACE / 20);
            writer.write_all(b"in time").unwrap();
        });
        drop(ring);
        late.join().unwrap();
        assert_eq!(pool.available(), 2);
    }

    #[test]
    fn results_come_with_their_token_and_buffer() {
        let pool = BufferPool::new(2, Bytes(4096)).unwrap();
        let (file, mut writer) = hanging();
        let mut ring = Ring::new(file, 2).unwrap();
        for registered in [false, true] {
            assert_eq!(ring.has_fixed_buffers(), registered);
            writer.write_all(b"abc").unwrap();
            ring.submit(ReadRequest {
                start: 512,
                length: 1024,
                ..request(&pool, 9)
            });
            let mut done = ring.wait(None).unwrap().unwrap();
            assert_eq!((done.token, done.result.unwrap()), (9, 3));
            assert_eq!(&done.buffer.space()[510..516], b"\0\0abc\0");
            assert!(ring.wait(soon()).unwrap().is_none(), "nothing is in flight");
            ring.register_buffers(&pool).unwrap();
        }
    }

    #[test]
    fn an_error_is_the_reads_not_the_rings() {
        let pool = BufferPool::new(1, Bytes(4096)).unwrap();
        let directory = Arc::new(File::open("/").unwrap());
        let mut ring = Ring::new(directory, 1).unwrap();
        ring.submit(request(&pool, 0));
        let done = ring.wait(None).unwrap().unwrap();
        assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::EISDIR));
        drop(done.buffer);
        assert_eq!(pool.available(), 1);
    }
}
