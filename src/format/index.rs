//! An index object: runs of blocks of one disk.
//!
//! ```text
//! 0   8  number of blocks the disk has
//! 8   4  number of runs
//! 12  4  number of segments named
//! 16     segment names, 16 bytes each
//!        runs, 20 bytes each, ascending, not overlapping:
//!          0  8  first block
//!          8  4  how many
//!         12  4  position of the segment in the names above; 0xffffffff zeros, 0xfffffffe free
//!         16  4  slot of the first block (0 for zeros and free)
//! ```

use super::damaged;
use super::segment::SLOTS_MAX;
use super::wire::{array, u32_at, u64_at};
use crate::error::Result;
use crate::model::{BlockIndex, BlockSet, Content, ObjectId, Run, RunMap};
use std::collections::HashMap;

/// Most runs in one index object; a disk in more pieces gets several.
pub const MAX_RUNS: usize = 1 << 20;

/// Most runs that a writer puts into one, so that no object is longer than 32 MiB.
const RUNS_AT_MOST: usize = 1 << 19;

/// The longest body: each run in a segment of its own.
pub(super) const MAX_PLAIN: u64 = (HEADER + MAX_RUNS * (RUN + 16)) as u64;

const HEADER: usize = 16;
const RUN: usize = 20;
const ZERO: u32 = u32::MAX;
const FREE: u32 = u32::MAX - 1;
const MAX_COUNT: u64 = u32::MAX as u64;

/// Encodes a map as the bodies of one or more index objects, to be laid over one another in order.
pub fn encode_index(map: &RunMap, blocks: u64) -> Vec<Vec<u8>> {
    let runs: Vec<Run> = map.iter().flat_map(split).collect();
    if runs.is_empty() {
        return vec![encode_part(&[], blocks)];
    }
    runs.chunks(RUNS_AT_MOST)
        .map(|part| encode_part(part, blocks))
        .collect()
}

/// A run as runs whose count fits its field.
fn split(run: Run) -> impl Iterator<Item = Run> {
    (0..run.count.div_ceil(MAX_COUNT)).map(move |part| Run {
        start: BlockIndex(run.start.0 + part * MAX_COUNT),
        count: (run.count - part * MAX_COUNT).min(MAX_COUNT),
        content: run.content,
    })
}

fn encode_part(runs: &[Run], blocks: u64) -> Vec<u8> {
    let mut names: Vec<ObjectId> = Vec::new();
    let mut positions: HashMap<ObjectId, u32> = HashMap::new();
    let mut body = Vec::with_capacity(runs.len() * RUN);
    for run in runs {
        let (place, slot) = match run.content {
            Content::Zero => (ZERO, 0),
            Content::Free => (FREE, 0),
            Content::Data { segment, slot } => {
                let position = *positions.entry(segment).or_insert_with(|| {
                    names.push(segment);
                    names.len() as u32 - 1
                });
                (position, slot)
            }
        };
        body.extend_from_slice(&run.start.0.to_le_bytes());
        body.extend_from_slice(&(run.count as u32).to_le_bytes());
        body.extend_from_slice(&place.to_le_bytes());
        body.extend_from_slice(&slot.to_le_bytes());
    }
    let mut bytes = Vec::with_capacity(HEADER + names.len() * 16 + body.len());
    bytes.extend_from_slice(&blocks.to_le_bytes());
    bytes.extend_from_slice(&(runs.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(names.len() as u32).to_le_bytes());
    for name in &names {
        bytes.extend_from_slice(&name.0);
    }
    bytes.extend_from_slice(&body);
    bytes
}

/// Lays the runs of one index object of a disk of `blocks` blocks over `map`; returns how many.
pub fn decode_index(bytes: &[u8], blocks: u64, map: &mut RunMap) -> Result<u64> {
    if bytes.len() < HEADER || blocks > BlockSet::MAX_BLOCKS || u64_at(bytes, 0) != blocks {
        return Err(damaged("the index is not one of this disk"));
    }
    let runs = u32_at(bytes, 8) as usize;
    let names = u32_at(bytes, 12) as usize;
    if runs > MAX_RUNS || names > runs || bytes.len() != HEADER + names * 16 + runs * RUN {
        return Err(damaged("the index has an impossible length"));
    }
    let (names, body) = bytes[HEADER..].split_at(names * 16);
    let mut next = 0;
    for entry in body.chunks_exact(RUN) {
        let start = u64_at(entry, 0);
        let count = u64::from(u32_at(entry, 8));
        let slot = u32_at(entry, 16);
        let content = match (u32_at(entry, 12), slot) {
            (ZERO, 0) => Content::Zero,
            (FREE, 0) => Content::Free,
            (place, slot) => {
                let at = place as usize * 16;
                let name = names.get(at..at + 16);
                let segment = name.ok_or_else(|| damaged("the index names no such segment"))?;
                if u64::from(slot) + count > u64::from(SLOTS_MAX) {
                    return Err(damaged("a run of the index leaves its segment"));
                }
                Content::Data {
                    segment: ObjectId(array(segment, 0)),
                    slot,
                }
            }
        };
        if count == 0 || start < next || start.checked_add(count).is_none_or(|end| end > blocks) {
            return Err(damaged("the runs of the index overlap or leave the disk"));
        }
        next = start + count;
        map.insert(Run {
            start: BlockIndex(start),
            count,
            content,
        });
    }
    Ok(runs as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_run() -> impl Strategy<Value = Run> {
        let content = prop_oneof![
            Just(Content::Zero),
            Just(Content::Free),
            (any::<[u8; 16]>(), 0..100_u32).prop_map(|(id, slot)| Content::Data {
                segment: ObjectId(id),
                slot
            }),
        ];
        (0..900_u64, 1..50_u64, content).prop_map(|(start, count, content)| Run {
            start: BlockIndex(start),
            count,
            content,
        })
    }

    proptest! {
        #[test]
        fn an_index_comes_back(runs in prop::collection::vec(any_run(), 0..60)) {
            let mut map = RunMap::new();
            for run in runs {
                map.insert(run);
            }
            let mut back = RunMap::new();
            for part in encode_index(&map, 1000) {
                decode_index(&part, 1000, &mut back).unwrap();
                prop_assert!(decode_index(&part, 1001, &mut RunMap::new()).is_err());
            }
            prop_assert_eq!(back, map);
        }

        #[test]
        fn garbage_never_panics(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            runs in 0..14_u32,
        ) {
            let mut bytes = bytes;
            if bytes.len() >= HEADER {
                bytes[..8].copy_from_slice(&1000_u64.to_le_bytes());
                bytes[8..12].copy_from_slice(&runs.to_le_bytes());
                bytes[12..16].copy_from_slice(&1_u32.to_le_bytes());
            }
            let mut map = RunMap::new();
            let _ = decode_index(&bytes, 1000, &mut map);
            prop_assert!(map.iter().all(|run| run.end() <= 1000));
        }
    }
}
