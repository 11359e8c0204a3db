//! The bytes of a note: entries one after another. What is wrong with one ends the note there.
//!
//! ```text
//! 0   4  length of the body
//! 4      the body
//!    32  BLAKE3 of everything before, from the length on
//! ```
//!
//! The first body is JSON and says whose note it is. Each other is of one segment: its name (16),
//! its length (8), and what the body of an index object says (FORMAT.md, 5) of the disk's blocks in
//! it.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{SLOTS_MAX, decode_index, encode_index, from_json};
use crate::model::{Content, DiskIdentity, ObjectId, RunMap, SnapshotId, block_count};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// Length of the number before a body.
const PREFIX: usize = 4;
const HASH: usize = 32;
/// What stands before the runs in the entry of a segment.
const SEGMENT: usize = 24;
/// The longest body: a segment in which no two blocks are neighbours.
const MOST_BODY: usize = SEGMENT + 32 + SLOTS_MAX as usize * 20;
/// Most values in the head.
const MOST_VALUES: usize = 64;
/// What stands in a head of this sort.
const VERSION: u32 = 1;

/// Whose note it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoteHead {
    version: u32,
    /// The vault's name.
    pub vault: ObjectId,
    /// The run, by the name that its snapshot was to have.
    pub run: SnapshotId,
    /// The host's name.
    pub host: String,
    /// What names the machine, where it has such a name: a copy of a machine has this file, too.
    pub machine: Option<String>,
    /// What names the boot.
    pub boot: Option<String>,
    /// The disk.
    pub disk: DiskIdentity,
}

impl NoteHead {
    /// The head of a note of this disk; everything else is the run's.
    pub fn of(disk: DiskIdentity, vault: ObjectId, run: SnapshotId, owner: &Owner<'_>) -> Self {
        Self {
            version: VERSION,
            vault,
            run,
            host: owner.host.to_owned(),
            machine: owner.machine.map(str::to_owned),
            boot: owner.boot.map(str::to_owned),
            disk,
        }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(self).map_err(|error| {
            Error::new(ErrorKind::Failed, "cannot write JSON").with_source(error)
        })?;
        Ok(frame(&json))
    }

    /// `None`: nobody here knows what it says.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let head: Self = from_json(body, MOST_VALUES).ok()?;
        (head.version == VERSION).then_some(head)
    }

    /// How many blocks the disk had.
    pub(super) fn blocks(&self) -> u64 {
        block_count(self.disk.size)
    }
}

/// Whose notes are written, and found.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The host's name.
    pub host: &'a str,
    /// What names the machine; `None`: nobody knows.
    pub machine: Option<&'a str>,
    /// What names its boot. Where nothing names the machine, this does until it ends.
    pub boot: Option<&'a str>,
}

impl Owner<'_> {
    /// Whether this wrote the note.
    pub(super) fn has_written(&self, head: &NoteHead) -> bool {
        let boot = (self.boot, head.boot.as_deref());
        let same_machine = match (self.machine, head.machine.as_deref()) {
            (Some(own), Some(other)) => own == other,
            // A copy of the machine has its files, and has booted by itself.
            (None, None) => matches!(boot, (Some(own), Some(other)) if own == other),
            _ => false,
        };
        same_machine && self.host == head.host
    }
}

/// A segment that was put, and the blocks of one disk in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SentSegment {
    pub id: ObjectId,
    /// In bytes.
    pub length: u64,
    /// Not empty; all of it in this segment.
    pub map: RunMap,
}

impl SentSegment {
    /// `blocks`: how many the disk has.
    pub(super) fn encode(&self, blocks: u64) -> Vec<u8> {
        let mut body = self.id.0.to_vec();
        body.extend_from_slice(&self.length.to_le_bytes());
        // One: a segment has fewer slots than an index object may have runs.
        encode_index(&self.map, blocks)
            .iter()
            .for_each(|part| body.extend_from_slice(part));
        frame(&body)
    }

