//! The wrapping of every object that is not a segment.
//!
//! ```text
//!  0   8  magic "SPOBJECT"
//!  8   2  format version
//! 10   1  kind: 1 index, 2 manifest, 3 session, 4 condemned, 5 damage
//! 11   1  sealing: 0 none, 1 AES-256-GCM (not written yet)
//! 12   1  codec: 0 as it is, 1 one LZ4 block, 2 one zstd frame
//! 13   3  zero
//! 16  16  salt: random
//! 32   8  length of the plain body
//! 40   8  length of the stored body
//! 48      the stored body
//! end-32  BLAKE3 of everything before
//! ```

use super::codec::{Codec, room_to_pack};
use super::index;
use super::style::Style;
use super::wire::{array, u16_at, u64_at};
use super::{VERSION, damaged};
use crate::error::{Error, ErrorKind, Result};
use crate::model::ObjectId;

const MAGIC: &[u8; 8] = b"SPOBJECT";
const HEADER: usize = 48;
const HASH: usize = 32;

/// What the envelope adds, and how much longer bytes get that cannot be packed.
const WRAPPING: u64 = 64 << 10;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// Extent runs of one disk.
    Index,
    /// What makes a snapshot exist.
    Manifest,
    /// Who is writing.
    Session,
    /// What a collector means to delete.
    Condemned,
    /// What was found damaged.
    Damage,
}

impl ObjectKind {
    /// The longest plain body, in bytes. A reader takes no more memory for it, whatever the object
    /// unpacks to.
    pub const fn most_plain(self) -> u64 {
        match self {
            // As many runs and segments as there can be: 36 MiB.
            Self::Index => index::MAX_PLAIN,
            Self::Manifest => 16 << 20,
            Self::Session => 64 << 10,
            Self::Condemned => 64 << 20,
            // 65,536 entries: 1.25 MiB.
            Self::Damage => 1_311_744,
        }
    }

    /// The longest object, in bytes.
    pub fn most_stored(self) -> u64 {
        self.most_plain() + WRAPPING
    }

    /// Whether these bytes are an object of this kind as it was put: its hash is right, and with
    /// `id`, so is its name.
    pub fn is_whole(self, id: Option<ObjectId>, bytes: &[u8]) -> bool {
        if bytes.len() < HEADER + HASH || !bytes.starts_with(MAGIC) || bytes[10] != self.byte() {
            return false;
        }
        let (body, hash) = bytes.split_at(bytes.len() - HASH);
        let is_named = id.is_none_or(|id| id.0 == hash[..16]);
        is_named && blake3::hash(body).as_bytes() == hash
    }

    fn byte(self) -> u8 {
        match self {
            Self::Index => 1,
            Self::Manifest => 2,
            Self::Session => 3,
            Self::Condemned => 4,
            Self::Damage => 5,
        }
    }
}

/// Wraps an object.
pub(super) fn seal_object(kind: ObjectKind, plain: &[u8], style: Style) -> Result<Vec<u8>> {
    if plain.len() as u64 > kind.most_plain() {
        return Err(Error::new(
            ErrorKind::Failed,
            format!(
                "an object of {} bytes is more than the vault's format allows",
                plain.len()
            ),
        ));
    }
    let mut room = vec![0; room_to_pack(plain.len())];
    let (codec, stored) = match style.compression.pack(plain, &mut room) {
        Some((codec, length)) => (codec, &room[..length]),
        None => (Codec::Raw, plain),
    };
    let mut bytes = Vec::with_capacity(HEADER + stored.len() + HASH);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&style.version.to_le_bytes());
    bytes.extend_from_slice(&[kind.byte(), 0, codec.byte(), 0, 0, 0]);
    bytes.extend_from_slice(&ObjectId::generate().0);
    bytes.extend_from_slice(&(plain.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&(stored.len() as u64).to_le_bytes());
    bytes.extend_from_slice(stored);
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    Ok(bytes)
}

/// Wraps an index object, whose name is the first 16 bytes of its hash.
pub(super) fn seal_index(plain: &[u8], style: Style) -> Result<(ObjectId, Vec<u8>)> {
    let bytes = seal_object(ObjectKind::Index, plain, style)?;
    let id = ObjectId(array(&bytes, bytes.len() - HASH));
    Ok((id, bytes))
}

/// Unwraps an object of the kind expected; with `id`, one that has that name by its content.
pub(super) fn open_object(kind: ObjectKind, id: Option<ObjectId>, bytes: &[u8]) -> Result<Vec<u8>> {
    if bytes.len() < HEADER + HASH || !bytes.starts_with(MAGIC) {
        return Err(damaged(
            "this is not an object of a vault, or it is cut short",
        ));
    }
    let (body, hash) = bytes.split_at(bytes.len() - HASH);
    if blake3::hash(body).as_bytes() != hash {
        return Err(damaged("the object does not match its checksum"));
    }
    let version = u16_at(bytes, 8);
    if version == 0 || version > VERSION || bytes[11] != 0 {
        let sealing = bytes[11];
        return Err(Error::new(
            ErrorKind::Format,
            format!(
                "the object is of format {version}, sealing {sealing}: this version reads \
                 format {VERSION}, not sealed"
            ),
        )
        .with_hint("use the newest stillpoint"));
    }
    if bytes[10] != kind.byte() || id.is_some_and(|id| id.0 != hash[..16]) {
        return Err(damaged("another object stands under this name"));
    }
    let stored = &body[HEADER..];
    let plain_len = u64_at(bytes, 32);
    if u64_at(bytes, 40) != stored.len() as u64
        || plain_len > kind.most_plain()
        || bytes[13..16] != [0; 3]
    {
        return Err(damaged("the object has an impossible header"));
    }
    let plain_len = plain_len as usize;
    let codec = Codec::from_byte(bytes[12]).map_err(|error| error.context("the object"))?;
    if codec == Codec::Raw && stored.len() != plain_len {
        return Err(damaged("the object has two lengths"));
    }
    let mut plain = vec![0; plain_len];
    let unpacked = codec.unpack(stored, &mut plain);
    if unpacked.map_err(|error| error.context("the object"))? == plain_len {
        Ok(plain)
    } else {
        Err(damaged("the object has two lengths"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_comes_back_and_every_flip_is_seen() {
        let plain = b"some body ".repeat(20);
        let (id, mut bytes) = seal_index(&plain, Style::PRESENT).unwrap();
        assert_eq!(
            open_object(ObjectKind::Index, Some(id), &bytes).unwrap(),
            plain
        );
        assert!(open_object(ObjectKind::Manifest, None, &bytes).is_err());
        let (other, _) = seal_index(&plain, Style::PRESENT).unwrap();
        assert!(open_object(ObjectKind::Index, Some(other), &bytes).is_err());
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(
                open_object(ObjectKind::Index, None, &bytes).is_err(),
                "byte {at}"
            );
            bytes[at] ^= 1;
            assert!(
                open_object(ObjectKind::Index, None, &bytes[..at]).is_err(),
                "cut at {at}"
            );
        }
    }
}
