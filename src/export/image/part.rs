//! What was read of a disk, where it is kept: who only sends it on needs no copy of it.

use crate::model::BLOCK_SIZE;
use std::ops::Range;
use std::sync::Arc;

static ZEROS: [u8; BLOCK_SIZE as usize] = [0; BLOCK_SIZE as usize];

/// Bytes of one block of a disk, checked. While they are held they stay as they are, and take
/// their memory.
#[derive(Clone, Debug)]
pub struct PlainPart {
    /// `None`: zeros.
    block: Option<Arc<Vec<u8>>>,
    within: Range<usize>,
}

impl PlainPart {
    /// A part of a block's bytes, or so many zeros. `within` is within the block.
    pub(super) fn new(block: Option<Arc<Vec<u8>>>, within: Range<usize>) -> Self {
        Self { block, within }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.block {
            Some(block) => &block[self.within.clone()],
            None => &ZEROS[self.within.clone()],
        }
    }
}
