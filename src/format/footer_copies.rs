//! Copies of segments' footers, many in one object, so that a segment may lie where it cannot be
//! read at once. A copy is the very bytes at the segment's end: the segment's name proves it.
//!
//! ```text
//!  0   8  magic "SPFOOTER"
//!  8   2  format version
//! 10   2  zero
//! 12   4  number of copies
//! 16      for each, 24 bytes:
//!           0  16  the segment's name
//!          16   4  offset of the copy from the start of this object
//!          20   4  its length
//!      32  BLAKE3 of everything before
//!          the copies, one after another without gaps
//! ```

use super::segment::{SLOTS_MAX, TRAILER};
use super::segment_seal::SEALED_END;
use super::wire::{array, u16_at, u32_at};
use super::{VERSION, damaged};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ObjectId, SnapshotId};
use serde::{Deserialize, Serialize};
use std::ops::Range;

const MAGIC: &[u8; 8] = b"SPFOOTER";
const HEADER: usize = 16;
const ENTRY: usize = 24;
const HASH: usize = 32;

/// Most copies in one object.
const MOST: usize = 4096;
/// An object is finished when its copies reach this many bytes.
const TARGET: usize = 8 << 20;
/// The longest copy: a footer of as many slots as there can be.
const LONGEST: usize = SLOTS_MAX as usize * 48 + SEALED_END + TRAILER;

/// An object of copies, as a manifest names it: `footers/<run>-<part>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FooterCopiesRef {
    /// The run that has put it.
    pub run: SnapshotId,
    /// Its number among those of the run, from 0.
    pub part: u32,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Collects footers for one object.
#[derive(Default)]
pub struct FooterCopiesWriter {
    segments: Vec<(ObjectId, usize)>,
    copies: Vec<u8>,
}

impl FooterCopiesWriter {
    /// Adds the end of a segment: its footer and trailer.
    pub fn push(&mut self, segment: ObjectId, tail: &[u8]) {
        self.segments.push((segment, tail.len()));
        self.copies.extend_from_slice(tail);
    }

    /// Whether it should be put before the next one.
    pub fn is_full(&self) -> bool {
        self.copies.len() >= TARGET || self.segments.len() >= MOST
    }

    /// The object's bytes; `None`: there is nothing in it. The writer is empty then.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        if self.segments.is_empty() {
            return None;
        }
        let Self { segments, copies } = std::mem::take(self);
        let head = HEADER + segments.len() * ENTRY + HASH;
        let mut bytes = Vec::with_capacity(head + copies.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&(segments.len() as u32).to_le_bytes());
        let mut at = head;
        for (segment, length) in segments {
            bytes.extend_from_slice(&segment.0);
            bytes.extend_from_slice(&(at as u32).to_le_bytes());
            bytes.extend_from_slice(&(length as u32).to_le_bytes());
            at += length;
        }
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes.extend_from_slice(&copies);
        Some(bytes)
    }
}

/// Which copies an object has, and where: what its first bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FooterCopies {
    copies: Vec<(ObjectId, Range<u64>)>,
}

impl FooterCopies {
    /// The longest object, in bytes.
    pub const MAX_LEN: u64 = (HEADER + MOST * ENTRY + HASH + TARGET + LONGEST) as u64;

    /// How many of an object's first bytes to read, of an object of `length` bytes.
    pub fn head_length(length: u64) -> u64 {
        length.min((HEADER + MOST * ENTRY + HASH) as u64)
    }

    /// Reads the first bytes of an object of `length` bytes.
    pub fn decode(head: &[u8], length: u64) -> Result<Self> {
        if head.len() < HEADER + HASH || !head.starts_with(MAGIC) {
            return Err(damaged("these are no copies of footers"));
        }
        let count = u32_at(head, 12) as usize;
        if count == 0 || count > MOST {
            return Err(damaged("an impossible number of copies of footers"));
        }
        let end = HEADER + count * ENTRY;
        let hash = head.get(end..end + HASH);
        if hash
            != Some(
                blake3::hash(&head[..end.min(head.len())])
                    .as_bytes()
                    .as_slice(),
            )
        {
            return Err(damaged("copies of footers do not match their checksum"));
        }
        let version = u16_at(head, 8);
        if version == 0 || version > VERSION {
            return Err(Error::new(
                ErrorKind::Format,
                format!("copies of footers are of format {version}"),
            )
            .with_hint("use the newest stillpoint"));
        }
        let mut next = (end + HASH) as u64;
        let mut copies = Vec::with_capacity(count);
        for entry in head[HEADER..end].chunks_exact(ENTRY) {
            let (start, long) = (u64::from(u32_at(entry, 16)), u32_at(entry, 20));
            if start != next || long as usize > LONGEST || (long as usize) < TRAILER {
                return Err(damaged("a copy of a footer is at an impossible place"));
            }
            next += u64::from(long);
            copies.push((ObjectId(array(entry, 0)), start..next));
        }
        if next != length || head[10..12] != [0; 2] {
            return Err(damaged("copies of footers do not fit their object"));
        }
        Ok(Self { copies })
    }

    /// The segments whose footers it has, and where in the object.
    pub fn iter(&self) -> impl Iterator<Item = (ObjectId, Range<u64>)> {
        self.copies.iter().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(count: u8) -> Vec<u8> {
        let mut writer = FooterCopiesWriter::default();
        for n in 0..count {
            writer.push(ObjectId([n; 16]), &vec![n; TRAILER + usize::from(n)]);
        }
        writer.take().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<FooterCopies> {
        let length = bytes.len() as u64;
        let head = FooterCopies::head_length(length) as usize;
        FooterCopies::decode(&bytes[..head], length)
    }

    #[test]
    fn copies_come_back() {
        let bytes = written(7);
        let copies = read(&bytes).unwrap();
        assert_eq!(copies.iter().count(), 7);
        for (n, (id, place)) in (0..).zip(copies.iter()) {
            assert_eq!(id, ObjectId([n; 16]));
            let copy = &bytes[place.start as usize..place.end as usize];
            assert_eq!(copy, vec![n; TRAILER + usize::from(n)]);
        }
        assert_eq!(FooterCopiesWriter::default().take(), None);
    }

    #[test]
    fn every_flip_of_the_head_and_every_cut_is_seen() {
        let mut bytes = written(3);
        let head = HEADER + 3 * ENTRY + HASH;
        for at in 0..head {
            bytes[at] ^= 4;
            assert!(read(&bytes).is_err(), "byte {at}");
            bytes[at] ^= 4;
        }
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        read(&bytes).unwrap();
    }

    #[test]
    fn an_object_is_bounded() {
        let mut writer = FooterCopiesWriter::default();
        let (mut many, tail) = (0, vec![1; LONGEST]);
        while !writer.is_full() {
            writer.push(ObjectId([7; 16]), &tail);
            many += 1;
        }
        assert!(many * LONGEST < TARGET + LONGEST);
        read(&writer.take().unwrap()).unwrap();
        while !writer.is_full() {
            writer.push(ObjectId([7; 16]), &tail[..TRAILER]);
        }
        assert_eq!(writer.segments.len(), MOST);
        let bytes = writer.take().unwrap();
        assert_eq!(read(&bytes).unwrap().iter().count(), MOST);
    }
}
