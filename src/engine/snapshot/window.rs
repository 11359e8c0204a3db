//! Locked memory for what is read last: right before everything is frozen, and while it is. It
//! holds the newest copy of each block, so that a block written again and again is stored once. It
//! must never allocate while anything is frozen.

use super::disk_run::DiskRun;
use crate::capture::Pipeline;
use crate::device::read::{Buffer, BufferPool, Limits};
use crate::error::Result;
use crate::model::{BLOCK_SIZE, Bytes, Extent};
use std::collections::HashMap;

/// The number of a disk in the run, and of a block on it.
type Place = (usize, u64);

/// Copies of blocks in locked memory.
pub struct Window {
    pool: BufferPool,
    copies: HashMap<Place, (Extent, Buffer)>,
}

/// How a pass into the window went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// This much was read.
    Read(Bytes),
    /// This much would have to be held, more than there is room for. Nothing was read; it stays
    /// wanted.
    TooMuch(Bytes),
}

impl Window {
    /// Room for this many blocks.
    pub fn new(blocks: usize) -> Result<Self> {
        let pool = BufferPool::new(blocks, Bytes(BLOCK_SIZE))?;
        // Without the privilege to lock, it is memory that could be swapped out. The deadline still
        // holds.
        let _ = pool.lock();
        Ok(Self {
            // Twice, so that taking out and putting in never makes it grow.
            copies: HashMap::with_capacity(2 * blocks),
            pool,
        })
    }

    /// The memory that disks are read into.
    pub fn pool(&self) -> &BufferPool {
        &self.pool
    }

    /// Reads what is wanted of every disk. With a deadline everything is frozen meanwhile.
    pub fn fill(&mut self, disks: &mut [DiskRun], limits: &Limits<'_>) -> Result<Filled> {
        let needed = self.needed(disks);
        if needed > self.pool.count() as u64 {
            return Ok(Filled::TooMuch(Bytes::of_blocks(needed)));
        }
        let mut sum = Bytes(0);
        for (number, disk) in disks.iter_mut().enumerate() {
            if disk.wanted().is_empty() {
                continue;
            }
            for block in disk.wanted().ranges(1) {
                self.copies.remove(&(number, block.start.0));
            }
            let copies = &mut self.copies;
            let read = disk.read_wanted(1, limits, &mut |extent, buffer| {
                copies.insert((number, extent.offset.block().0), (extent, buffer));
                Ok(())
            });
            sum += read?;
        }
        Ok(Filled::Read(sum))
    }

    /// Whether all that is wanted of them fits.
    pub fn has_room(&self, disks: &[DiskRun]) -> bool {
        self.needed(disks) <= self.pool.count() as u64
    }

    /// How many blocks there will be when what is wanted has been read.
    fn needed(&self, disks: &[DiskRun]) -> u64 {
        let mut needed = self.copies.len() as u64;
        for (number, disk) in disks.iter().enumerate() {
            let again = disk.wanted().ranges(1);
            let again = again.filter(|block| self.copies.contains_key(&(number, block.start.0)));
            needed += disk.wanted().len() - again.count() as u64;
        }
        needed
    }

    /// Gives everything to the encoding threads, in the order of the disk, so that neighbours are
    /// stored beside each other. To be called when nothing is frozen any more, and before anything
    /// is copied past the window: when a block is given twice, the later bytes count.
    pub fn hand_over(&mut self, disks: &[DiskRun], pipeline: &mut Pipeline) -> Result<()> {
        let mut copies: Vec<_> = self.copies.drain().collect();
        copies.sort_unstable_by_key(|(place, _)| *place);
        for ((number, _), (extent, buffer)) in copies {
            // The number is one that `fill` counted.
            let baseline = disks.get(number).and_then(DiskRun::baseline);
            pipeline.submit(number, extent, buffer, baseline)?;
        }
        Ok(())
    }
}
