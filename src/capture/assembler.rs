//! Puts encoded batches in order and packs their chunks into segments, so that neighbouring blocks
//! become long runs.

use super::spare::{Lent, Spare};
use super::worker::{BlockOutcome, Encoded};
use crate::error::Result;
use crate::format::{EncodedChunk, Packed, Sealer, SegmentWriter};
use crate::model::{BlockIndex, BlockSet, Bytes, Content, ObjectId, Run, RunMap};
use crate::store::{Blob, SentRun};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was captured of one disk.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    /// Where each captured block is now.
    pub map: RunMap,
    /// Bytes added to the vault: chunks with their headers.
    pub stored: Bytes,
    /// The captured blocks of which packing wins next to nothing, as far as that is known: of what
    /// anybody else has put it is not.
    pub hardly_pack: BlockSet,
}

/// A finished segment on its way to the vault.
pub(super) struct Finished {
    pub id: ObjectId,
    pub bytes: Blob,
    /// The blocks whose newest bytes are in it.
    pub runs: Vec<SentRun>,
}

/// Where finished segments go.
pub(super) type Put<'a> = dyn FnMut(Finished) -> Result<()> + 'a;

/// Collects encoded batches.
pub(super) struct Assembler {
    disks: Vec<Captured>,
    next: u64,
    early: BTreeMap<u64, Encoded>,
    /// The open segment. There is none before its first chunk: by then a putter has taken the last
    /// one, and the memory of the one that it put before is free again.
    segment: Option<SegmentWriter>,
    /// Stands in the maps for the open segment, which gets its name when it is finished.
    stand_in: ObjectId,
    /// Blocks that went into the open segment, by disk; a later batch may have laid others over.
    inside: Vec<(usize, Range<u64>)>,
    sealer: Sealer,
    /// Memory for batches.
    batches: Spare<Packed>,
    /// Memory for segments.
    segments: Spare<Vec<u8>>,
    /// How long the open segment is.
    held: Arc<AtomicU64>,
}

/// How segments are made.
pub(super) struct AssemblerOptions {
    /// How many disks the run has.
    pub disks: usize,
    /// How many segments are put at once.
    pub putters: usize,
    /// Where the memory of batches goes that are done with.
    pub batches: Spare<Packed>,
    /// Makes the segments.
    pub sealer: Sealer,
    /// Where it says how long the open segment is.
    pub held: Arc<AtomicU64>,
}

impl Assembler {
    /// An assembler that has taken nothing yet.
    pub(super) fn new(options: AssemblerOptions) -> Self {
        Self {
            disks: vec![Captured::default(); options.disks],
            next: 0,
            early: BTreeMap::new(),
            segment: None,
            sealer: options.sealer,
            held: options.held,
            batches: options.batches,
            // One in the making, the others on their way to the vault.
            segments: Spare::new(1 + options.putters),
            stand_in: ObjectId::generate(),
            inside: Vec::new(),
        }
    }

    /// Takes a batch; segments that get full go to `put`. Returns how many batches are done
    /// with: one that came early waits for those before it.
    pub(super) fn take(&mut self, encoded: Encoded, put: &mut Put<'_>) -> Result<usize> {
        let mut done = 0;
        self.early.insert(encoded.sequence, encoded);
        while let Some(batch) = self.early.remove(&self.next) {
            self.next += 1;
            done += 1;
            for (block, outcome) in (batch.first.0..).zip(batch.outcomes) {
                let mut hardly_packs = false;
                let content = match outcome {
                    BlockOutcome::Zero => Content::Zero,
                    BlockOutcome::Known(known) => {
                        hardly_packs = known.hardly_packs;
                        known.content
                    }
                    BlockOutcome::Chunk(chunk) => {
                        hardly_packs = chunk.hardly_packs();
                        if self.segment.as_ref().is_some_and(SegmentWriter::is_full) {
                            self.finish_segment(put)?;
                        }
                        self.note(batch.disk, block);
                        self.disks[batch.disk].stored.0 += chunk.stored_len() as u64;
                        self.append(&chunk, &batch.packed)?
                    }
                };
                let run = Run {
                    start: BlockIndex(block),
                    count: 1,
                    content,
                };
                let disk = &mut self.disks[batch.disk];
                disk.map.insert(run);
                disk.hardly_pack.set(BlockIndex(block), hardly_packs);
            }
            self.batches.give(batch.packed);
        }
        Ok(done)
    }

    /// Appends a chunk to the open segment.
    fn append(&mut self, chunk: &EncodedChunk, packed: &Packed) -> Result<Content> {
        let open = match self.segment.take() {
            Some(open) => open,
            None => self.sealer.create_segment(self.segments.take())?,
        };
        let open = self.segment.insert(open);
        let slot = open.push(chunk, packed);
        self.held.store(open.length(), Ordering::Relaxed);
        Ok(Content::Data {
            segment: self.stand_in,
            slot,
        })
    }

