//! The sealer: turns plain bytes of a vault into stored ones and back. In an encrypted vault it has
//! the vault's keys (FORMAT.md, 9), and its callers need not know. It must never open, in a vault
//! that is encrypted, what is not sealed, nor write such.

use super::chunk::{self, ChunkHash, DecodedChunk, EncodedChunk, Packed};
use super::codec::Compression;
use super::crypt::TAG;
use super::damaged;
use super::envelope::{self, ObjectKind};
use super::segment::{Footer, Trailer};
use super::segment_end;
use super::segment_writer::SegmentWriter;
use super::style::Style;
use super::vault_keys::VaultKeys;
use crate::error::{Error, ErrorKind, Result};
use crate::model::ObjectId;
use std::sync::Arc;

/// Seals and opens what is in one vault.
#[derive(Clone, Debug)]
pub struct Sealer {
    style: Style,
    /// `None`: the vault is not encrypted, or nobody has its key.
    keys: Option<Arc<VaultKeys>>,
    /// The vault is encrypted, and nobody has its key.
    lacks_key: bool,
}

impl Sealer {
    /// The sealer of a vault of the present version that is not encrypted.
    pub const fn without_keys() -> Self {
        Self {
            style: Style::PRESENT,
            keys: None,
            lacks_key: false,
        }
    }

    /// The sealer of a vault of this version of the format, which is not encrypted. It writes what
    /// every reader of that version can read.
    pub fn of(version: u16, compression: Compression) -> Self {
        Self {
            style: Style {
                version,
                compression,
            },
            keys: None,
            lacks_key: false,
        }
    }

    /// The same of a vault that has keys, if it has.
    #[must_use]
    pub fn with_keys(self, keys: Option<Arc<VaultKeys>>) -> Self {
        Self { keys, ..self }
    }

    /// The same of a vault that is encrypted, whose key nobody has: nothing is opened, and nothing
    /// written but the session of who copies it.
    #[must_use]
    pub fn without_key(self) -> Self {
        Self {
            lacks_key: true,
            ..self
        }
    }

    /// Whether the vault is encrypted, and nobody has its key.
    pub fn is_without_key(&self) -> bool {
        self.lacks_key
    }

