//! Locked memory for what is read last: right before everything is held still, and while it is.
//! It holds the newest copy of each block, so that a block written again and again is stored once.
//! It must never allocate while anything is held.

use super::subject::Subject;
use crate::capture::Pipeline;
use crate::device::read::{Buffer, BufferPool, Limits};
use crate::error::{ErrorKind, Result};
use crate::model::{BLOCK_SIZE, Bytes, Extent};
use std::collections::HashMap;

/// The number of a disk in the run, and of a block on it.
type Place = (usize, u64);

/// Copies of blocks in locked memory.
pub struct Window {
    pool: BufferPool,
    held: HashMap<Place, (Extent, Buffer)>,
}

/// What a pass into the window came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// So much was read.
    Read(Bytes),
    /// So much would have to be held, more than there is room for. Nothing was read; it stays
    /// wanted.
    TooMuch(Bytes),
}

impl Window {
    /// Room for this many blocks.
    pub fn new(blocks: usize) -> Result<Self> {
        let pool = BufferPool::new(blocks, Bytes(BLOCK_SIZE))?;
        // Without the privilege to lock, it is memory that could be swapped out: the deadline
        // still holds.
        let _ = pool.lock();
        Ok(Self {
            // Twice, so that taking out and putting in never makes it grow.
            held: HashMap::with_capacity(2 * blocks),
            pool,
        })
    }

    /// Has all disks read into this memory from now on.
    pub fn take_over(&self, subjects: &mut [Subject]) -> Result<()> {
        subjects
            .iter_mut()
            .try_for_each(|subject| subject.options.reader.set_pool(&self.pool))
    }

    /// Reads what is wanted of every disk. `frozen`: while all is held still.
    pub fn fill(
        &mut self,
        subjects: &mut [Subject],
        limits: &Limits<'_>,
        frozen: bool,
    ) -> Result<Filled> {
        let needed = self.needed(subjects);
        if needed > self.pool.count() as u64 {
            return Ok(Filled::TooMuch(Bytes(needed * BLOCK_SIZE)));
        }
        let mut sum = Bytes(0);
        for (number, subject) in subjects.iter_mut().enumerate() {
            let wanted = std::mem::take(&mut subject.wanted);
            if wanted.is_empty() {
                continue;
            }
            for block in wanted.ranges(1) {
                self.held.remove(&(number, block.start));
            }
            let size = subject.size();
            let mut extents = wanted.ranges(1).map(|range| Extent::of_blocks(range, size));
            let held = &mut self.held;
            let name = &subject.options.identity.name;
            let reader = &mut subject.options.reader;
            let read = reader.read(&mut extents, limits, &mut |extent, buffer| {
                held.insert((number, extent.offset.block().0), (extent, buffer));
                Ok(())
            });
            let read = read.map_err(|error| match error.kind() {
                // The user's wish, or the deadline.
                ErrorKind::Interrupted(_) | ErrorKind::Inconsistent => error,
                _ => error.on_disk(name),
            })?;
            subject.passes += 1;
            subject.read.reads += read.reads;
            subject.read.bytes.0 += read.bytes.0;
            if frozen {
                subject.frozen.0 += read.bytes.0;
            }
            sum.0 += read.bytes.0;
        }
        Ok(Filled::Read(sum))
    }

    /// Whether all that is wanted of them fits.
    pub fn has_room(&self, subjects: &[Subject]) -> bool {
        self.needed(subjects) <= self.pool.count() as u64
    }

    /// How many blocks there will be when what is wanted has been read.
    fn needed(&self, subjects: &[Subject]) -> u64 {
        let mut needed = self.held.len() as u64;
        for (number, subject) in subjects.iter().enumerate() {
            let again = subject.wanted.ranges(1);
            let again = again.filter(|block| self.held.contains_key(&(number, block.start)));
            needed += subject.wanted.len() - again.count() as u64;
        }
        needed
    }

    /// Gives everything to the encoding threads, in the order of the disk, so that neighbours are
    /// stored beside each other. To be done when nothing is held any more, and before anything is
    /// copied that is not read into the window: of a block that is given twice the later bytes
    /// count.
    pub fn hand_over(&mut self, subjects: &[Subject], pipeline: &mut Pipeline) -> Result<()> {
        let mut held: Vec<_> = self.held.drain().collect();
        held.sort_unstable_by_key(|(place, _)| *place);
        for ((number, _), (extent, buffer)) in held {
            // The number is one that `fill` counted.
            let baseline = subjects.get(number).and_then(Subject::baseline);
            pipeline.submit(number, extent, buffer, baseline)?;
        }
        Ok(())
    }
}
