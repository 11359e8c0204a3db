//! A segment: a header, chunks one after another, and a footer that describes each of them.
//!
//! ```text
//! header (128 bytes)
//!    0   8  magic "SPSEGMNT"
//!    8   2  format version
//!   10   1  sealing: 0 none, 1 AES-256-GCM (not written yet)
//!   11   5  zero
//!   16  16  salt: random, so that no two segments have one name
//!   32  80  the segment's key, wrapped by the vault's (zero when not sealed)
//!  112  12  zero
//!  124   4  CRC-32 of bytes 0..124
//! chunks
//! footer: for each slot, 48 bytes
//!    0   4  offset of the chunk's header from the start of the segment
//!    4   4  length of the chunk with its header
//!    8   4  length of the plain bytes
//!   12   4  zero
//!   16  32  BLAKE3 of the plain bytes
//! trailer (192 bytes)
//!    0   8  magic "SPSEGEND"
//!    8   4  number of slots
//!   12   4  zero
//!   16   8  offset of the footer from the start of the segment
//!   24   8  zero
//!   32 128  the header again
//!  160  32  BLAKE3 of the footer and trailer bytes 0..160
//! ```
//!
//! A segment's name is the first 16 bytes of that last hash: the name proves footer and header, and
//! the footer proves each chunk.

use super::chunk::{CHUNK_HEADER, ChunkHash, EncodedChunk, Packed, append_chunk};
use super::wire::{array, u16_at, u32_at, u64_at};
use super::{VERSION, damaged};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BLOCK_SIZE, ObjectId};
use std::ops::RangeInclusive;

/// Length of a segment's header in bytes.
pub const SEGMENT_HEADER: usize = 128;
/// Length of a segment's trailer in bytes.
pub const TRAILER: usize = 192;
/// A segment is finished when its chunks reach this many bytes: with footer and trailer it is never
/// longer than 32 MiB.
pub const SEGMENT_TARGET: usize = 31 << 20;
/// Most slots in a segment.
pub const SLOTS_MAX: u32 = 16384;
/// The longest segment that is read, of early writers too.
pub const MAX_SEGMENT: u64 = ((32 << 20)
    + SEGMENT_HEADER
    + 2 * (CHUNK_HEADER + BLOCK_SIZE as usize)
    + SLOTS_MAX as usize * ENTRY
    + TRAILER) as u64;

/// The longest segment that is written, in bytes.
const MOST_WRITTEN: usize = 32 << 20;

const ENTRY: usize = 48;

/// How long a segment that has so many slots may be, in bytes: each holds a byte at least.
pub fn lengths_with(slots: u32) -> RangeInclusive<u64> {
    let least = SEGMENT_HEADER + TRAILER + slots as usize * (CHUNK_HEADER + 1 + ENTRY);
    least as u64..=MAX_SEGMENT
}

const MAGIC: &[u8; 8] = b"SPSEGMNT";
const TRAILER_MAGIC: &[u8; 8] = b"SPSEGEND";

/// Collects chunks into a segment.
pub struct SegmentWriter {
    bytes: Vec<u8>,
    footer: Vec<u8>,
    slots: u32,
}

impl SegmentWriter {
    /// An empty segment with a salt of its own. `bytes`: memory to use, whatever it holds.
    pub(super) fn create(mut bytes: Vec<u8>, version: u16) -> Self {
        bytes.clear();
        bytes.reserve_exact(MOST_WRITTEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&[0; 6]);
        bytes.extend_from_slice(&ObjectId::generate().0);
        bytes.resize(SEGMENT_HEADER - 4, 0);
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        Self {
            bytes,
            footer: Vec::new(),
            slots: 0,
        }
    }

    /// Appends a chunk and returns its slot. `packed`: what it was encoded into.
    pub fn push(&mut self, chunk: &EncodedChunk, packed: &Packed) -> u32 {
        assert!(!self.is_full(), "a full segment is finished, not added to");
        let slot = self.slots;
        let start = self.bytes.len();
        append_chunk(&mut self.bytes, slot, chunk, packed);
        let length = self.bytes.len() - start;
        self.footer.extend_from_slice(&(start as u32).to_le_bytes());
        self.footer
            .extend_from_slice(&(length as u32).to_le_bytes());
        self.footer
            .extend_from_slice(&chunk.plain_len.to_le_bytes());
        self.footer.extend_from_slice(&[0; 4]);
        self.footer.extend_from_slice(&chunk.hash);
        self.slots += 1;
        slot
    }

    /// Whether it should be finished before the next chunk.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= SEGMENT_TARGET || self.slots >= SLOTS_MAX
    }

    /// Adds footer and trailer and returns the segment's name and bytes.
    pub fn finish(self) -> (ObjectId, Vec<u8>) {
        let Self {
            mut bytes,
            footer,
            slots,
        } = self;
        let footer_offset = bytes.len() as u64;
        bytes.extend_from_slice(&footer);
        bytes.extend_from_slice(TRAILER_MAGIC);
        bytes.extend_from_slice(&slots.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&footer_offset.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_within(..SEGMENT_HEADER);
        let hash = blake3::hash(&bytes[footer_offset as usize..]);
        bytes.extend_from_slice(hash.as_bytes());
        (name_of(hash), bytes)
    }
}

