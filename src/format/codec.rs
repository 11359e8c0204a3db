//! How bytes are packed before they are stored: which codec a vault's writers use, and how a reader
//! unpacks what says its codec itself. Nothing is taken for longer than its reader allows.

use super::damaged;
use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;
use zstd::bulk::{Compressor, Decompressor};

/// How stored bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Raw,
    /// One LZ4 block.
    Lz4,
    /// One zstd frame (RFC 8878), without a dictionary.
    Zstd,
}

/// How the writers of a vault pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Compression {
    /// They do not.
    None,
    /// LZ4: for targets that are fast.
    #[default]
    Lz4,
    /// zstd: smaller and slower, for targets at the end of a network.
    Zstd(ZstdLevel),
}

/// A level of zstd: -7 to -1 and 1 to 19.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZstdLevel(i32);

impl ZstdLevel {
    /// The level of `zstd` without a number: smaller than LZ4, and slower.
    pub const USUAL: Self = Self(1);

    /// `None`: there is no such level.
    pub fn new(level: i32) -> Option<Self> {
        let known = (-7..=19).contains(&level) && level != 0;
        known.then_some(Self(level))
    }
}

thread_local! {
    /// Both are kept, for the next block: a new one costs about as much as packing it.
    static PACKER: RefCell<Option<(ZstdLevel, Compressor<'static>)>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

impl Codec {
    /// The byte that says so in a vault.
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    /// The codec of a stored byte.
    pub(super) fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Lz4),
            2 => Ok(Self::Zstd),
            other => Err(damaged(format!("the unknown codec {other}"))),
        }
    }

    /// Unpacks bytes that are packed into `room`, which is as long as the plain bytes are said to
    /// be, and returns how long they are.
    pub(super) fn unpack(self, stored: &[u8], room: &mut [u8]) -> Result<usize> {
        let cannot = || damaged("it cannot be unpacked");
        match self {
            Self::Raw => {
                let whole = room.get_mut(..stored.len()).ok_or_else(cannot)?;
                whole.copy_from_slice(stored);
                Ok(stored.len())
            }
            Self::Lz4 => unpack_lz4(stored, room).ok_or_else(cannot),
            Self::Zstd => UNPACKER.with_borrow_mut(|kept| {
                let unpacker = match kept {
                    Some(unpacker) => unpacker,
                    None => kept.insert(Decompressor::new().map_err(no_context)?),
                };
                let unpacked = unpacker.decompress_to_buffer(stored, room);
                unpacked.map_err(|error| cannot().with_source(error))
            }),
        }
    }
}

/// `None`: it is none, or longer. LZ4's own library takes half the time of the other one; what it
/// refuses, the other one is asked, which has read it before.
fn unpack_lz4(stored: &[u8], room: &mut [u8]) -> Option<usize> {
    let most = i32::try_from(room.len()).ok()?;
    i32::try_from(stored.len()).ok()?;
    let unpacked = lz4::block::decompress_to_buffer(stored, Some(most), room);
    let unpacked = unpacked.or_else(|_| lz4_flex::block::decompress_into(stored, room));
    unpacked.ok()
}

/// The most bytes that packing so many may need on its way.
pub(super) fn room_to_pack(plain_len: usize) -> usize {
    lz4_flex::block::get_maximum_output_size(plain_len)
}

impl Compression {
    /// Packs `plain` into `room`, which has [`room_to_pack`] bytes, and returns how and to what
    /// length; `None`: it would get longer, or is not to be packed.
    pub(super) fn pack(self, plain: &[u8], room: &mut [u8]) -> Option<(Codec, usize)> {
        let (codec, packed) = match self {
            Self::None => return None,
            Self::Lz4 => {
                let packed = lz4_flex::block::compress_into(plain, room);
                (Codec::Lz4, packed.ok()?)
            }
            Self::Zstd(level) => (Codec::Zstd, pack_zstd(level, plain, room)?),
        };
        (packed < plain.len()).then_some((codec, packed))
    }
}