    fn need_key(&self) -> Result<()> {
        match self.lacks_key {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::Unsupported,
                "the vault is encrypted, and no key was given",
            )
            .with_hint("give one with --password-file")),
        }
    }

    /// The vault's keys; `None`: it is not encrypted.
    pub fn keys(&self) -> Option<&VaultKeys> {
        self.keys.as_deref()
    }

    /// The same, to be shared.
    pub fn shared_keys(&self) -> Option<Arc<VaultKeys>> {
        self.keys.clone()
    }

    /// The version of the format that its objects bear.
    pub fn version(&self) -> u16 {
        self.style.version
    }

    /// The name of a chunk by its content.
    pub fn hash_of(&self, plain: &[u8]) -> ChunkHash {
        match &self.keys {
            None => chunk::hash_of(plain),
            Some(keys) => keys.hash_of(plain),
        }
    }

    /// The same; `None` when all its bytes are zero, which is not stored.
    pub fn hash_of_data(&self, plain: &[u8]) -> Option<ChunkHash> {
        (!chunk::is_zero(plain)).then(|| self.hash_of(plain))
    }

    /// Encodes one block of at most 64 KiB; `None` when all its bytes are zero, which is not
    /// stored.
    pub fn encode_chunk(&self, plain: &[u8], packed: &mut Packed) -> Option<EncodedChunk> {
        self.encode_by(plain, packed, |plain| self.hash_of(plain))
    }

    /// The same of a block whose [`hash`](Self::hash_of) is known.
    pub fn encode_hashed(
        &self,
        plain: &[u8],
        hash: ChunkHash,
        packed: &mut Packed,
    ) -> Option<EncodedChunk> {
        self.encode_by(plain, packed, |_| hash)
    }

    fn encode_by(
        &self,
        plain: &[u8],
        packed: &mut Packed,
        hash: impl FnOnce(&[u8]) -> ChunkHash,
    ) -> Option<EncodedChunk> {
        let mut chunk = chunk::encode_named(plain, packed, self.style.compression, hash)?;
        if self.keys.is_some() {
            chunk.wrapping = TAG;
        }
        Some(chunk)
    }

    /// Reads the chunk that starts at the beginning of `bytes`, of a vault that is not encrypted; a
    /// packed one is unpacked into `room`.
    pub fn decode_chunk<'a>(
        &self,
        bytes: &'a [u8],
        room: &'a mut Vec<u8>,
    ) -> Result<DecodedChunk<'a>> {
        chunk::decode_chunk(bytes, room)
    }

    /// The plain bytes of the chunk in `slot`, whose stored ones begin `bytes`, if they are what
    /// the footer says.
    ///
    /// # Errors
    /// `Damaged`: they are not. `Unsupported`: the key is a writer's.
    pub fn open_chunk<'a>(
        &self,
        footer: &Footer,
        slot: u32,
        bytes: &'a [u8],
        room: &'a mut Vec<u8>,
    ) -> Result<&'a [u8]> {
        let entry = footer.slot(slot)?;
        let stored = bytes.get(..entry.length as usize);
        let stored = stored.ok_or_else(|| damaged("chunk is cut short"))?;
        let plain = if footer.is_sealed() {
            footer.open_sealed(slot, stored, room)?
        } else {
            let chunk = chunk::decode_chunk(stored, room)?;
            let is_it = chunk.slot == slot && chunk.stored_len == stored.len();
            is_it
                .then_some(chunk.plain)
                .ok_or_else(|| damaged("another chunk stands there"))?
        };
        if plain.len() == entry.plain_len as usize && self.hash_of(plain) == entry.hash {
            return Ok(plain);
        }
        let what = format!("slot {slot} does not hold the bytes it should");
        Err(damaged(what))
    }

    /// An empty segment with a salt of its own. `memory` is used for it, whatever it holds.
    pub fn create_segment(&self, memory: Vec<u8>) -> Result<SegmentWriter> {
        self.need_key()?;
        SegmentWriter::create(memory, self.style.version, self.keys.as_ref())
    }

    /// The segment that these bytes begin, its end made anew from its chunks: name and bytes. Only
    /// the name tells whether it is the one that was lost. `None`: they begin none.
    pub fn rebuild_segment(&self, bytes: &[u8]) -> Option<(ObjectId, Vec<u8>)> {
        segment_end::with_new_end(bytes)
    }

    /// Reads footer and trailer, the last `trailer.tail_len` bytes of the segment `id`.
    pub fn open_footer(&self, tail: &[u8], trailer: Trailer, id: ObjectId) -> Result<Footer> {
        self.need_key()?;
        Footer::decode(tail, trailer, id, self.keys.as_ref())
    }

    /// Wraps an object.
    pub fn seal_object(&self, kind: ObjectKind, plain: &[u8]) -> Result<Vec<u8>> {
        if kind != ObjectKind::Session {
            self.need_key()?;
        }
        envelope::seal_object(kind, plain, self.style, self.keys())
    }

    /// Wraps an index object, whose name is the first 16 bytes of its hash.
    pub fn seal_index(&self, plain: &[u8]) -> Result<(ObjectId, Vec<u8>)> {
        self.need_key()?;
        envelope::seal_index(plain, self.style, self.keys())
    }

    /// Unwraps an object of the kind expected; with `id`, one that has that name by its content.
    pub fn open_object(
        &self,
        kind: ObjectKind,
        id: Option<ObjectId>,
        bytes: &[u8],
    ) -> Result<Vec<u8>> {
        self.need_key()?;
        envelope::open_object(kind, id, bytes, self.keys())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::check_sealed_segment;

    fn keys() -> Arc<VaultKeys> {
        Arc::new(VaultKeys::generate(ObjectId([5; 16])).unwrap())
    }

    fn sealer(keys: &Arc<VaultKeys>) -> Sealer {
        Sealer::without_keys().with_keys(Some(Arc::clone(keys)))
    }

    fn writer(keys: &VaultKeys) -> Arc<VaultKeys> {
        let text = keys.writer_text().unwrap();
        let line = text.bytes().strip_suffix(b"\n").unwrap();
        Arc::new(VaultKeys::from_writer_text(ObjectId([5; 16]), line).unwrap())
    }

    /// What is in each slot: some packs, some does not.
    fn plain(slot: u32) -> Vec<u8> {
        let mut text = format!("block {slot} ").into_bytes().repeat(30);
        if slot % 2 == 1 {
            for (byte, noise) in text.iter_mut().zip(blake3::hash(&[slot as u8]).as_bytes()) {
                *byte ^= noise;
            }
            text.truncate(32);
        }
        text
    }

    fn segment(sealer: &Sealer, slots: u32) -> (ObjectId, Vec<u8>) {
        let mut segment = sealer.create_segment(Vec::new()).unwrap();
        let mut packed = Packed::default();
        for slot in 0..slots {
            let chunk = sealer.encode_chunk(&plain(slot), &mut packed).unwrap();
            let before = chunk.stored_len();
            assert_eq!(segment.push(&chunk, &packed), slot);
            assert!(before > TAG);
        }
        segment.finish()
    }

    fn footer(sealer: &Sealer, id: ObjectId, bytes: &[u8]) -> Result<Footer> {
        let trailer = Trailer::decode(bytes, bytes.len() as u64)?;
        let tail = &bytes[trailer.footer_offset as usize..];
        sealer.open_footer(tail, trailer, id)
    }

    fn read(sealer: &Sealer, id: ObjectId, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        let footer = footer(sealer, id, bytes)?;
        footer.check_header(bytes)?;
        let mut room = Vec::new();
        let slots = (0..).zip(footer.slots());
        let read = slots.map(|(slot, entry)| {
            let stored = &bytes[entry.offset as usize..];
            let plain = sealer.open_chunk(&footer, slot, stored, &mut room)?;
            Ok(plain.to_vec())
        });
        read.collect()
    }

    #[test]
    fn a_sealed_segment_comes_back_and_shows_nothing() {
        let sealer = sealer(&keys());
        let (id, bytes) = segment(&sealer, 9);
        let expected: Vec<_> = (0..9).map(plain).collect();
        assert_eq!(read(&sealer, id, &bytes).unwrap(), expected);
        assert_eq!(check_sealed_segment(&bytes, id).unwrap(), 9);
        let shows = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        assert!(!shows(b"block ") && !shows(b"SPCK"));
        // Neither what it holds nor where its chunks end.
        let footer = footer(&sealer, id, &bytes).unwrap();
        for entry in footer.slots() {
            assert!(!shows(&entry.hash) && !shows(&entry.hash[..8]));
            let lengths = [entry.length.to_le_bytes(), entry.plain_len.to_le_bytes()];
            assert!(!shows(&lengths.concat()));
        }
        // Equal blocks are not seen to be equal.
        let (other, same) = segment(&sealer, 9);
        assert_ne!(id, other);
        assert_ne!(bytes[128..200], same[128..200]);
        // The sealer of a vault that is not encrypted refuses it in words.
        let error = super::tests::footer(&Sealer::without_keys(), id, &bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        let (id, bytes) = segment(&Sealer::without_keys(), 3);
        assert!(super::tests::footer(&sealer, id, &bytes).is_err());
    }

    #[test]
    fn without_a_key_nothing_is_opened_or_written() {
        let keys = keys();
        let without = Sealer::without_keys().without_key();
        let (id, bytes) = segment(&sealer(&keys), 2);
        let refused = |result: Result<()>| {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
        };
        refused(footer(&without, id, &bytes).map(drop));
        refused(without.create_segment(Vec::new()).map(drop));
        refused(without.seal_index(b"index").map(drop));
        refused(without.seal_object(ObjectKind::Manifest, b"{}").map(drop));
        let sealed = sealer(&keys)
            .seal_object(ObjectKind::Session, b"{}")
            .unwrap();
        refused(
            without
                .open_object(ObjectKind::Session, None, &sealed)
                .map(drop),
        );
        // What says that somebody copies the vault is no object of it, to who has a key.
        let session = without.seal_object(ObjectKind::Session, b"{}").unwrap();
        let opened = sealer(&keys).open_object(ObjectKind::Session, None, &session);
        assert_eq!(opened.unwrap_err().kind(), ErrorKind::Damaged);
    }

    #[test]
    fn a_writer_compares_and_reads_nothing() {
        let keys = keys();
        let (all, writing) = (sealer(&keys), sealer(&writer(&keys)));
        // Its own past as well as that of others.
        for by in [&all, &writing] {
            let (id, bytes) = segment(by, 4);
            assert_eq!(read(&all, id, &bytes).unwrap().len(), 4);
            let footer = footer(&writing, id, &bytes).unwrap();
            let entry = *footer.slot(2).unwrap();
            assert_eq!(entry.hash, writing.hash_of(&plain(2)));
            let mut room = Vec::new();
            let stored = &bytes[entry.offset as usize..];
            let error = writing
                .open_chunk(&footer, 2, stored, &mut room)
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(room.is_empty());
        }
    }

    #[test]
    fn every_flip_and_cut_of_a_sealed_segment_is_seen_with_and_without_a_key() {
        let sealer = sealer(&keys());
        let (id, mut bytes) = segment(&sealer, 3);
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            assert!(read(&sealer, id, &bytes).is_err(), "byte {at}");
            assert!(check_sealed_segment(&bytes, id).is_err(), "byte {at}");
            bytes[at] ^= 0x10;
            assert!(read(&sealer, id, &bytes[..at]).is_err(), "cut at {at}");
            assert!(check_sealed_segment(&bytes[..at], id).is_err(), "cut {at}");
        }
    }

    /// Not even one of the same bytes, whose hash is right: the seal itself names the slot.
    #[test]
    fn a_chunk_of_equal_bytes_opens_in_its_own_place_only() {
        let sealer = sealer(&keys());
        let mut segment = sealer.create_segment(Vec::new()).unwrap();
        let mut packed = Packed::default();
        for _ in 0..2 {
            let chunk = sealer.encode_chunk(&plain(1), &mut packed).unwrap();
            segment.push(&chunk, &packed);
        }
        let (id, bytes) = segment.finish();
        let footer = footer(&sealer, id, &bytes).unwrap();
        let [one, two] = [0, 1].map(|slot| footer.slot(slot).unwrap().offset as usize);
        let mut room = Vec::new();
        let mut opens = |at: usize| {
            sealer
                .open_chunk(&footer, 0, &bytes[at..], &mut room)
                .is_ok()
        };
        assert!(opens(one) && !opens(two));
    }

    /// Chunks that change places, within a segment or between two, do not open.
    #[test]
    fn a_chunk_opens_in_its_own_place_only() {
        let sealer = sealer(&keys());
        let ((id, bytes), (_, others)) = (segment(&sealer, 4), segment(&sealer, 4));
        let footer = footer(&sealer, id, &bytes).unwrap();
        let place = |slot| footer.slot(slot).unwrap().offset as usize;
        let mut room = Vec::new();
        let mut open = |slot, stored: &[u8]| {
            let opened = sealer.open_chunk(&footer, slot, stored, &mut room);
            opened.map(<[u8]>::to_vec)
        };
        assert_eq!(open(1, &bytes[place(1)..]).unwrap(), plain(1));
        assert!(open(1, &bytes[place(3)..]).is_err());
        assert!(open(1, &others[place(1)..]).is_err());
    }
}
