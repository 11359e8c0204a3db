//! One block as it is stored: a header, then its bytes, compressed where that pays.
//!
//! ```text
//!  0  4  magic "SPCK"
//!  4  1  codec: 0 as they are, 1 one LZ4 block, 2 one zstd frame
//!  5  3  zero
//!  8  4  length of the plain bytes
//! 12  4  length of what is stored after this header
//! 16  4  slot: the chunk's ordinal in its segment, from 0
//! 20  4  CRC-32 of header bytes 0..20 and the stored bytes
//! ```

use super::codec::{Codec, Compression, room_to_pack};
use super::damaged;
use super::wire::u32_at;
use crate::error::Result;
use crate::model::BLOCK_SIZE;
use std::ops::Range;

/// Length of a chunk's header in bytes.
pub const CHUNK_HEADER: usize = 24;

const MAGIC: &[u8; 4] = b"SPCK";

/// The longest plain chunk.
const MAX_PLAIN: usize = BLOCK_SIZE as usize;

/// A chunk's name by content: BLAKE3 of its plain bytes; of a sealed vault, keyed.
pub type ChunkHash = [u8; 32];

/// A chunk ready to be put into a segment; its bytes are in the [`Packed`] it was encoded into.
#[derive(Clone, Debug)]
pub struct EncodedChunk {
    /// Of the plain bytes.
    pub hash: ChunkHash,
    /// How the stored bytes are to be read.
    pub codec: Codec,
    /// Length of the plain bytes.
    pub plain_len: u32,
    /// Bytes that go with it: a header, or a seal.
    pub(super) wrapping: usize,
    /// Where in the [`Packed`] the bytes are that go after the header.
    stored: Range<usize>,
}

impl EncodedChunk {
    /// Bytes that it takes in a segment, its header or seal included.
    pub fn stored_len(&self) -> usize {
        self.wrapping + self.stored.len()
    }

    /// Whether packing wins less than an eighth: so it is of what is encrypted, or packed already.
    pub fn hardly_packs(&self) -> bool {
        self.stored.len() > self.plain_len as usize / 8 * 7
    }
}

/// Where chunks are encoded to, one after another. Meant to be used again: memory that is new each
/// time costs about a tenth of encoding, for the kernel has to clear it.
#[derive(Default)]
pub struct Packed {
    /// All of it has been written to once, so that there is somewhere to unpack to.
    bytes: Vec<u8>,
    used: usize,
}

impl Packed {
    /// Forgets the chunks, not the memory.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Room for one chunk more, however badly it packs.
    fn room(&mut self, plain_len: usize) -> &mut [u8] {
        let needed = room_to_pack(plain_len);
        if self.bytes.len() < self.used + needed {
            self.bytes.resize(self.used + needed, 0);
        }
        &mut self.bytes[self.used..]
    }
}

/// The name of plain bytes.
pub(super) fn hash_of(plain: &[u8]) -> ChunkHash {
    blake3::hash(plain).into()
}

/// Encodes one block of at most 64 KiB; `None` when all its bytes are zero, which is not stored.
#[cfg(test)]
pub(super) fn encode_chunk(
    plain: &[u8],
    packed: &mut Packed,
    compression: Compression,
) -> Option<EncodedChunk> {
    encode_named(plain, packed, compression, hash_of)
}

/// Encodes one block of at most 64 KiB, which `hash` names; `None` when all its bytes are zero,
/// which is not stored.
pub(super) fn encode_named(
    plain: &[u8],
    packed: &mut Packed,
    compression: Compression,
    hash: impl FnOnce(&[u8]) -> ChunkHash,
) -> Option<EncodedChunk> {
    assert!(
        !plain.is_empty() && plain.len() <= MAX_PLAIN,
        "a chunk is one block"
    );
    if is_zero(plain) {
        return None;
    }
    let hash = hash(plain);
    let room = packed.room(plain.len());
    // Less than 1/32 won does not pay for the unpacking.
    let (codec, length) = match compression.pack(plain, room) {
        Some((codec, length)) if length <= plain.len() - plain.len() / 32 => (codec, length),
        _ => {
            room[..plain.len()].copy_from_slice(plain);
            (Codec::Raw, plain.len())
        }
    };
    let start = packed.used;
    packed.used += length;
    Some(EncodedChunk {
        hash,
        codec,
        plain_len: plain.len() as u32,
        wrapping: CHUNK_HEADER,
        stored: start..packed.used,
    })
}

/// Whether all bytes are zero; the compiler makes vector code of it.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(4096)
        .all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

impl Packed {
    /// The stored bytes of a chunk that was encoded into this.
    pub(super) fn stored(&self, chunk: &EncodedChunk) -> &[u8] {
        &self.bytes[chunk.stored.clone()]
    }
}

/// Appends the chunk, header first, to a segment in the making. `packed`: what it was encoded into.
pub(super) fn append_chunk(
    segment: &mut Vec<u8>,
    slot: u32,
    chunk: &EncodedChunk,
    packed: &Packed,
) {
    let stored = packed.stored(chunk);
    let start = segment.len();
    segment.extend_from_slice(MAGIC);
    segment.extend_from_slice(&[chunk.codec.byte(), 0, 0, 0]);
    segment.extend_from_slice(&chunk.plain_len.to_le_bytes());
    let stored_len = u32::try_from(stored.len()).expect("a stored chunk is at most 64 KiB");
    segment.extend_from_slice(&stored_len.to_le_bytes());
    segment.extend_from_slice(&slot.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&segment[start..]);
    crc.update(stored);
    segment.extend_from_slice(&crc.finalize().to_le_bytes());
    segment.extend_from_slice(stored);
}

