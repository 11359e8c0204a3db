//! Encoding on all cores: a batch of neighbouring blocks comes in, what is to be stored goes out.

use super::baseline::Baseline;
use crate::device::read::Buffer;
use crate::error::Result;
use crate::format::{EncodedChunk, Packed, Sealer};
use crate::model::{BLOCK_SIZE, BlockIndex, Content, Extent};
use std::sync::Arc;

/// Neighbouring blocks of one disk, as they were read.
pub(super) struct Batch {
    /// Batches are laid over one another in this order.
    pub sequence: u64,
    /// Which disk of the run.
    pub disk: usize,
    /// Which bytes of it.
    pub extent: Extent,
    /// The bytes.
    pub bytes: Buffer,
    /// What to compare with, one after the other.
    pub known: Vec<Arc<Baseline>>,
}

/// What became of one block.
pub(super) enum BlockOutcome {
    /// All zeros.
    Zero,
    /// In the vault already.
    Known(Content),
    /// To be stored.
    Chunk(EncodedChunk),
}

/// A batch, encoded.
pub(super) struct Encoded {
    pub sequence: u64,
    pub disk: usize,
    pub first: BlockIndex,
    pub outcomes: Vec<BlockOutcome>,
    /// The bytes of its chunks.
    pub packed: Packed,
}

/// Encodes a batch into `packed`, whatever is in there. The caller gives the batch's buffer back.
pub(super) fn encode(batch: &Batch, mut packed: Packed, sealer: &Sealer) -> Result<Encoded> {
    let first = batch.extent.offset.block();
    packed.clear();
    let mut outcomes = Vec::with_capacity(batch.bytes.len().div_ceil(BLOCK_SIZE as usize));
    for (n, plain) in batch.bytes.chunks(BLOCK_SIZE as usize).enumerate() {
        let block = BlockIndex(first.0 + n as u64);
        outcomes.push(match known(&batch.known, block, plain)? {
            Some(content) => BlockOutcome::Known(content),
            None => {
                let chunk = sealer.encode_chunk(plain, &mut packed);
                chunk.map_or(BlockOutcome::Zero, BlockOutcome::Chunk)
            }
        });
    }
    Ok(Encoded {
        sequence: batch.sequence,
        disk: batch.disk,
        first,
        outcomes,
        packed,
    })
}

/// Where the block's bytes stand in the vault, by the first that knows.
fn known(baselines: &[Arc<Baseline>], block: BlockIndex, plain: &[u8]) -> Result<Option<Content>> {
    for baseline in baselines {
        let content = baseline.known(block, plain)?;
        if content.is_some() {
            return Ok(content);
        }
    }
    Ok(None)
}
