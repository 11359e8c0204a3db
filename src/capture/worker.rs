//! Encoding on all cores: a batch of neighbouring blocks comes in, what is to be stored goes out.

use super::baseline::Baseline;
use crate::device::read::Buffer;
use crate::error::Result;
use crate::format::{EncodedChunk, encode_chunk, hash_of};
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
    /// What to compare with.
    pub baseline: Option<Arc<Baseline>>,
}

/// What became of one block.
pub(super) enum Outcome {
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
    pub outcomes: Vec<Outcome>,
}

/// Encodes a batch, whose buffer the caller gives back then.
pub(super) fn encode(batch: &Batch) -> Result<Encoded> {
    let first = batch.extent.offset.block();
    let mut outcomes = Vec::with_capacity(batch.bytes.len().div_ceil(BLOCK_SIZE as usize));
    for (n, plain) in batch.bytes.chunks(BLOCK_SIZE as usize).enumerate() {
        let block = BlockIndex(first.0 + n as u64);
        outcomes.push(encode_block(block, plain, batch.baseline.as_deref())?);
    }
    Ok(Encoded {
        sequence: batch.sequence,
        disk: batch.disk,
        first,
        outcomes,
    })
}

fn encode_block(block: BlockIndex, plain: &[u8], baseline: Option<&Baseline>) -> Result<Outcome> {
    if let Some(baseline) = baseline
        && matches!(baseline.map().get(block), Some(Content::Data { .. }))
        && let Some(content) = baseline.holds(block, plain.len(), &hash_of(plain))?
    {
        return Ok(Outcome::Known(content));
    }
    Ok(encode_chunk(plain).map_or(Outcome::Zero, Outcome::Chunk))
}
