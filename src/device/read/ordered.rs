//! The reading loop: keeps reads in flight, puts them back in order, and ends well whatever fails.
//! It must never deliver a buffer that was not filled completely from its own extent.

use super::fault::{self, BadBlockSearch, Fault};
use super::queue::{AnyQueue, Geometry, ReadDone, ReadRequest};
use super::{
    Buffer, BufferPool, DiskReader, Limits, Pace, ReadCounter, ReadStats, ReaderOptions, Sink,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, Extent};
use crate::sys::io_priority::HeldPriority;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often `stop` is asked while waiting.
const POLL: Duration = Duration::from_millis(100);

/// For how long a read that fails waits for those in flight, before it leaves them behind.
const DRAIN_GRACE: Duration = Duration::from_secs(10);

/// How often a read is repeated that brought less than a block, or that the kernel says to repeat
/// (EAGAIN, EINTR).
const MAX_REPEATS: u32 = 16;

/// How many reads, and for how long, a search for bad blocks may take. A bad block costs two reads
/// for each halving, and a disk may think about each for seconds.
const MAX_PROBES: u32 = 1024;
const MAX_PROBE_TIME: Duration = Duration::from_secs(20);

/// A [`DiskReader`] on any queue.
pub struct OrderedReader {
    disk: Geometry,
    queue: AnyQueue,
    pool: BufferPool,
    depth: usize,
    counter: Arc<ReadCounter>,
    /// Reads may still be in flight that nobody waits for: the queue cannot be used again.
    lost: bool,
}

impl OrderedReader {
    pub fn new(disk: Geometry, queue: AnyQueue, options: &ReaderOptions) -> Result<Self> {
        let mut reader = Self {
            disk,
            queue,
            pool: options.pool.clone(),
            depth: options.depth.max(1),
            counter: Arc::clone(&options.counter),
            lost: false,
        };
        reader.set_pool(&options.pool)?;
        Ok(reader)
    }

    fn check_size(&self) -> Result<()> {
        match self.queue.current_size() {
            Ok(size) if size == self.disk.size => Ok(()),
            Ok(Bytes(0)) | Err(_) => Err(fault::gone(&self.disk)),
            Ok(size) => Err(fault::resized(&self.disk, size)),
        }
    }

    /// Refuses what direct I/O could not read, or what is not on the disk.
    fn check_extent(&self, extent: Extent) -> Result<()> {
        let block = u64::from(self.disk.logical_block);
        let end = extent.offset.0.checked_add(extent.length.0);
        let aligned = |at: u64| at.is_multiple_of(block);
        let good = end.is_some_and(|end| {
            let ends_well = aligned(end) || end == self.disk.size.0;
            extent.length.0 > 0 && end <= self.disk.size.0 && ends_well
        });
        if good && aligned(extent.offset.0) && extent.length <= self.pool.buffer_size() {
            return Ok(());
        }
        let name = self.disk.name.display();
        let (offset, length, size) = (extent.offset.0, extent.length.0, self.disk.size.0);
        Err(Error::new(
            ErrorKind::Failed,
            format!(
                "asked {name} for {length} bytes at {offset}: it has {size} bytes in blocks of \
                 {block}, and a buffer holds {}",
                self.pool.buffer_size().0
            ),
        ))
    }
}

impl DiskReader for OrderedReader {
    fn size(&self) -> Bytes {
        self.disk.size
    }

    fn logical_block(&self) -> u32 {
        self.disk.logical_block
    }

    fn engine_name(&self) -> String {
        self.queue.name()
    }

    fn set_pool(&mut self, pool: &BufferPool) -> Result<()> {
        let block = u64::from(self.disk.logical_block);
        if !pool.buffer_size().0.is_multiple_of(block) {
            let name = self.disk.name.display();
            let message = format!("{name} has blocks of {block} bytes, {pool:?} cannot hold them");
            return Err(Error::new(ErrorKind::Failed, message));
        }
        self.pool = pool.clone();
        self.queue.use_pool(pool);
        Ok(())
    }