    pub(super) fn decode(body: &[u8], blocks: u64) -> Option<Self> {
        let (head, index) = body.split_at_checked(SEGMENT)?;
        let (id, length) = head.split_at(16);
        let id = ObjectId(id.try_into().ok()?);
        let length = u64::from_le_bytes(length.try_into().ok()?);
        let mut map = RunMap::new();
        decode_index(index, blocks, &mut map).ok()?;
        let is_there = |content| matches!(content, Content::Data { segment, .. } if segment == id);
        let whole = !map.is_empty() && map.iter().all(|run| is_there(run.content));
        whole.then_some(Self { id, length, map })
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut entry = (body.len() as u32).to_le_bytes().to_vec();
    entry.extend_from_slice(body);
    let hash = blake3::hash(&entry);
    entry.extend_from_slice(hash.as_bytes());
    entry
}

/// The next body; `None`: there is none that is whole.
pub(super) fn read_body(from: &mut impl Read) -> Option<Vec<u8>> {
    let mut entry = vec![0; PREFIX];
    from.read_exact(&mut entry).ok()?;
    let length = u32::from_le_bytes(entry[..].try_into().ok()?) as usize;
    if length > MOST_BODY {
        return None;
    }
    entry.resize(PREFIX + length, 0);
    from.read_exact(&mut entry[PREFIX..]).ok()?;
    let mut hash = [0; HASH];
    from.read_exact(&mut hash).ok()?;
    (*blake3::hash(&entry).as_bytes() == hash).then(|| entry.split_off(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BlockIndex, Bytes, DevNumber, Run};
    use proptest::prelude::*;

    fn run(start: u64, count: u64, segment: ObjectId, slot: u32) -> Run {
        Run {
            start: BlockIndex(start),
            count,
            content: Content::Data { segment, slot },
        }
    }

    fn segment() -> SentSegment {
        let id = ObjectId([7; 16]);
        let mut map = RunMap::new();
        map.insert(run(3, 2, id, 0));
        map.insert(run(9, 1, id, 5));
        SentSegment {
            id,
            length: 1000,
            map,
        }
    }

    fn head() -> NoteHead {
        let disk = DiskIdentity {
            name: "vda".into(),
            dev: DevNumber { major: 8, minor: 0 },
            size: Bytes(10 << 16),
            logical_block: 512,
            serial: None,
            wwn: None,
            diskseq: None,
            table_id: None,
        };
        let owner = Owner {
            host: "host",
            machine: Some("machine"),
            boot: None,
        };
        NoteHead::of(disk, ObjectId([1; 16]), SnapshotId::generate(1), &owner)
    }

    #[test]
    fn a_note_comes_back_up_to_what_is_wrong_with_it() {
        let (head, segment) = (head(), segment());
        let mut bytes = head.encode().unwrap();
        let first = bytes.len();
        bytes.extend(segment.encode(10));
        let second = bytes.len();
        bytes.extend(segment.encode(10));
        let whole = |bytes: &[u8]| {
            let mut from = bytes;
            let Some(body) = read_body(&mut from) else {
                return 0;
            };
            assert_eq!(NoteHead::decode(&body).as_ref(), Some(&head));
            let mut found = 1;
            while let Some(body) = read_body(&mut from) {
                assert_eq!(SentSegment::decode(&body, 10).as_ref(), Some(&segment));
                assert_eq!(SentSegment::decode(&body, 11), None, "of another disk");
                found += 1;
            }
            found
        };
        assert_eq!(whole(&bytes), 3);
        for at in 0..bytes.len() {
            let expected = usize::from(at >= first) + usize::from(at >= second);
            assert_eq!(whole(&bytes[..at]), expected, "cut at {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert_eq!(whole(&flipped), expected, "byte {at}");
        }
    }

    #[test]
    fn blocks_in_another_segment_are_no_entry() {
        let mut bad = segment();
        bad.map.insert(run(0, 1, ObjectId([8; 16]), 0));
        let body = read_body(&mut &bad.encode(10)[..]).unwrap();
        assert_eq!(SentSegment::decode(&body, 10), None);
        bad.map = RunMap::new();
        let body = read_body(&mut &bad.encode(10)[..]).unwrap();
        assert_eq!(SentSegment::decode(&body, 10), None, "of nothing");
    }

    #[test]
    fn the_longest_entry_can_be_read() {
        let id = ObjectId([7; 16]);
        let mut map = RunMap::new();
        for slot in 0..SLOTS_MAX {
            map.insert(run(2 * u64::from(slot), 1, id, slot));
        }
        let long = SentSegment { id, length: 1, map };
        let entry = long.encode(1 << 20);
        assert_eq!(entry.len(), PREFIX + MOST_BODY + HASH);
        assert!(read_body(&mut &entry[..]).is_some());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_body(&mut &bytes[..]);
            let _ = NoteHead::decode(&bytes);
            let _ = SentSegment::decode(&bytes, 10);
            let _ = SentSegment::decode(&frame(&bytes)[PREFIX..], 10);
        }
    }
}
