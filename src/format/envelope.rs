//! The wrapping of every object that is not a segment.
//!
//! ```text
//!  0   8  magic "SPOBJECT"
//!  8   2  format version
//! 10   1  kind: 1 index, 2 manifest, 3 session, 4 condemned, 5 damage, 6 keep, 7 verified,
//!         8 key, 9 drill
//! 11   1  sealing: 0 none, 1 AES-256-GCM
//! 12   1  codec: 0 as it is, 1 one LZ4 block, 2 one zstd frame
//! 13   3  zero
//! 16  16  salt: random
//! 32   8  length of the plain body
//! 40   8  length of the stored body
//! 48      the stored body
//! end-32  BLAKE3 of everything before
//! ```
//!
//! A sealed body begins, once it is opened, with the length of the plain one (8), its codec (1) and
//! 7 zero bytes; the header says 0 of both.

use super::codec::{Codec, room_to_pack};
use super::crypt::{self, TAG, TextNumber};
use super::index;
use super::style::Style;
use super::vault_keys::VaultKeys;
use super::wire::{array, u16_at, u64_at};
use super::{VERSION, damaged};
use crate::error::{Error, ErrorKind, Result};
use crate::model::ObjectId;

const MAGIC: &[u8; 8] = b"SPOBJECT";
const HEADER: usize = 48;
const HASH: usize = 32;
/// What stands before a body that is sealed, sealed with it.
const INNER: usize = 16;

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
    /// Why a snapshot must stay.
    Keep,
    /// A passphrase that opens the vault, without the passphrase; it is never sealed.
    Key,
    /// What samples have read, and when.
    Verified,
    /// What a drill has found.
    Drill,
}