/// `None`: it does not fit, or there is no memory for it.
fn pack_zstd(level: ZstdLevel, plain: &[u8], room: &mut [u8]) -> Option<usize> {
    PACKER.with_borrow_mut(|kept| {
        if kept.as_ref().is_none_or(|(of, _)| *of != level) {
            *kept = Some((level, Compressor::new(level.0).ok()?));
        }
        let (_, packer) = kept.as_mut()?;
        packer.compress_to_buffer(plain, room).ok()
    })
}

fn no_context(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Failed, "no memory to unpack with").with_source(error)
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Zstd(level) => write!(f, "zstd:{}", level.0),
        }
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("{text:?} is none of lz4, zstd, zstd:LEVEL (-7 to 19), none");
        match text {
            "none" => Ok(Self::None),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd(ZstdLevel::USUAL)),
            _ => {
                let level = text.strip_prefix("zstd:").ok_or_else(unknown)?;
                let level = level.parse().ok().and_then(ZstdLevel::new);
                level.map(Self::Zstd).ok_or_else(unknown)
            }
        }
    }
}

impl From<Compression> for String {
    fn from(compression: Compression) -> Self {
        compression.to_string()
    }
}

impl TryFrom<String> for Compression {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all() -> Vec<Compression> {
        let levels = [-7, -3, 1, 3, 19].map(|level| ZstdLevel::new(level).unwrap());
        let mut all = vec![Compression::Lz4];
        all.extend(levels.map(Compression::Zstd));
        all
    }

    #[test]
    fn a_choice_is_said_and_read() {
        for (text, said) in [
            ("lz4", "lz4"),
            ("none", "none"),
            ("zstd", "zstd:1"),
            ("zstd:1", "zstd:1"),
            ("zstd:-7", "zstd:-7"),
            ("zstd:19", "zstd:19"),
        ] {
            let choice: Compression = text.parse().unwrap();
            assert_eq!(choice.to_string(), said);
            assert_eq!(said.parse::<Compression>().unwrap(), choice);
        }
        for bad in [
            "", "zstd:", "zstd:0", "zstd:20", "zstd:-8", "zstd:x", "lz4:1", "gzip",
        ] {
            assert!(bad.parse::<Compression>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_longer_than_said_is_not_unpacked() {
        let plain = b"stillpoint ".repeat(900);
        let mut room = vec![0; room_to_pack(plain.len())];
        for compression in all() {
            let (codec, length) = compression.pack(&plain, &mut room).unwrap();
            let mut short = vec![0; plain.len() - 1];
            assert!(codec.unpack(&room[..length], &mut short).is_err());
            let mut long = vec![0; plain.len() + 1];
            let got = codec.unpack(&room[..length], &mut long).unwrap();
            assert_eq!(&long[..got], plain);
        }
        assert_eq!(Compression::None.pack(&plain, &mut room), None);
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(noise in prop::collection::vec(any::<u8>(), 1..3000)) {
            let plain = noise.repeat(3);
            let mut room = vec![0; room_to_pack(plain.len())];
            for compression in all() {
                if let Some((codec, length)) = compression.pack(&plain, &mut room) {
                    let mut back = vec![0; plain.len()];
                    let got = codec.unpack(&room[..length], &mut back).unwrap();
                    prop_assert_eq!((got, &back), (plain.len(), &plain));
                }
            }
        }

        #[test]
        fn garbage_is_never_longer_than_its_room(
            garbage in prop::collection::vec(any::<u8>(), 0..300),
            at in 0..300_usize,
        ) {
            let plain = b"stillpoint ".repeat(30);
            let mut packed = vec![0; room_to_pack(plain.len())];
            for compression in all() {
                let (codec, length) = compression.pack(&plain, &mut packed).unwrap();
                // The beginning of something true, which gets further than garbage alone.
                let mut stored = packed[..at.min(length)].to_vec();
                stored.extend_from_slice(&garbage);
                let mut room = vec![0; 200];
                if let Ok(got) = codec.unpack(&stored, &mut room) {
                    prop_assert!(got <= 200);
                }
            }
        }
    }
}
