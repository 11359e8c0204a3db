//! A segment: a header, chunks one after another, and a footer that describes each of them.
//!
//! ```text
//! header (128 bytes)
//!    0   8  magic "SPSEGMNT"
//!    8   2  format version
//!   10   1  sealing: 0 none, 1 AES-256-GCM
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
//!
//! In a sealed one a chunk is ciphertext and tag alone, and its codec is at 12 of its entry; the
//! footer is sealed, and has a tag of 16 bytes and BLAKE3 of all before the footer behind it, so
//! that the name proves every byte to who has no key.

use super::chunk::{CHUNK_HEADER, ChunkHash};
use super::codec::Codec;
use super::crypt::{TAG, WRAPPED};
use super::segment_seal::{SEALED_END, SealedChunk, SegmentOpener};
use super::vault_keys::VaultKeys;
use super::wire::{array, u16_at, u32_at, u64_at};
use super::{VERSION, damaged};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BLOCK_SIZE, ObjectId};
use std::ops::RangeInclusive;
use std::sync::Arc;

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

const ENTRY: usize = 48;

/// How long a segment that has so many slots may be, in bytes, sealed or not: each holds a byte at
/// least.
pub fn lengths_with(slots: u32) -> RangeInclusive<u64> {
    let least = SEGMENT_HEADER + TRAILER + slots as usize * (TAG + 1 + ENTRY);
    least as u64..=MAX_SEGMENT
}

pub(super) const MAGIC: &[u8; 8] = b"SPSEGMNT";
pub(super) const TRAILER_MAGIC: &[u8; 8] = b"SPSEGEND";

/// Where the sealing stands in a header.
const SEALING: usize = 10;
/// Where the wrapped key of a sealed segment stands in its header.
const WRAPPED_AT: usize = 32;

/// What a footer is, in the words of the trailer.
pub(super) fn described(slots: u32, footer_offset: u64) -> [u8; 12] {
    let mut bound = [0; 12];
    bound[..4].copy_from_slice(&slots.to_le_bytes());
    bound[4..].copy_from_slice(&footer_offset.to_le_bytes());
    bound
}

