//! The head of an overlay's file: of which disk of which snapshot it is, and where in the file what
//! lies.
//!
//! ```text
//!    0     8  "SPOVRLAY"
//!    8     2  version: 1
//!   10     2  zero
//!   12     4  length of the JSON object that follows: see `OverlayOf`
//!   16        the JSON object, then zeros
//! 4064    32  BLAKE3 of everything before
//! 4096        marks: a bit for each grain of the disk, from the lowest of a byte on; set: its
//!             bytes are in this file. To the next multiple of 4096
//!             the disk's bytes, each at this offset and its own
//! ```
//! Numbers are little-endian.

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Bytes, ObjectId, SnapshotId};
use serde::{Deserialize, Serialize};

/// Bytes of the head, and of a page of marks.
pub(super) const PAGE: u64 = 4096;
const MAGIC: &[u8; 8] = b"SPOVRLAY";
const VERSION: u16 = 1;
const TEXT_AT: usize = 16;
const HASH_AT: usize = PAGE as usize - 32;
/// Most grains of a disk: their marks take 32 MiB at most.
const MOST_GRAINS: u64 = 1 << 28;

/// Of which disk an overlay is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayOf {
    /// The vault.
    pub vault: ObjectId,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The disk's name in the snapshot.
    pub disk: String,
    /// Its size.
    pub size: Bytes,
}

/// Where in the file of an overlay what lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OverlayLayout {
    /// Bytes of the disk that one mark is of.
    pub(super) grain: u64,
    /// How many marks there are.
    pub(super) grains: u64,
    /// Where the disk's bytes begin.
    pub(super) data_at: u64,
    /// How long the file is.
    pub(super) length: u64,
}

impl OverlayLayout {
    /// That of a disk of this size.
    pub(super) fn of(size: Bytes) -> Self {
        let mut grain = PAGE;
        while size.0.div_ceil(grain) > MOST_GRAINS {
            grain *= 2;
        }
        let grains = size.0.div_ceil(grain);
        let data_at = PAGE + grains.div_ceil(8).next_multiple_of(PAGE);
        Self {
            grain,
            grains,
            data_at,
            length: data_at + size.0,
        }
    }
}

/// The bytes of a head.
pub(super) fn encode_head(of: &OverlayOf) -> Result<Vec<u8>> {
    let text = serde_json::to_vec(of).map_err(|error| {
        Error::new(ErrorKind::Failed, "cannot name the disk").with_source(error)
    })?;
    let fits = TEXT_AT + text.len() <= HASH_AT;
    if !fits {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "the disk's name is too long",
        ));
    }
    let mut head = MAGIC.to_vec();
    head.extend(VERSION.to_le_bytes());
    head.extend([0; 2]);
    // It is shorter than a page.
    head.extend((text.len() as u32).to_le_bytes());
    head.extend(text);
    head.resize(HASH_AT, 0);
    let hash = blake3::hash(&head);
    head.extend(hash.as_bytes());
    Ok(head)
}

/// What a head says; `None`: it is none, or not whole.
pub(super) fn decode_head(head: &[u8]) -> Option<OverlayOf> {
    let (before, hash) = head.split_at_checked(HASH_AT)?;
    let rest = before
        .strip_prefix(MAGIC)?
        .strip_prefix(&VERSION.to_le_bytes())?;
    let length = u32::from_le_bytes(rest.get(2..6)?.try_into().ok()?);
    let text = before.get(TEXT_AT..)?.get(..length as usize)?;
    let is_whole = blake3::hash(before).as_bytes() == hash;
    is_whole
        .then(|| serde_json::from_slice(text).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_was_put_into_it_and_nothing_else_is_one() {
        let of = OverlayOf {
            vault: ObjectId([7; 16]),
            snapshot: SnapshotId::generate(1_800_000_000_000),
            disk: "vda".into(),
            size: Bytes(1 << 40),
        };
        let head = encode_head(&of).unwrap();
        assert_eq!(head.len() as u64, PAGE);
        assert_eq!(decode_head(&head), Some(of.clone()));
        for at in [0, 8, 12, 20, 3000, 4095] {
            let mut other = head.clone();
            other[at] ^= 1;
            assert_eq!(decode_head(&other), None, "{at}");
        }
        assert_eq!(decode_head(&head[..4095]), None);
        let disk = "x".repeat(5000);
        assert!(encode_head(&OverlayOf { disk, ..of }).is_err());
    }

    #[test]
    fn marks_take_little_memory_however_large_the_disk() {
        for (size, grain) in [
            (1, 4096),
            (1 << 30, 4096),
            (1 << 40, 4096),
            ((1 << 40) + 512, 8192),
            ((1 << 48) - 512, 1 << 20),
        ] {
            let layout = OverlayLayout::of(Bytes(size));
            assert_eq!(layout.grain, grain, "{size}");
            assert!(layout.data_at <= (33 << 20) && layout.data_at.is_multiple_of(PAGE));
            assert_eq!(layout.length, layout.data_at + size);
        }
    }
}
