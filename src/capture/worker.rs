//! Encoding on all cores: a batch of neighbouring blocks comes in, what is to be stored goes out.

use super::baseline::{Baseline, KnownBlock};
use crate::device::read::Buffer;
use crate::error::Result;
use crate::format::{ChunkHash, EncodedChunk, Packed, Sealer};
use crate::model::{BLOCK_SIZE, BlockIndex, Extent};
use crate::store::{ChunksElsewhere, LookedFor};
use std::sync::Arc;

/// What of a disk's blocks may be in the vault already.
#[derive(Clone, Default)]
pub struct InVault {
    /// By what earlier snapshots and runs have at the same place, one after the other.
    pub earlier: Vec<Arc<Baseline>>,
    /// By what anybody has put.
    pub elsewhere: Option<Arc<ChunksElsewhere>>,
}

impl From<Option<Arc<Baseline>>> for InVault {
    fn from(earlier: Option<Arc<Baseline>>) -> Self {
        Self {
            earlier: earlier.into_iter().collect(),
            elsewhere: None,
        }
    }
}

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
    pub known: InVault,
}

/// What became of one block.
pub(super) enum BlockOutcome {
    /// All zeros.
    Zero,
    /// In the vault already.
    Known(KnownBlock),
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
    let plains: Vec<&[u8]> = batch.bytes.chunks(BLOCK_SIZE as usize).collect();
    let mut known = Vec::with_capacity(plains.len());
    for (block, plain) in (first.0..).zip(&plains) {
        known.push(known_before(
            &batch.known.earlier,
            BlockIndex(block),
            plain,
        )?);
    }
    let hashes = match &batch.known.elsewhere {
        Some(elsewhere) => find_elsewhere(elsewhere, &plains, &mut known, sealer)?,
        None => vec![None; plains.len()],
    };
    let mut outcomes = Vec::with_capacity(plains.len());
    for ((plain, known), hash) in plains.into_iter().zip(known).zip(hashes) {
        outcomes.push(match known {
            Some(known) => BlockOutcome::Known(known),
            None => {
                let chunk = match hash {
                    Some(hash) => sealer.encode_hashed(plain, hash, &mut packed),
                    None => sealer.encode_chunk(plain, &mut packed),
                };
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

/// Looks what of these blocks anybody has put, where nothing is known yet. Returns the hashes that
/// this took.
fn find_elsewhere(
    elsewhere: &ChunksElsewhere,
    plains: &[&[u8]],
    known: &mut [Option<KnownBlock>],
    sealer: &Sealer,
) -> Result<Vec<Option<ChunkHash>>> {
    let unknown = plains.iter().zip(known.iter());
    // Zeros are never stored.
    let hashes = unknown.map(|(plain, known)| match known {
        Some(_) => None,
        None => sealer.hash_of_data(plain),
    });
    let hashes: Vec<Option<ChunkHash>> = hashes.collect();
    let blocks = plains.iter().zip(&hashes);
    let blocks = blocks.map(|(plain, hash)| hash.map(|hash| LookedFor { plain, hash }));
    let found = elsewhere.find(&blocks.collect::<Vec<_>>())?;
    for (known, found) in known.iter_mut().zip(found) {
        *known = known.or(found.map(KnownBlock::of_others));
    }
    Ok(hashes)
}

/// Where the block's bytes stand in the vault, by the first that knows.
fn known_before(
    baselines: &[Arc<Baseline>],
    block: BlockIndex,
    plain: &[u8],
) -> Result<Option<KnownBlock>> {
    for baseline in baselines {
        let known = baseline.known(block, plain)?;
        if known.is_some() {
            return Ok(known);
        }
    }
    Ok(None)
}