fn name_of(hash: blake3::Hash) -> ObjectId {
    ObjectId(array(hash.as_bytes(), 0))
}

/// What the last [`TRAILER`] bytes of a segment say: where its footer is. Nothing is believed of it
/// until [`super::Sealer::open_footer`] has checked it against the segment's name.
#[derive(Clone, Copy, Debug)]
pub struct Trailer {
    /// Where the footer starts.
    pub footer_offset: u64,
    /// Length of footer and trailer together.
    pub tail_len: u64,
}

impl Trailer {
    /// Reads the end of a segment of `segment_len` bytes.
    pub fn decode(tail: &[u8], segment_len: u64) -> Result<Self> {
        let start = tail
            .len()
            .checked_sub(TRAILER)
            .ok_or_else(|| damaged("segment is too short"))?;
        let trailer = &tail[start..];
        if &trailer[..8] != TRAILER_MAGIC {
            return Err(damaged("segment does not end with a trailer"));
        }
        let slots = u32_at(trailer, 8);
        let footer_offset = u64_at(trailer, 16);
        let tail_len = u64::from(slots) * ENTRY as u64 + TRAILER as u64;
        if slots > SLOTS_MAX
            || segment_len > MAX_SEGMENT
            || footer_offset.checked_add(tail_len) != Some(segment_len)
        {
            return Err(damaged("segment's footer does not fit its length"));
        }
        Ok(Self {
            footer_offset,
            tail_len,
        })
    }

    /// Reads a copy of a segment's end: footer and trailer, and nothing else.
    pub fn of_copy(copy: &[u8]) -> Result<Self> {
        let start = copy
            .len()
            .checked_sub(TRAILER)
            .ok_or_else(|| damaged("a copy of a footer is too short"))?;
        let footer_offset = u64_at(copy, start + 16);
        let segment_len = footer_offset.saturating_add(copy.len() as u64);
        let trailer = Self::decode(copy, segment_len)?;
        if trailer.tail_len != copy.len() as u64 {
            return Err(damaged("a copy of a footer has another length"));
        }
        Ok(trailer)
    }
}

/// A header whose hash was right: of a format that is read here, not sealed, nothing set that has
/// no meaning yet.
fn check_known(header: &[u8; SEGMENT_HEADER]) -> Result<()> {
    let crc = crc32fast::hash(&header[..SEGMENT_HEADER - 4]);
    if !header.starts_with(MAGIC) || u32_at(header, SEGMENT_HEADER - 4) != crc {
        return Err(damaged("segment's header does not match its checksum"));
    }
    let (version, sealing) = (u16_at(header, 8), header[10]);
    if version == 0 || version > VERSION || sealing != 0 {
        return Err(Error::new(
            ErrorKind::Format,
            format!(
                "the segment is of format {version}, sealing {sealing}: this version reads \
                 format {VERSION}, not sealed"
            ),
        )
        .with_hint("use the newest stillpoint"));
    }
    let unused = header[11..16].iter().chain(&header[32..SEGMENT_HEADER - 4]);
    if unused.into_iter().any(|byte| *byte != 0) {
        return Err(damaged("segment's header has bytes set that mean nothing"));
    }
    Ok(())
}

/// One chunk in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotEntry {
    /// Offset of its header from the start of the segment.
    pub offset: u32,
    /// Length with header.
    pub length: u32,
    /// Length of the plain bytes.
    pub plain_len: u32,
    /// BLAKE3 of the plain bytes.
    pub hash: ChunkHash,
}

/// What is in a segment, checked against the segment's name.
#[derive(Clone, Debug)]
pub struct Footer {
    slots: Vec<SlotEntry>,
    footer_offset: u64,
    header: [u8; SEGMENT_HEADER],
}

impl Footer {
    /// How long the whole segment is, in bytes.
    pub fn segment_len(&self) -> u64 {
        self.footer_offset + (self.slots.len() * ENTRY + TRAILER) as u64
    }