impl ObjectKind {
    /// The longest plain body, in bytes. A reader takes no more memory for it, whatever the object
    /// unpacks to.
    pub const fn most_plain(self) -> u64 {
        match self {
            // As many runs and segments as there can be: 36 MiB.
            Self::Index => index::MAX_PLAIN,
            Self::Manifest => 16 << 20,
            Self::Session | Self::Keep => 64 << 10,
            Self::Drill => 256 << 10,
            Self::Condemned => 64 << 20,
            // 65,536 entries: 1.25 MiB.
            Self::Damage => 1_311_744,
            Self::Key => 16 << 10,
            // 1024 looks at 2^20 segments in all.
            Self::Verified => 16_790_528,
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

    /// The same, of an object that is sealed.
    pub fn is_whole_and_sealed(self, id: Option<ObjectId>, bytes: &[u8]) -> bool {
        self.is_whole(id, bytes) && bytes[11] == 1
    }

    fn byte(self) -> u8 {
        match self {
            Self::Index => 1,
            Self::Manifest => 2,
            Self::Session => 3,
            Self::Condemned => 4,
            Self::Damage => 5,
            Self::Keep => 6,
            Self::Key => 8,
            Self::Verified => 7,
            Self::Drill => 9,
        }
    }
}

/// Wraps an object; with `keys` it is sealed.
pub(super) fn seal_object(
    kind: ObjectKind,
    plain: &[u8],
    style: Style,
    keys: Option<&VaultKeys>,
) -> Result<Vec<u8>> {
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
    let (codec, packed) = match style.compression.pack(plain, &mut room) {
        Some((codec, length)) => (codec, &room[..length]),
        None => (Codec::Raw, plain),
    };
    let salt = keys.map_or_else(|| Ok(ObjectId::generate().0), |keys| keys.salt_for(plain))?;
    let (outer, length, adds) = match keys {
        None => (codec.byte(), plain.len() as u64, 0),
        Some(_) => (0, 0, INNER + TAG),
    };
    let mut bytes = Vec::with_capacity(HEADER + adds + packed.len() + HASH);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&style.version.to_le_bytes());
    bytes.extend_from_slice(&[kind.byte(), u8::from(keys.is_some()), outer, 0, 0, 0]);
    bytes.extend_from_slice(&salt);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&((adds + packed.len()) as u64).to_le_bytes());
    if let Some(keys) = keys {
        bytes.extend_from_slice(&(plain.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&[codec.byte(), 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(packed);
        let (header, text) = bytes.split_at_mut(HEADER);
        let tag = crypt::seal(&keys.of_object(&salt), TextNumber::ONLY, header, text);
        bytes.extend_from_slice(&tag);
    } else {
        bytes.extend_from_slice(packed);
    }
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    Ok(bytes)
}

/// Wraps an index object, whose name is the first 16 bytes of its hash.
pub(super) fn seal_index(
    plain: &[u8],
    style: Style,
    keys: Option<&VaultKeys>,
) -> Result<(ObjectId, Vec<u8>)> {
    let bytes = seal_object(ObjectKind::Index, plain, style, keys)?;
    let id = ObjectId(array(&bytes, bytes.len() - HASH));
    Ok((id, bytes))
}

/// Unwraps an object of the kind expected; with `id`, one that has that name by its content. With
/// `keys` it must be sealed, without it must not be.
pub(super) fn open_object(
    kind: ObjectKind,
    id: Option<ObjectId>,
    bytes: &[u8],
    keys: Option<&VaultKeys>,
) -> Result<Vec<u8>> {
    if bytes.len() < HEADER + HASH || !bytes.starts_with(MAGIC) {
        return Err(damaged(
            "this is not an object of a vault, or it is cut short",
        ));
    }
    let (body, hash) = bytes.split_at(bytes.len() - HASH);
    if blake3::hash(body).as_bytes() != hash {
        return Err(damaged("the object does not match its checksum"));
    }
    check_known(bytes, keys.is_some())?;
    if bytes[10] != kind.byte() || id.is_some_and(|id| id.0 != hash[..16]) {
        return Err(damaged("another object stands under this name"));
    }
    let (header, stored) = body.split_at(HEADER);
    if u64_at(header, 40) != stored.len() as u64 || header[13..16] != [0; 3] {
        return Err(damaged("the object has an impossible header"));
    }
    let Some(keys) = keys else {
        return unpacked(kind, &header[12..13], &header[32..40], stored);
    };
    if header[12] != 0 || u64_at(header, 32) != 0 {
        return Err(damaged("the object has an impossible header"));
    }
    let mut sealed = stored.to_vec();
    let key = keys.of_object(&header[16..32]);
    let opened = crypt::open(&key, TextNumber::ONLY, header, &mut sealed);
    let opened =
        opened.ok_or_else(|| damaged("the object was not sealed with this vault's key"))?;
    if opened.len() < INNER || opened[9..INNER] != [0; 7] {
        return Err(damaged("the object has an impossible header"));
    }
    let (inner, packed) = opened.split_at(INNER);
    unpacked(kind, &inner[8..9], &inner[..8], packed)
}

/// An object whose hash was right: of a format that is read here, and sealed as the vault is.
fn check_known(bytes: &[u8], is_sealed: bool) -> Result<()> {
    let (version, sealing) = (u16_at(bytes, 8), bytes[11]);
    if version == 0 || version > VERSION || sealing > 1 || (sealing == 1 && !is_sealed) {
        return Err(Error::new(
            ErrorKind::Format,
            format!(
                "the object is of format {version}, sealing {sealing}: this version reads \
                 format {VERSION}, sealed only in a vault that is encrypted"
            ),
        )
        .with_hint("use the newest stillpoint"));
    }
    if sealing == 0 && is_sealed {
        return Err(damaged(
            "the object is not sealed, and the vault is encrypted",
        ));
    }
    Ok(())
}

/// The plain body, of the codec and length that these bytes say.
fn unpacked(kind: ObjectKind, codec: &[u8], length: &[u8], stored: &[u8]) -> Result<Vec<u8>> {
    let plain_len = u64_at(length, 0);
    if plain_len > kind.most_plain() {
        return Err(damaged("the object has an impossible header"));
    }
    let plain_len = plain_len as usize;
    let codec = Codec::from_byte(codec[0]).map_err(|error| error.context("the object"))?;
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
        comes_back_and_every_flip_is_seen(None);
        let keys = VaultKeys::generate(ObjectId([1; 16])).unwrap();
        comes_back_and_every_flip_is_seen(Some(&keys));
    }

    /// What an attacker can do who knows the format: the hash is made right again.
    #[test]
    fn a_flip_in_a_sealed_object_is_seen_whatever_its_hash_says() {
        let keys = VaultKeys::generate(ObjectId([1; 16])).unwrap();
        let plain = b"some body ".repeat(20);
        let sealed = seal_object(ObjectKind::Session, &plain, Style::PRESENT, Some(&keys));
        let sealed = sealed.unwrap();
        let rehashed = |mut bytes: Vec<u8>| {
            let body = bytes.len() - HASH;
            let hash = blake3::hash(&bytes[..body]);
            bytes[body..].copy_from_slice(hash.as_bytes());
            bytes
        };
        let open = |bytes: &[u8], keys| open_object(ObjectKind::Session, None, bytes, keys);
        assert_eq!(open(&rehashed(sealed.clone()), Some(&keys)).unwrap(), plain);
        for at in 0..sealed.len() - HASH {
            for bit in [1, 0x80] {
                let mut bytes = sealed.clone();
                bytes[at] ^= bit;
                assert!(open(&rehashed(bytes), Some(&keys)).is_err(), "byte {at}");
            }
        }
        // An older version is known, and it is not what was sealed.
        let mut older = sealed.clone();
        older[8] = 1;
        assert!(open(&rehashed(older), Some(&keys)).is_err());
        // Without a key, with another vault's, and an unsealed one in its place.
        assert!(open(&sealed, None).is_err());
        let other = VaultKeys::generate(ObjectId([1; 16])).unwrap();
        assert!(open(&sealed, Some(&other)).is_err());
        let unsealed = seal_object(ObjectKind::Session, &plain, Style::PRESENT, None).unwrap();
        let error = open(&unsealed, Some(&keys)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    }

    #[test]
    fn a_sealed_object_says_nothing_but_its_length() {
        let keys = VaultKeys::generate(ObjectId([1; 16])).unwrap();
        let seal = |plain: &[u8]| {
            seal_object(ObjectKind::Session, plain, Style::PRESENT, Some(&keys)).unwrap()
        };
        let (one, two) = (seal(b"one text"), seal(b"another!"));
        assert_eq!(one.len(), two.len());
        assert_eq!(one[..16], two[..16], "magic, version, kind, sealing");
        assert_eq!(one[32..HEADER], two[32..HEADER], "lengths");
        assert_ne!(one[HEADER..], seal(b"one text")[HEADER..]);
        assert!(!one.windows(8).any(|part| part == b"one text"));
    }

    fn comes_back_and_every_flip_is_seen(keys: Option<&VaultKeys>) {
        let plain = b"some body ".repeat(20);
        let (id, mut bytes) = seal_index(&plain, Style::PRESENT, keys).unwrap();
        assert_eq!(
            open_object(ObjectKind::Index, Some(id), &bytes, keys).unwrap(),
            plain
        );
        assert!(open_object(ObjectKind::Manifest, None, &bytes, keys).is_err());
        let (other, _) = seal_index(&plain, Style::PRESENT, keys).unwrap();
        assert!(open_object(ObjectKind::Index, Some(other), &bytes, keys).is_err());
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(
                open_object(ObjectKind::Index, None, &bytes, keys).is_err(),
                "byte {at}"
            );
            bytes[at] ^= 1;
            assert!(
                open_object(ObjectKind::Index, None, &bytes[..at], keys).is_err(),
                "cut at {at}"
            );
        }
    }
}
