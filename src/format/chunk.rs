//! One block as it is stored: a header, then its bytes, compressed where that pays.
//!
//! ```text
//!  0  4  magic "SPCK"
//!  4  1  codec: 0 as they are, 1 LZ4 block
//!  5  3  zero
//!  8  4  length of the plain bytes
//! 12  4  length of what is stored after this header
//! 16  4  slot: the chunk's ordinal in its segment, from 0
//! 20  4  CRC-32 of header bytes 0..20 and the stored bytes
//! ```

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

/// A chunk's name by content: BLAKE3 of its plain bytes.
pub type ChunkHash = [u8; 32];

/// How a chunk's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Raw,
    /// One LZ4 block.
    Lz4,
}

impl Codec {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Lz4 => 1,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Lz4),
            other => Err(damaged(format!("chunk has the unknown codec {other}"))),
        }
    }
}

/// A chunk ready to be put into a segment; its bytes are in the [`Packed`] it was encoded into.
#[derive(Clone, Debug)]
pub struct EncodedChunk {
    /// Of the plain bytes.
    pub hash: ChunkHash,
    /// How the stored bytes are to be read.
    pub codec: Codec,
    /// Length of the plain bytes.
    pub plain_len: u32,
    /// Where in the [`Packed`] the bytes are that go after the header.
    stored: Range<usize>,
}

impl EncodedChunk {
    /// Bytes that it takes in a segment, its header included.
    pub fn stored_len(&self) -> usize {
        CHUNK_HEADER + self.stored.len()
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
        let needed = lz4_flex::block::get_maximum_output_size(plain_len);
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
pub(super) fn encode_chunk(plain: &[u8], packed: &mut Packed) -> Option<EncodedChunk> {
    assert!(
        !plain.is_empty() && plain.len() <= MAX_PLAIN,
        "a chunk is one block"
    );
    if is_zero(plain) {
        return None;
    }
    let hash = hash_of(plain);
    let room = packed.room(plain.len());
    // Less than 1/32 won does not pay for the unpacking.
    let (codec, length) = match lz4_flex::block::compress_into(plain, room) {
        Ok(length) if length <= plain.len() - plain.len() / 32 => (Codec::Lz4, length),
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
        stored: start..packed.used,
    })
}

/// Whether all bytes are zero; the compiler makes vector code of it.
fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(4096)
        .all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Appends the chunk, header first, to a segment in the making. `packed`: what it was encoded into.
pub(super) fn append_chunk(
    segment: &mut Vec<u8>,
    slot: u32,
    chunk: &EncodedChunk,
    packed: &Packed,
) {
    let stored = &packed.bytes[chunk.stored.clone()];
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

/// Reads the chunk that starts at the beginning of `bytes`; `room` is where it is unpacked to, if
/// it is packed.
pub(super) fn decode_chunk<'a>(bytes: &'a [u8], room: &'a mut Vec<u8>) -> Result<DecodedChunk<'a>> {
    if bytes.len() < CHUNK_HEADER || !bytes.starts_with(MAGIC) {
        return Err(damaged("no chunk starts here"));
    }
    let codec = Codec::from_byte(bytes[4])?;
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
        Codec::Lz4 => {
            room.resize(plain_len, 0);
            let got = lz4_flex::block::decompress_into(stored, room)
                .map_err(|error| damaged("chunk cannot be unpacked").with_source(error))?;
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
    use proptest::prelude::*;

    fn stored(plain: &[u8]) -> Vec<u8> {
        let (mut segment, mut packed) = (Vec::new(), Packed::default());
        let chunk = encode_chunk(plain, &mut packed).unwrap();
        append_chunk(&mut segment, 7, &chunk, &packed);
        segment
    }

    #[test]
    fn zeros_are_not_stored() {
        let mut packed = Packed::default();
        assert!(encode_chunk(&[0; MAX_PLAIN], &mut packed).is_none());
        let mut almost = vec![0; MAX_PLAIN];
        almost[MAX_PLAIN - 1] = 1;
        assert!(encode_chunk(&almost, &mut packed).is_some());
    }

    #[test]
    fn any_flipped_bit_is_seen() {
        let mut bytes = stored(&b"stillpoint ".repeat(40));
        let mut plain = Vec::new();
        let chunk = decode_chunk(&bytes, &mut plain).unwrap();
        assert_eq!((chunk.slot, chunk.stored_len), (7, bytes.len()));
        for byte in 0..bytes.len() {
            for bit in 0..8 {
                bytes[byte] ^= 1 << bit;
                assert!(
                    decode_chunk(&bytes, &mut plain).is_err(),
                    "byte {byte} bit {bit}"
                );
                bytes[byte] ^= 1 << bit;
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
            let bytes = stored(&plain);
            let mut room = Vec::new();
            let back = decode_chunk(&bytes, &mut room).unwrap();
            prop_assert_eq!((back.slot, back.stored_len), (7, bytes.len()));
            prop_assert_eq!(hash_of(back.plain), hash_of(&plain));
            prop_assert_eq!(back.plain, plain);
        }

        #[test]
        fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut plain = Vec::new();
            prop_assert!(decode_chunk(&bytes, &mut plain).is_err());
            // The same with a header that gets past the checksum, so that the unpacker is reached.
            if bytes.len() > CHUNK_HEADER {
                bytes[..4].copy_from_slice(MAGIC);
                bytes[4..8].copy_from_slice(&[1, 0, 0, 0]);
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
