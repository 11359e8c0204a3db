//! The sealing of one segment: its own key, which a writer makes, uses and forgets, and which only
//! who may read gets back. It must never be printed.

use super::chunk::{ChunkHash, EncodedChunk};
use super::codec::Codec;
use super::crypt::{self, Key, TAG, TextNumber, WRAPPED};
use super::damaged;
use super::vault_keys::VaultKeys;
use crate::error::Result;
use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// What the end of a sealed segment has more than another's: the footer's tag, and a hash.
pub(super) const SEALED_END: usize = TAG + 32;

/// What is sealed is hashed in pieces of so many bytes: while the processor has them at hand, and
/// enough for all its lanes.
const PIECE: usize = 128 << 10;

/// What a writer seals a segment with.
pub(super) struct SegmentSeal {
    keys: Arc<VaultKeys>,
    salt: [u8; 16],
    key: Key,
    /// Of the segment's bytes, as far as they were hashed.
    hasher: blake3::Hasher,
    hashed: usize,
}

impl SegmentSeal {
    /// A seal with a key of its own, and that key for whoever may read.
    pub(super) fn begin(keys: Arc<VaultKeys>, salt: [u8; 16]) -> Result<(Self, [u8; WRAPPED])> {
        let key = crypt::fresh()?;
        let wrapped = keys.wrap(&salt, &key)?;
        let seal = Self {
            keys,
            salt,
            key,
            hasher: blake3::Hasher::new(),
            hashed: 0,
        };
        Ok((seal, wrapped))
    }

    /// Hashes what the segment has, in whole pieces; its bytes only grow.
    pub(super) fn hash_along(&mut self, bytes: &[u8]) {
        while let Some(piece) = bytes.get(self.hashed..self.hashed + PIECE) {
            self.hasher.update(piece);
            self.hashed += PIECE;
        }
    }

    /// The hash of all of these, which were hashed along as far as they go.
    pub(super) fn hash_of(&mut self, bytes: &[u8]) -> blake3::Hash {
        self.hasher.update(&bytes[self.hashed..]);
        self.hashed = bytes.len();
        self.hasher.finalize()
    }

    /// Seals the stored bytes of a chunk where they stand; returns what goes after them.
    pub(super) fn chunk(&self, slot: u32, chunk: &EncodedChunk, stored: &mut [u8]) -> [u8; TAG] {
        let bound = bound_to(&self.salt, slot, chunk.codec, chunk.plain_len);
        // Not by the slot alone: what a machine's memory was may come again, with other bytes.
        let number = TextNumber::of_slot(&chunk.hash, slot);
        crypt::seal(&self.key, number, &bound, stored)
    }

    /// Seals the footer where it stands; returns what goes after it. `chunks`: the hash of all
    /// before; `bound`: what of the trailer describes it.
    pub(super) fn footer(&self, chunks: &[u8; 32], bound: &[u8], footer: &mut [u8]) -> [u8; TAG] {
        let key = self.keys.of_footer(&self.salt, chunks);
        crypt::seal(&key, TextNumber::ONLY, bound, footer)
    }
}

/// What a chunk's bytes are bound to.
fn bound_to(salt: &[u8; 16], slot: u32, codec: Codec, plain_len: u32) -> [u8; 25] {
    let mut bound = [0; 25];
    bound[..16].copy_from_slice(salt);
    bound[16..20].copy_from_slice(&slot.to_le_bytes());
    bound[20..24].copy_from_slice(&plain_len.to_le_bytes());
    bound[24] = codec.byte();
    bound
}

/// What a reader opens the chunks of a segment with.
#[derive(Clone)]
pub(super) struct SegmentOpener {
    keys: Arc<VaultKeys>,
    salt: [u8; 16],
    wrapped: [u8; WRAPPED],
    /// It is had when it is first needed: most footers are read for their hashes.
    key: OnceLock<Key>,
}

impl fmt::Debug for SegmentOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SegmentOpener")
    }
}

