//! What blocks of a live disk are used for at this moment, by swap and by files.

use super::random::random;
use crate::device::{Host, blocks_of_files, swapped_now};
use crate::error::Result;
use crate::model::{BlockSet, Bytes, DevNumber};

/// The blocks that the kernel swaps to.
pub fn swap_blocks(disk: DevNumber, size: Bytes) -> Result<BlockSet> {
    let mut blocks = BlockSet::new();
    for extent in swapped_now(&Host::here(), disk)? {
        blocks.insert_inside(extent, size);
    }
    Ok(blocks)
}

/// The blocks in which some files lie, picked at random.
pub fn sample_file_blocks(disk: DevNumber) -> Result<BlockSet> {
    let random = |below: u64| random() % below.max(1);
    blocks_of_files(&Host::here(), disk, &random)
}