    /// Notes that a block is in the open segment.
    fn note(&mut self, disk: usize, block: u64) {
        match self.inside.last_mut() {
            Some((last, range)) if *last == disk && range.end == block => range.end += 1,
            _ => self.inside.push((disk, block..block + 1)),
        }
    }

    fn finish_segment(&mut self, put: &mut Put<'_>) -> Result<()> {
        let Some(segment) = self.segment.take() else {
            return Ok(());
        };
        self.held.store(0, Ordering::Relaxed);
        let stand_in = std::mem::replace(&mut self.stand_in, ObjectId::generate());
        let (id, bytes) = segment.finish();
        let mut runs = Vec::new();
        for (disk, range) in self.inside.drain(..) {
            let map = &mut self.disks[disk].map;
            for run in map.iter_range(range).collect::<Vec<_>>() {
                if let Content::Data { segment, slot } = run.content
                    && segment == stand_in
                {
                    let run = Run {
                        content: Content::Data { segment: id, slot },
                        ..run
                    };
                    map.insert(run);
                    runs.push(SentRun { disk, run });
                }
            }
        }
        let bytes = Blob::from_owner(Lent::new(bytes, &self.segments));
        put(Finished { id, bytes, runs })
    }

    /// The last segment, and what was captured of each disk.
    pub(super) fn finish(mut self, put: &mut Put<'_>) -> Result<Vec<Captured>> {
        assert!(
            self.early.is_empty(),
            "every batch that was submitted has been encoded"
        );
        self.finish_segment(put)?;
        Ok(self.disks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Trailer;
    use proptest::prelude::*;

    const SEALER: Sealer = Sealer::without_keys();

    fn chunk(n: u8, packed: &mut Packed) -> BlockOutcome {
        BlockOutcome::Chunk(SEALER.encode_chunk(&[n; 100], packed).unwrap())
    }

    proptest! {
        /// Batches may come in any order, and blocks again and again: the last by sequence counts.
        #[test]
        fn the_last_batch_of_a_block_counts(
            batches in prop::collection::vec(
                (0..30_u64, prop::collection::vec(0..4_u8, 1..6)),
                1..40,
            ),
            shuffle in any::<u64>(),
        ) {
            let mut truth = BTreeMap::new();
            let mut encoded = Vec::new();
            for (sequence, (first, values)) in (0..).zip(&batches) {
                let mut packed = Packed::default();
                let outcomes = values.iter().zip(*first..).map(|(value, block)| {
                    truth.insert(block, *value);
                    if *value == 0 { BlockOutcome::Zero } else { chunk(*value, &mut packed) }
                });
                let (outcomes, first) = (outcomes.collect(), BlockIndex(*first));
                encoded.push(Encoded { sequence, disk: 0, first, outcomes, packed });
            }
            let shift = (shuffle % encoded.len() as u64) as usize;
            encoded.rotate_left(shift);
            let mut segments = BTreeMap::new();
            let mut noted = BTreeMap::new();
            let mut put = |Finished { id, bytes, runs }: Finished| {
                segments.insert(id, bytes);
                for SentRun { run, .. } in runs {
                    for block in run.start.0..run.end() {
                        noted.insert(block, id);
                    }
                }
                Ok(())
            };
            let mut assembler = Assembler::new(AssemblerOptions {
                disks: 1,
                putters: 1,
                batches: Spare::new(2),
                sealer: SEALER,
                held: Arc::default(),
            });
            for (n, batch) in encoded.into_iter().enumerate() {
                assembler.take(batch, &mut put).unwrap();
                if n % 7 == 3 {
                    assembler.finish_segment(&mut put).unwrap();
                }
            }
            let captured = assembler.finish(&mut put).unwrap();
            for block in 0..40 {
                let content = captured[0].map.get(BlockIndex(block));
                if let Some(Content::Data { segment, .. }) = content {
                    prop_assert_eq!(noted.get(&block), Some(&segment));
                }
                let value = match content {
                    None => None,
                    Some(Content::Zero) => Some(0),
                    Some(Content::Free) => unreachable!("nothing is free here"),
                    Some(Content::Data { segment, slot }) => {
                        let bytes = &segments[&segment];
                        let trailer = Trailer::decode(bytes, bytes.len() as u64).unwrap();
                        let at = trailer.footer_offset as usize;
                        let footer = SEALER.open_footer(&bytes[at..], trailer, segment);
                        let mut room = Vec::new();
                        let offset = footer.unwrap().slot(slot).unwrap().offset as usize;
                        let chunk = SEALER.decode_chunk(&bytes[offset..], &mut room);
                        Some(chunk.unwrap().plain[0])
                    }
                };
                prop_assert_eq!(value, truth.get(&block).copied());
            }
        }
    }
}