/// A chunk, as the footer describes it.
#[derive(Clone, Copy)]
pub(super) struct SealedChunk {
    pub(super) slot: u32,
    pub(super) codec: Codec,
    pub(super) plain_len: u32,
    pub(super) hash: ChunkHash,
}

impl SegmentOpener {
    pub(super) fn of(keys: Arc<VaultKeys>, salt: [u8; 16], wrapped: [u8; WRAPPED]) -> Self {
        Self {
            keys,
            salt,
            wrapped,
            key: OnceLock::new(),
        }
    }

    /// Opens a footer where it stands.
    pub(super) fn footer<'a>(
        &self,
        chunks: &[u8; 32],
        bound: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8]> {
        let key = self.keys.of_footer(&self.salt, chunks);
        crypt::open(&key, TextNumber::ONLY, bound, sealed)
            .ok_or_else(|| damaged("segment's footer was not sealed with this vault's key"))
    }

    fn key(&self) -> Result<&Key> {
        if let Some(key) = self.key.get() {
            return Ok(key);
        }
        let key = self.keys.unwrap(&self.salt, &self.wrapped)?;
        Ok(self.key.get_or_init(|| key))
    }

    /// The plain bytes of a chunk, in `room`.
    ///
    /// # Errors
    /// `Unsupported`: the keys are a writer's. `Damaged`: these bytes are not what was sealed.
    pub(super) fn chunk<'a>(
        &self,
        chunk: SealedChunk,
        sealed: &[u8],
        room: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        let SealedChunk {
            slot,
            codec,
            plain_len,
            hash,
        } = chunk;
        let key = self.key()?;
        let bound = bound_to(&self.salt, slot, codec, plain_len);
        let wrong = || damaged("chunk is not what was sealed");
        let length = plain_len as usize;
        let number = TextNumber::of_slot(&hash, slot);
        if codec == Codec::Raw {
            room.clear();
            room.extend_from_slice(sealed);
            let opened = crypt::open(key, number, &bound, room).ok_or_else(wrong)?;
            if opened.len() != length {
                return Err(damaged("raw chunk of two lengths"));
            }
            room.truncate(length);
            return Ok(room);
        }
        let mut packed = PACKED.take();
        packed.clear();
        packed.extend_from_slice(sealed);
        room.resize(length, 0);
        let opened = crypt::open(key, number, &bound, &mut packed).ok_or_else(wrong);
        let unpacked = opened.and_then(|packed| codec.unpack(packed, room));
        PACKED.set(packed);
        match unpacked.map_err(|error| error.context("chunk"))? {
            got if got == length => Ok(room),
            got => Err(damaged(format!(
                "chunk unpacks to {got} bytes instead of {length}"
            ))),
        }
    }
}

thread_local! {
    /// Where a chunk is opened before it is unpacked: at most 64 KiB and a tag.
    static PACKED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::chunk::{Packed, encode_named};
    use crate::format::codec::Compression;
    use crate::model::ObjectId;

    /// A machine whose memory goes back seals another block in the same slot of the same segment:
    /// what both were is not seen in the two texts.
    #[test]
    fn two_blocks_in_one_slot_have_no_keystream_in_common() {
        let keys = Arc::new(VaultKeys::generate(ObjectId([5; 16])).unwrap());
        let (seal, _) = SegmentSeal::begin(Arc::clone(&keys), [6; 16]).unwrap();
        let sealed = |plain: &[u8]| {
            let mut packed = Packed::default();
            let hash = |plain: &[u8]| keys.hash_of(plain);
            let chunk = encode_named(plain, &mut packed, Compression::None, hash).unwrap();
            let mut stored = packed.stored(&chunk).to_vec();
            seal.chunk(7, &chunk, &mut stored);
            stored
        };
        let mixed = |one: &[u8], other: &[u8]| -> Vec<u8> {
            one.iter()
                .zip(other)
                .map(|(one, other)| one ^ other)
                .collect()
        };
        let (one, other) = ([1; 64], [2; 64]);
        assert_ne!(mixed(&sealed(&one), &sealed(&other)), mixed(&one, &other));
        // The same block is the same text: that tells nothing.
        assert_eq!(sealed(&one), sealed(&one));
    }
}
