//! Writes a segment (`segment.rs` says what stands where). It must never be longer than 32 MiB.

use super::chunk::{EncodedChunk, Packed, append_chunk};
use super::crypt::WRAPPED;
use super::segment::{
    MAGIC, SEGMENT_HEADER, SEGMENT_TARGET, SLOTS_MAX, TRAILER_MAGIC, described, name_of,
};
use super::segment_seal::SegmentSeal;
use super::vault_keys::VaultKeys;
use crate::error::Result;
use crate::model::ObjectId;
use std::sync::Arc;

/// The longest segment that is written, in bytes.
const MOST_WRITTEN: usize = 32 << 20;

/// Collects chunks into a segment.
pub struct SegmentWriter {
    bytes: Vec<u8>,
    footer: Vec<u8>,
    slots: u32,
    seal: Option<SegmentSeal>,
}

impl SegmentWriter {
    /// An empty segment with a salt of its own. `bytes`: memory to use, whatever it holds.
    pub(super) fn create(
        mut bytes: Vec<u8>,
        version: u16,
        keys: Option<&Arc<VaultKeys>>,
    ) -> Result<Self> {
        let ObjectId(salt) = ObjectId::generate();
        let seal = keys.map(|keys| SegmentSeal::begin(Arc::clone(keys), salt));
        let (seal, wrapped) = seal.transpose()?.unzip();
        bytes.clear();
        bytes.reserve_exact(MOST_WRITTEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&[u8::from(seal.is_some()), 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&salt);
        bytes.extend_from_slice(&wrapped.unwrap_or([0; WRAPPED]));
        bytes.resize(SEGMENT_HEADER - 4, 0);
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        Ok(Self {
            bytes,
            footer: Vec::new(),
            slots: 0,
            seal,
        })
    }

    /// Appends a chunk and returns its slot. `packed`: what it was encoded into.
    pub fn push(&mut self, chunk: &EncodedChunk, packed: &Packed) -> u32 {
        assert!(!self.is_full(), "a full segment is finished, not added to");
        let slot = self.slots;
        let start = self.bytes.len();
        match &mut self.seal {
            None => append_chunk(&mut self.bytes, slot, chunk, packed),
            Some(seal) => {
                self.bytes.extend_from_slice(packed.stored(chunk));
                let tag = seal.chunk(slot, chunk, &mut self.bytes[start..]);
                self.bytes.extend_from_slice(&tag);
                seal.hash_along(&self.bytes);
            }
        }
        let codec = self.seal.as_ref().map_or(0, |_| chunk.codec.byte());
        let length = self.bytes.len() - start;
        self.footer.extend_from_slice(&(start as u32).to_le_bytes());
        self.footer
            .extend_from_slice(&(length as u32).to_le_bytes());
        self.footer
            .extend_from_slice(&chunk.plain_len.to_le_bytes());
        self.footer.extend_from_slice(&[codec, 0, 0, 0]);
        self.footer.extend_from_slice(&chunk.hash);
        self.slots += 1;
        slot
    }

    /// How long it would be if it were finished now, about, in bytes.
    pub fn length(&self) -> u64 {
        (self.bytes.len() + self.footer.len()) as u64
    }

    /// Whether it should be finished before the next chunk.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= SEGMENT_TARGET || self.slots >= SLOTS_MAX
    }

    /// Adds footer and trailer and returns the segment's name and bytes.
    pub fn finish(self) -> (ObjectId, Vec<u8>) {
        let Self {
            mut bytes,
            mut footer,
            slots,
            seal,
        } = self;
        let footer_offset = bytes.len() as u64;
        if let Some(mut seal) = seal {
            let chunks = seal.hash_of(&bytes);
            let bound = described(slots, footer_offset);
            let tag = seal.footer(chunks.as_bytes(), &bound, &mut footer);
            footer.extend_from_slice(&tag);
            footer.extend_from_slice(chunks.as_bytes());
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::chunk::{decode_chunk, encode_chunk, hash_of};
    use crate::format::codec::Compression;
    use crate::format::{Footer, Trailer, VERSION, damaged};
    use crate::model::BLOCK_SIZE;

    fn segment(count: u32) -> (ObjectId, Vec<u8>) {
        // Memory that was used before.
        let mut writer = SegmentWriter::create(vec![9; 100], VERSION, None).unwrap();
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
        let footer = Footer::decode(&bytes[trailer.footer_offset as usize..], trailer, id, None)?;
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
        let mut writer = SegmentWriter::create(Vec::new(), VERSION, None).unwrap();
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