/// A chunk that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodedChunk<'a> {
    /// Its ordinal in its segment.
    pub slot: u32,
    /// Bytes that it took, its header included.
    pub stored_len: usize,
    /// Its plain bytes.
    pub plain: &'a [u8],
}

/// Reads the chunk that starts at the beginning of `bytes` and checks its CRC. Its hash stands in
/// the footer: `store/segment_reader.rs` compares it. `room` is where a packed one is unpacked to.
pub(super) fn decode_chunk<'a>(bytes: &'a [u8], room: &'a mut Vec<u8>) -> Result<DecodedChunk<'a>> {
    if bytes.len() < CHUNK_HEADER || !bytes.starts_with(MAGIC) {
        return Err(damaged("no chunk starts here"));
    }
    let codec = Codec::from_byte(bytes[4]).map_err(|error| error.context("chunk"))?;
    let plain_len = u32_at(bytes, 8) as usize;
    let stored_len = u32_at(bytes, 12) as usize;
    if plain_len == 0 || plain_len > MAX_PLAIN || stored_len > plain_len {
        return Err(damaged(format!(
            "chunk of impossible length {plain_len} ({stored_len})"
        )));
    }
    let end = CHUNK_HEADER + stored_len;
    let stored = bytes
        .get(CHUNK_HEADER..end)
        .ok_or_else(|| damaged("chunk is cut short"))?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..20]);
    crc.update(stored);
    if crc.finalize() != u32_at(bytes, 20) || bytes[5..8] != [0; 3] {
        return Err(damaged("chunk does not match its checksum"));
    }
    let plain = match codec {
        Codec::Raw if stored_len == plain_len => stored,
        Codec::Raw => return Err(damaged("raw chunk of two lengths")),
        Codec::Lz4 | Codec::Zstd => {
            room.resize(plain_len, 0);
            let got = codec.unpack(stored, room);
            let got = got.map_err(|error| error.context("chunk"))?;
            if got != plain_len {
                return Err(damaged(format!(
                    "chunk unpacks to {got} bytes instead of {plain_len}"
                )));
            }
            room
        }
    };
    Ok(DecodedChunk {
        slot: u32_at(bytes, 16),
        stored_len: end,
        plain,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::codec::ZstdLevel;
    use proptest::prelude::*;

    const ALL: [Compression; 3] = [
        Compression::None,
        Compression::Lz4,
        Compression::Zstd(ZstdLevel::USUAL),
    ];

    fn stored(plain: &[u8], compression: Compression) -> Vec<u8> {
        let (mut segment, mut packed) = (Vec::new(), Packed::default());
        let chunk = encode_chunk(plain, &mut packed, compression).unwrap();
        append_chunk(&mut segment, 7, &chunk, &packed);
        segment
    }

    #[test]
    fn zeros_are_not_stored() {
        let mut packed = Packed::default();
        assert!(encode_chunk(&[0; MAX_PLAIN], &mut packed, Compression::Lz4).is_none());
        let mut almost = vec![0; MAX_PLAIN];
        almost[MAX_PLAIN - 1] = 1;
        assert!(encode_chunk(&almost, &mut packed, Compression::Lz4).is_some());
    }

    #[test]
    fn any_flipped_bit_is_seen() {
        for compression in ALL {
            let mut bytes = stored(&b"stillpoint ".repeat(40), compression);
            let mut plain = Vec::new();
            let chunk = decode_chunk(&bytes, &mut plain).unwrap();
            assert_eq!((chunk.slot, chunk.stored_len), (7, bytes.len()));
            for byte in 0..bytes.len() {
                for bit in 0..8 {
                    bytes[byte] ^= 1 << bit;
                    let read = decode_chunk(&bytes, &mut plain);
                    assert!(read.is_err(), "{compression} byte {byte} bit {bit}");
                    bytes[byte] ^= 1 << bit;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_chunk_comes_back(
            noise in prop::collection::vec(any::<u8>(), 1..5000),
            repeat in 1..13_usize,
        ) {
            let plain = noise.repeat(repeat);
            prop_assume!(plain.len() <= MAX_PLAIN && plain.iter().any(|byte| *byte != 0));
            for compression in ALL {
                let bytes = stored(&plain, compression);
                let mut room = Vec::new();
                let back = decode_chunk(&bytes, &mut room).unwrap();
                prop_assert_eq!((back.slot, back.stored_len), (7, bytes.len()));
                prop_assert_eq!(hash_of(back.plain), hash_of(&plain));
                prop_assert_eq!(back.plain, &plain);
            }
        }

        #[test]
        fn garbage_never_panics(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            codec in 0..3_u8,
        ) {
            let mut plain = Vec::new();
            prop_assert!(decode_chunk(&bytes, &mut plain).is_err());
            // The same with a header that gets past the checksum, so that the unpacker is reached.
            if bytes.len() > CHUNK_HEADER {
                bytes[..4].copy_from_slice(MAGIC);
                bytes[4..8].copy_from_slice(&[codec, 0, 0, 0]);
                bytes[8..12].copy_from_slice(&65536_u32.to_le_bytes());
                let stored_len = (bytes.len() - CHUNK_HEADER) as u32;
                bytes[12..16].copy_from_slice(&stored_len.to_le_bytes());
                let mut crc = crc32fast::Hasher::new();
                crc.update(&bytes[..20]);
                crc.update(&bytes[CHUNK_HEADER..]);
                bytes[20..24].copy_from_slice(&crc.finalize().to_le_bytes());
                let _ = decode_chunk(&bytes, &mut plain);
                prop_assert!(plain.len() <= MAX_PLAIN);
            }
        }
    }
}