pub(super) fn name_of(hash: blake3::Hash) -> ObjectId {
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
    slots: u32,
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
        let is_sealed = trailer[32 + SEALING] == 1;
        let end = TRAILER + if is_sealed { SEALED_END } else { 0 };
        let tail_len = u64::from(slots) * ENTRY as u64 + end as u64;
        if slots > SLOTS_MAX
            || segment_len > MAX_SEGMENT
            || footer_offset.checked_add(tail_len) != Some(segment_len)
        {
            return Err(damaged("segment's footer does not fit its length"));
        }
        Ok(Self {
            footer_offset,
            tail_len,
            slots,
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

/// A header whose hash was right: of a format that is read here, sealed as the vault is, nothing
/// set that has no meaning yet.
fn check_known(header: &[u8; SEGMENT_HEADER], is_sealed: bool) -> Result<()> {
    let crc = crc32fast::hash(&header[..SEGMENT_HEADER - 4]);
    if !header.starts_with(MAGIC) || u32_at(header, SEGMENT_HEADER - 4) != crc {
        return Err(damaged("segment's header does not match its checksum"));
    }
    let (version, sealing) = (u16_at(header, 8), header[SEALING]);
    if version == 0 || version > VERSION || sealing > 1 || (sealing == 1 && !is_sealed) {
        return Err(Error::new(
            ErrorKind::Format,
            format!(
                "the segment is of format {version}, sealing {sealing}: this version reads \
                 format {VERSION}, sealed only in a vault that is encrypted"
            ),
        )
        .with_hint("use the newest stillpoint"));
    }
    if sealing == 0 && is_sealed {
        return Err(damaged("segment is not sealed, and the vault is encrypted"));
    }
    let from = if is_sealed {
        WRAPPED_AT + WRAPPED
    } else {
        WRAPPED_AT
    };
    let unused = header[11..16]
        .iter()
        .chain(&header[from..SEGMENT_HEADER - 4]);
    if unused.into_iter().any(|byte| *byte != 0) {
        return Err(damaged("segment's header has bytes set that mean nothing"));
    }
    Ok(())
}

/// The header that the end of a segment repeats, once that end is what the segment's name says.
fn proven_header(tail: &[u8], trailer: Trailer, id: ObjectId) -> Result<[u8; SEGMENT_HEADER]> {
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
    Ok(array(tail, tail.len() - TRAILER + 32))
}

/// Whether these are the last `trailer.tail_len` bytes of the segment named `id`. No key is needed.
pub fn is_end_of(tail: &[u8], trailer: Trailer, id: ObjectId) -> bool {
    proven_header(tail, trailer, id).is_ok()
}

/// Checks every byte of a sealed segment against its name, which takes no key; returns how many
/// slots it has.
pub fn check_sealed_segment(bytes: &[u8], id: ObjectId) -> Result<u32> {
    let trailer = Trailer::decode(bytes, bytes.len() as u64)?;
    let (before, tail) = bytes.split_at(trailer.footer_offset as usize);
    let header = proven_header(tail, trailer, id)?;
    check_known(&header, true)?;
    if before.get(..SEGMENT_HEADER) != Some(&header[..])
        || *blake3::hash(before).as_bytes() != chunks_hash(tail)
    {
        return Err(damaged("segment is not what its name says"));
    }
    Ok(trailer.slots)
}

/// The hash of all before the footer, out of the end of a sealed segment.
fn chunks_hash(tail: &[u8]) -> [u8; 32] {
    array(tail, tail.len() - TRAILER - 32)
}

/// One chunk in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotEntry {
    /// Offset of its header from the start of the segment; of a sealed one, of its bytes.
    pub offset: u32,
    /// Length with header or tag.
    pub length: u32,
    /// Length of the plain bytes.
    pub plain_len: u32,
    /// BLAKE3 of the plain bytes, keyed in a sealed vault.
    pub hash: ChunkHash,
    /// How it is packed, in a sealed segment.
    codec: u8,
}

impl SlotEntry {
    fn decode(entry: &[u8]) -> Self {
        Self {
            offset: u32_at(entry, 0),
            length: u32_at(entry, 4),
            plain_len: u32_at(entry, 8),
            hash: array(entry, 16),
            codec: entry[12],
        }
    }

    /// Whether there can be such a chunk.
    fn is_possible(&self, entry: &[u8], is_sealed: bool) -> bool {
        let (plain, length) = (self.plain_len as usize, self.length as usize);
        let fits = match is_sealed {
            true => length > TAG && length <= TAG + plain && self.codec <= 2,
            false => {
                let most = CHUNK_HEADER + BLOCK_SIZE as usize;
                length > CHUNK_HEADER && length <= most && self.codec == 0
            }
        };
        fits && plain > 0 && plain as u64 <= BLOCK_SIZE && entry[13..16] == [0; 3]
    }
}

/// What is in a segment, checked against the segment's name.
#[derive(Clone, Debug)]
pub struct Footer {
    slots: Vec<SlotEntry>,
    segment_len: u64,
    footer_offset: u64,
    header: [u8; SEGMENT_HEADER],
    opener: Option<SegmentOpener>,
}

impl Footer {
    /// How long the whole segment is, in bytes.
    pub fn segment_len(&self) -> u64 {
        self.segment_len
    }

    /// Reads the last `trailer.tail_len` bytes of the segment named `id`.
    pub(super) fn decode(
        tail: &[u8],
        trailer: Trailer,
        id: ObjectId,
        keys: Option<&Arc<VaultKeys>>,
    ) -> Result<Self> {
        let header = proven_header(tail, trailer, id)?;
        check_known(&header, keys.is_some())?;
        let end = &tail[tail.len() - TRAILER..];
        if end[12..16] != [0; 4] || end[24..32] != [0; 8] {
            return Err(damaged("segment's trailer has bytes set that mean nothing"));
        }
        let wrapped = array(&header, WRAPPED_AT);
        let opener =
            keys.map(|keys| SegmentOpener::of(Arc::clone(keys), array(&header, 16), wrapped));
        let entries = &tail[..trailer.slots as usize * ENTRY];
        let slots = match &opener {
            None => entries_of(entries, trailer, false)?,
            Some(opener) => {
                let mut sealed = tail[..entries.len() + TAG].to_vec();
                let bound = described(trailer.slots, trailer.footer_offset);
                let entries = opener.footer(&chunks_hash(tail), &bound, &mut sealed)?;
                entries_of(entries, trailer, true)?
            }
        };
        Ok(Self {
            slots,
            segment_len: trailer.footer_offset + trailer.tail_len,
            footer_offset: trailer.footer_offset,
            header,
            opener,
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

    /// The header that the segment begins with.
    pub fn header(&self) -> &[u8; SEGMENT_HEADER] {
        &self.header
    }

    /// Whether the header at the start of the segment is the true one.
    pub fn check_header(&self, segment: &[u8]) -> Result<()> {
        if segment.get(..SEGMENT_HEADER) == Some(&self.header[..]) {
            Ok(())
        } else {
            Err(damaged("segment's header does not match its footer"))
        }
    }

    /// Whether the segment is sealed.
    pub(super) fn is_sealed(&self) -> bool {
        self.opener.is_some()
    }

    /// The plain bytes of the chunk in `slot` of a sealed segment, whose stored ones these are.
    pub(super) fn open_sealed<'a>(
        &self,
        slot: u32,
        stored: &[u8],
        room: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        let opener = self.opener.as_ref();
        let opener = opener.ok_or_else(|| damaged("segment is not sealed"))?;
        let entry = self.slot(slot)?;
        let chunk = SealedChunk {
            slot,
            codec: Codec::from_byte(entry.codec)?,
            plain_len: entry.plain_len,
            hash: entry.hash,
        };
        opener.chunk(chunk, stored, room)
    }
}

/// The entries of a footer, which describe chunks without gaps.
fn entries_of(entries: &[u8], trailer: Trailer, is_sealed: bool) -> Result<Vec<SlotEntry>> {
    let mut next = SEGMENT_HEADER as u64;
    let mut slots = Vec::with_capacity(entries.len() / ENTRY);
    for entry in entries.chunks_exact(ENTRY) {
        let slot = SlotEntry::decode(entry);
        if u64::from(slot.offset) != next || !slot.is_possible(entry, is_sealed) {
            return Err(damaged("segment's footer describes an impossible chunk"));
        }
        next += u64::from(slot.length);
        slots.push(slot);
    }
    if next != trailer.footer_offset {
        return Err(damaged("segment's chunks do not reach its footer"));
    }
    Ok(slots)
}