    fn read(
        &mut self,
        extents: &mut dyn Iterator<Item = Extent>,
        limits: &Limits<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<ReadStats> {
        if self.lost {
            let name = self.disk.name.display();
            let message = format!("{name} must be opened again: it has reads that never ended");
            return Err(Error::new(ErrorKind::Failed, message));
        }
        self.check_size()?;
        let _held = limits.priority.and_then(HeldPriority::set);
        // Until the end is seen, also if the sink panics.
        self.lost = true;
        let mut pass = Pass {
            reader: self,
            limits,
            window: VecDeque::new(),
            first: 0,
            in_flight: 0,
            stats: ReadStats::default(),
        };
        let ended = pass.run(extents, sink);
        let result = match ended {
            Ok(()) => Ok(pass.stats),
            Err(halt) => Err(pass.give_up(halt)),
        };
        self.lost = pass.in_flight > 0;
        if self.lost {
            self.queue.abandon();
        }
        result
    }
}

/// Why a pass ends early.
enum Halt {
    Because(Error),
    /// Slots in the window say what failed.
    Faults,
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Because(error)
    }
}

enum ReadState {
    /// So many bytes are there, the rest is in flight.
    Reading {
        got: usize,
        repeats: u32,
    },
    Ready(Buffer),
    Failed(Fault, Buffer),
}

struct ReadSlot {
    extent: Extent,
    state: ReadState,
}

/// One call of `read`.
struct Pass<'a> {
    reader: &'a mut OrderedReader,
    limits: &'a Limits<'a>,
    /// What was asked for and not delivered, in order.
    window: VecDeque<ReadSlot>,
    /// The token of the window's first slot; tokens count up.
    first: u64,
    in_flight: usize,
    stats: ReadStats,
}