    /// Reads the last `trailer.tail_len` bytes of the segment named `id`.
    pub(super) fn decode(tail: &[u8], trailer: Trailer, id: ObjectId) -> Result<Self> {
        if tail.len() as u64 != trailer.tail_len {
            return Err(damaged("segment's footer is cut short"));
        }
        let (body, hash) = tail.split_at(tail.len() - 32);
        let actual = blake3::hash(body);
        if actual.as_bytes() != hash || name_of(actual) != id {
            return Err(damaged(
                "segment's footer does not match the segment's name",
            ));
        }
        let header: [u8; SEGMENT_HEADER] = array(tail, tail.len() - TRAILER + 32);
        check_known(&header)?;
        let (entries, end) = tail.split_at(tail.len() - TRAILER);
        if end[12..16] != [0; 4] || end[24..32] != [0; 8] {
            return Err(damaged("segment's trailer has bytes set that mean nothing"));
        }
        let mut next = SEGMENT_HEADER as u64;
        let mut slots = Vec::with_capacity(entries.len() / ENTRY);
        for entry in entries.chunks_exact(ENTRY) {
            let slot = SlotEntry {
                offset: u32_at(entry, 0),
                length: u32_at(entry, 4),
                plain_len: u32_at(entry, 8),
                hash: array(entry, 16),
            };
            if u64::from(slot.offset) != next
                || slot.plain_len == 0
                || u64::from(slot.plain_len) > BLOCK_SIZE
                || slot.length as usize <= CHUNK_HEADER
                || slot.length as usize > CHUNK_HEADER + BLOCK_SIZE as usize
                || entry[12..16] != [0; 4]
            {
                return Err(damaged("segment's footer describes an impossible chunk"));
            }
            next += u64::from(slot.length);
            slots.push(slot);
        }
        if next != trailer.footer_offset {
            return Err(damaged("segment's chunks do not reach its footer"));
        }
        Ok(Self {
            slots,
            footer_offset: trailer.footer_offset,
            header,
        })
    }

    /// The chunk in `slot`.
    pub fn slot(&self, slot: u32) -> Result<&SlotEntry> {
        self.slots.get(slot as usize).ok_or_else(|| {
            damaged(format!(
                "slot {slot} is not in the segment, which has {}",
                self.slots.len()
            ))
        })
    }

    /// All chunks, in order.
    pub fn slots(&self) -> &[SlotEntry] {
        &self.slots
    }

    /// Where the footer starts: the end of the chunks.
    pub fn chunks_end(&self) -> u64 {
        self.footer_offset
    }

    /// Whether the header at the start of the segment is the true one.
    pub fn check_header(&self, segment: &[u8]) -> Result<()> {
        if segment.get(..SEGMENT_HEADER) == Some(&self.header[..]) {
            Ok(())
        } else {
            Err(damaged("segment's header does not match its footer"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::chunk::{decode_chunk, encode_chunk, hash_of};
    use crate::format::codec::Compression;

    fn segment(count: u32) -> (ObjectId, Vec<u8>) {
        // Memory that was used before.
        let mut writer = SegmentWriter::create(vec![9; 100], VERSION);
        let mut packed = Packed::default();
        for n in 0..count {
            let plain = n
                .to_le_bytes()
                .iter()
                .map(|b| b | 1)
                .collect::<Vec<_>>()
                .repeat(50);
            packed.clear();
            let chunk = encode_chunk(&plain, &mut packed, Compression::Lz4).unwrap();
            assert_eq!(writer.push(&chunk, &packed), n);
        }
        writer.finish()
    }

    fn read(id: ObjectId, bytes: &[u8]) -> Result<Footer> {
        let trailer = Trailer::decode(bytes, bytes.len() as u64)?;
        let footer = Footer::decode(&bytes[trailer.footer_offset as usize..], trailer, id)?;
        footer.check_header(bytes)?;
        let mut plain = Vec::new();
        for (n, slot) in footer.slots().iter().enumerate() {
            let chunk = &bytes[slot.offset as usize..][..slot.length as usize];
            let got = decode_chunk(chunk, &mut plain)?;
            let place = (got.slot, got.stored_len);
            if place != (n as u32, chunk.len()) || hash_of(got.plain) != slot.hash {
                return Err(damaged("chunk"));
            }
        }
        Ok(footer)
    }

    #[test]
    fn a_segment_comes_back() {
        let (id, bytes) = segment(20);
        assert_eq!(read(id, &bytes).unwrap().slots().len(), 20);
        let (other, _) = segment(20);
        assert_ne!(id, other, "equal content still gets a name of its own");
        assert!(
            read(other, &bytes).is_err(),
            "a segment under another's name"
        );
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_seen() {
        let (id, mut bytes) = segment(3);
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            assert!(read(id, &bytes).is_err(), "byte {at}");
            bytes[at] ^= 0x10;
            assert!(read(id, &bytes[..at]).is_err(), "cut at {at}");
        }
        read(id, &bytes).unwrap();
    }

    #[test]
    fn a_segment_is_bounded() {
        let mut writer = SegmentWriter::create(Vec::new(), VERSION);
        let mut noise = vec![0_u8; BLOCK_SIZE as usize];
        getrandom::fill(&mut noise).unwrap();
        let mut packed = Packed::default();
        let chunk = encode_chunk(&noise, &mut packed, Compression::Lz4).unwrap();
        let room = writer.bytes.capacity();
        while !writer.is_full() {
            writer.push(&chunk, &packed);
        }
        let (id, bytes) = writer.finish();
        assert_eq!(bytes.capacity(), room, "it never moves to larger memory");
        assert!(bytes.len() <= MOST_WRITTEN);
        read(id, &bytes).unwrap();
    }
}
