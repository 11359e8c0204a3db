//! Chunks of segments by their places, and how they stand there.

use crate::format::{CHUNK_HEADER, ChunkHash};
use crate::model::ObjectId;

/// A chunk as it stands in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// BLAKE3 of its plain bytes.
    pub hash: ChunkHash,
    /// Length of its plain bytes.
    pub plain_len: u32,
    /// Bytes that it takes in the vault.
    pub stored_len: u32,
}

impl StoredChunk {
    /// Whether it takes three quarters of its plain bytes at most.
    pub fn packs_well(&self) -> bool {
        u64::from(self.stored_len) * 4 <= u64::from(self.plain_len) * 3
    }

    /// Whether packing won less than an eighth. What it is wrapped into does not count.
    pub fn hardly_packs(&self) -> bool {
        let stored = u64::from(self.stored_len).saturating_sub(CHUNK_HEADER as u64);
        stored > u64::from(self.plain_len) / 8 * 7
    }
}

/// Neighbouring chunks of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRange {
    /// Which segment.
    pub segment: ObjectId,
    /// The slot of the first chunk.
    pub first: u32,
    /// How many chunks.
    pub count: u32,
}