impl Pass<'_> {
    fn run(
        &mut self,
        extents: &mut dyn Iterator<Item = Extent>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Halt> {
        let mut extents = extents.peekable();
        loop {
            self.patience()?;
            self.fill(&mut extents)?;
            match self.window.pop_front() {
                None => return Ok(()),
                Some(ReadSlot {
                    extent,
                    state: ReadState::Ready(buffer),
                }) => {
                    self.first += 1;
                    sink(extent, buffer)?;
                }
                Some(slot) => {
                    self.window.push_front(slot);
                    self.wait()?;
                }
            }
        }
    }

    /// Starts reads as long as there is room. Leaves the window empty only at the end.
    fn fill(
        &mut self,
        extents: &mut std::iter::Peekable<&mut dyn Iterator<Item = Extent>>,
    ) -> Result<(), Halt> {
        // One slow read shall not stop the others at once: twice the depth may wait for it.
        while self.in_flight < self.reader.depth && self.window.len() < 2 * self.reader.depth {
            let Some(&extent) = extents.peek() else { break };
            self.reader.check_extent(extent)?;
            if self.is_too_fast()? {
                break;
            }
            let buffer = match self.reader.pool.try_take() {
                Some(buffer) => buffer,
                None if self.window.is_empty() => {
                    let pool = self.reader.pool.clone();
                    pool.take(&mut || self.patience())?
                }
                None => break,
            };
            extents.next();
            if let Some(pace) = self.pace() {
                pace.take(extent.length);
            }
            let token = self.first + self.window.len() as u64;
            let state = ReadState::Reading { got: 0, repeats: 0 };
            self.window.push_back(ReadSlot { extent, state });
            self.submit(token, extent, 0, buffer);
        }
        self.flush()
    }

    /// How fast to read; nothing in the window is held back.
    fn pace(&self) -> Option<&Pace> {
        self.limits.pace.filter(|_| self.limits.deadline.is_none())
    }

    /// Whether the next read must begin later, and there is something else to do meanwhile. Where
    /// there is not, it waits for that moment.
    fn is_too_fast(&self) -> Result<bool> {
        let Some(pace) = self.pace() else {
            return Ok(false);
        };
        loop {
            let wait = pace.wait();
            if wait.is_zero() {
                return Ok(false);
            }
            if !self.window.is_empty() {
                return Ok(true);
            }
            pace.sleep(wait.min(self.patience()?));
        }
    }

    fn flush(&mut self) -> Result<(), Halt> {
        let flushed = self.reader.queue.flush();
        Ok(flushed.map_err(|error| self.queue_error(error))?)
    }

    fn queue_error(&self, source: io::Error) -> Error {
        Error::io("perform reads of", &self.reader.disk.name, source).with_kind(ErrorKind::Io)
    }

    /// Reads what is missing of the extent, up to the end of its last logical block: only the last
    /// of a file with an odd size has one that reaches past the extent.
    fn submit(&mut self, token: u64, extent: Extent, got: usize, buffer: Buffer) {
        let block = self.reader.disk.logical_block as usize;
        let missing = extent.length.0 as usize - got;
        self.reader.queue.submit(ReadRequest {
            token,
            offset: extent.offset + Bytes(got as u64),
            start: got,
            length: missing.next_multiple_of(block),
            buffer,
            priority: self.limits.priority,
        });
        self.in_flight += 1;
        self.stats.reads += 1;
        self.reader.counter.add_read();
    }

    fn count_bytes(&mut self, read: usize) {
        self.stats.bytes += Bytes(read as u64);
        self.reader.counter.add_bytes(read as u64);
    }

    /// How long may be waited before this is asked again.
    fn patience(&self) -> Result<Duration> {
        if let Some(cancel) = self.limits.cancel {
            cancel.check()?;
        }
        let Some(deadline) = self.limits.deadline else {
            return Ok(POLL);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let name = self.reader.disk.name.display();
            let at = match self.window.front() {
                Some(slot) => format!(" from {} on", slot.extent.offset.0),
                None => String::new(),
            };
            let message = format!("{name} was not read{at} before the deadline");
            return Err(Error::new(ErrorKind::Inconsistent, message));
        }
        Ok(left.min(POLL))
    }

    fn wait(&mut self) -> Result<(), Halt> {
        let until = Instant::now() + self.patience()?;
        let done = self.reader.queue.wait(until);
        if let Some(done) = done.map_err(|error| self.queue_error(error))? {
            self.settle(done)?;
        }
        Ok(())
    }

    /// Notes what came of a read, and starts another for what is still missing.
    fn settle(&mut self, done: ReadDone) -> Result<(), Halt> {
        let ReadDone {
            token,
            mut buffer,
            result,
        } = done;
        self.in_flight -= 1;
        if let Ok(read) = result {
            self.count_bytes(read);
        }
        let block = self.reader.disk.logical_block as usize;
        let index = (token - self.first) as usize;
        let slot = &mut self.window[index];
        let ReadState::Reading { got, repeats } = &mut slot.state else {
            unreachable!("a read ends once");
        };
        let fault = match result {
            Ok(read) => {
                let length = slot.extent.length.0 as usize;
                let there = *got + read;
                if there >= length {
                    buffer.set_len(length);
                    slot.state = ReadState::Ready(buffer);
                    return Ok(());
                }
                // Direct I/O can only go on at a block's start.
                let whole = there / block * block;
                if whole == *got {
                    *repeats += 1;
                }
                *got = whole;
                (read == 0 || *repeats >= MAX_REPEATS).then_some(Fault::Ended)
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                *repeats += 1;
                let again = matches!(errno, libc::EAGAIN | libc::EINTR) && *repeats < MAX_REPEATS;
                (!again).then_some(Fault::Errno(errno))
            }
        };
        if let Some(fault) = fault {
            slot.state = ReadState::Failed(fault, buffer);
            return Err(Halt::Faults);
        }
        let (extent, got) = (slot.extent, *got);
        self.submit(token, extent, got, buffer);
        self.flush()
    }

    /// Waits for the reads in flight, within limits, and says why it ended.
    fn give_up(&mut self, halt: Halt) -> Error {
        let mut until = Instant::now() + DRAIN_GRACE;
        if let Some(deadline) = self.limits.deadline {
            until = until.min(deadline);
        }
        while let Ok(Some(done)) = self.reader.queue.wait(until) {
            self.in_flight -= 1;
            match done.result {
                Ok(read) => self.count_bytes(read),
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    let index = (done.token - self.first) as usize;
                    self.window[index].state = ReadState::Failed(Fault::Errno(errno), done.buffer);
                }
            }
        }
        match halt {
            Halt::Because(error) => error,
            Halt::Faults => self.explain(),
        }
    }

    fn explain(&mut self) -> Error {
        let mut failed: Vec<_> = std::mem::take(&mut self.window)
            .into_iter()
            .filter_map(|slot| match slot.state {
                ReadState::Failed(fault, buffer) => Some((slot.extent, fault, buffer)),
                _ => None,
            })
            .collect();
        failed.sort_by_key(|&(extent, ..)| extent);
        let worst = failed.iter().find(|(_, fault, _)| !fault.is_local());
        let size = self.reader.queue.current_size();
        let same = size
            .as_ref()
            .is_ok_and(|&size| size == self.reader.disk.size);
        let Some(&(extent, fault, _)) = worst.or(failed.first()) else {
            return Error::new(ErrorKind::Failed, "a read failed for no reason");
        };
        let Fault::Errno(errno) = fault else {
            return fault::explain(&self.reader.disk, extent, fault, size);
        };
        if !fault.is_local() || !same {
            return fault::explain(&self.reader.disk, extent, fault, size);
        }
        let mut search = BadBlockSearch::default();
        let mut prober = Prober::new(self);
        for (extent, _, buffer) in failed {
            prober.buffer = Some(buffer);
            let block = prober.pass.reader.disk.logical_block;
            search.narrow(extent, block, &mut |piece| prober.readable(piece));
        }
        search.finish(&self.reader.disk, errno)
    }
}

