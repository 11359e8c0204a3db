//! What is data on a disk of a snapshot, and what is known to be zeros, by its map alone. Nothing
//! is read.

use crate::model::{BLOCK_SIZE, Bytes, Content, Extent, RunMap};

/// What a part of a disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Bytes that are stored.
    Data,
    /// Zeros.
    Zeros,
    /// It was free at the cut, was not stored, and reads as zeros.
    Free,
}

/// A part of a disk that is all of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocationRun {
    /// How long it is.
    pub length: Bytes,
    /// What it holds.
    pub kind: Allocation,
}

/// The runs of a place, `most` at most, in order from its beginning.
pub(super) fn allocation(map: &RunMap, place: Extent, most: usize) -> Vec<AllocationRun> {
    let mut runs: Vec<AllocationRun> = Vec::new();
    let blocks = place.offset.0 / BLOCK_SIZE..place.end().0.div_ceil(BLOCK_SIZE);
    for run in map.iter_range(blocks) {
        let kind = match run.content {
            Content::Data { .. } => Allocation::Data,
            Content::Zero => Allocation::Zeros,
            Content::Free => Allocation::Free,
        };
        let start = run.start.offset().max(place.offset);
        let end = Bytes(run.end() * BLOCK_SIZE).min(place.end());
        let length = end - start;
        let is_full = runs.len() >= most;
        match runs.last_mut() {
            Some(last) if last.kind == kind => last.length += length,
            _ if is_full => break,
            _ => runs.push(AllocationRun { length, kind }),
        }
    }
    runs
}
