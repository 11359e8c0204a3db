//! The sealer: where a vault's keys will be. It turns plain bytes of a vault into stored ones and
//! back, so that encryption (FORMAT.md, 9) changes this file and none of its callers. No vault has
//! keys yet: what it writes is what the format calls unsealed.

use super::chunk::{self, ChunkHash, DecodedChunk, EncodedChunk, Packed};
use super::codec::Compression;
use super::envelope::{self, ObjectKind};
use super::segment::{Footer, SegmentWriter, Trailer};
use super::style::Style;
use crate::error::Result;
use crate::model::ObjectId;

/// Seals and opens what is in one vault.
#[derive(Clone, Debug)]
pub struct Sealer {
    style: Style,
}

impl Sealer {
    /// The sealer of a vault of the present version that is not encrypted.
    pub const fn without_keys() -> Self {
        Self {
            style: Style::PRESENT,
        }
    }

    /// The sealer of a vault of this version of the format. It writes what every reader of that
    /// version can read.
    pub fn of(version: u16, compression: Compression) -> Self {
        Self {
            style: Style {
                version,
                compression,
            },
        }
    }

    /// The version of the format that its objects bear.
    pub fn version(&self) -> u16 {
        self.style.version
    }

    /// The name of a chunk by its content.
    pub fn hash_of(&self, plain: &[u8]) -> ChunkHash {
        chunk::hash_of(plain)
    }

    /// Encodes one block of at most 64 KiB; `None` when all its bytes are zero, which is not
    /// stored.
    pub fn encode_chunk(&self, plain: &[u8], packed: &mut Packed) -> Option<EncodedChunk> {
        chunk::encode_chunk(plain, packed, self.style.compression)
    }

    /// Reads the chunk that starts at the beginning of `bytes`; a packed one is unpacked into
    /// `room`.
    pub fn decode_chunk<'a>(
        &self,
        bytes: &'a [u8],
        room: &'a mut Vec<u8>,
    ) -> Result<DecodedChunk<'a>> {
        chunk::decode_chunk(bytes, room)
    }

    /// An empty segment with a salt of its own. `memory` is used for it, whatever it holds.
    pub fn create_segment(&self, memory: Vec<u8>) -> SegmentWriter {
        SegmentWriter::create(memory, self.style.version)
    }

    /// Reads footer and trailer, the last `trailer.tail_len` bytes of the segment `id`.
    pub fn open_footer(&self, tail: &[u8], trailer: Trailer, id: ObjectId) -> Result<Footer> {
        Footer::decode(tail, trailer, id)
    }

    /// Wraps an object.
    pub fn seal_object(&self, kind: ObjectKind, plain: &[u8]) -> Result<Vec<u8>> {
        envelope::seal_object(kind, plain, self.style)
    }

    /// Wraps an index object, whose name is the first 16 bytes of its hash.
    pub fn seal_index(&self, plain: &[u8]) -> Result<(ObjectId, Vec<u8>)> {
        envelope::seal_index(plain, self.style)
    }

    /// Unwraps an object of the kind expected; with `id`, one that has that name by its content.
    pub fn open_object(
        &self,
        kind: ObjectKind,
        id: Option<ObjectId>,
        bytes: &[u8],
    ) -> Result<Vec<u8>> {
        envelope::open_object(kind, id, bytes)
    }
}