/// Reads small pieces, one at a time, to find the bad ones.
struct Prober<'p, 'a> {
    pass: &'p mut Pass<'a>,
    buffer: Option<Buffer>,
    tries: u32,
    until: Instant,
}

impl<'p, 'a> Prober<'p, 'a> {
    fn new(pass: &'p mut Pass<'a>) -> Self {
        // With a deadline something waits for us: the failed extents must do. And where reads hang,
        // no more are started.
        let no_time = pass.limits.deadline.is_some() || pass.in_flight > 0;
        Self {
            pass,
            buffer: None,
            tries: if no_time { 0 } else { MAX_PROBES },
            until: Instant::now() + MAX_PROBE_TIME,
        }
    }

    /// `None` when there is no more time to try.
    fn readable(&mut self, piece: Extent) -> Option<bool> {
        self.tries = self.tries.checked_sub(1)?;
        let buffer = self.buffer.take()?;
        self.pass.submit(0, piece, 0, buffer);
        while self.pass.patience().is_ok() && Instant::now() < self.until {
            match self.pass.reader.queue.wait(Instant::now() + POLL) {
                Ok(None) => {}
                Ok(Some(done)) => {
                    self.pass.in_flight -= 1;
                    self.buffer = Some(done.buffer);
                    if let Ok(read) = done.result {
                        self.pass.count_bytes(read);
                    }
                    let whole = piece.length.0 as usize;
                    return Some(done.result.is_ok_and(|read| read >= whole));
                }
                Err(_) => break,
            }
        }
        // It is still in flight, and its buffer with it: nothing can be tried any more.
        self.tries = 0;
        None
    }
}
