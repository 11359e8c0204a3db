//! Tells who reads on and on from who reads here and there. Only for the former is anything got
//! before it is asked for.

use crate::model::{BLOCK_SIZE, Bytes, Extent, block_count};
use std::ops::Range;

/// Most readers that are followed; the one that was not heard of for longest is forgotten.
const MOST_STREAMS: usize = 8;
/// A reader that has several requests on the way is seen out of order by no more than this.
const SLACK: u64 = 1 << 20;
/// So much must have been read on, before anything is read ahead.
const BEGINS_AFTER: u64 = 256 << 10;
/// What is read ahead at first, and at least.
const LEAST_AHEAD: u64 = 1 << 20;
/// A reader that others have left behind by so many reads takes no share of what is read ahead.
const FORGOTTEN_AFTER: u64 = 256;

/// Those who read an image on and on.
pub(super) struct Streams {
    all: Vec<FollowedReader>,
    /// Grows with each read.
    now: u64,
    /// What may be read ahead for all of them.
    most: u64,
    /// What one request gets.
    piece: u64,
}

struct FollowedReader {
    /// The end of what was read.
    head: u64,
    /// The end of what was asked for ahead.
    ahead: u64,
    /// How much was read on.
    read: u64,
    heard: u64,
}

impl Streams {
    /// Nobody yet; so much may be read ahead, for all together, in such pieces.
    pub(super) fn new(most: Bytes, piece: Bytes) -> Self {
        Self {
            all: Vec::new(),
            now: 0,
            most: most.0,
            piece: piece.0,
        }
    }

    /// Notes a read; returns the blocks that should be got now, before they are asked for.
    pub(super) fn note(&mut self, read: Extent, size: Bytes) -> Option<Range<u64>> {
        self.now += 1;
        let (start, end) = (read.offset.0, read.end().0);
        let near = |stream: &&mut FollowedReader| start.abs_diff(stream.head) <= SLACK;
        let nearest = self.all.iter_mut().filter(near);
        let Some(stream) = nearest.min_by_key(|stream| start.abs_diff(stream.head)) else {
            self.follow(end);
            return None;
        };
        stream.read += end.saturating_sub(stream.head).min(read.length.0);
        stream.head = stream.head.max(end);
        stream.heard = self.now;
        if stream.read < BEGINS_AFTER {
            return None;
        }
        let (head, wanted) = (stream.head, stream.read.max(LEAST_AHEAD));
        let from = stream.ahead.max(head);
        let share = self.most / self.readers().max(1);
        let window = wanted.min(share);
        let to = (head + window).min(size.0);
        // Little by little would be many small requests.
        let least = (window / 4).min(self.piece).max(LEAST_AHEAD / 2);
        let is_worth = to.saturating_sub(from) >= least || to == size.0;
        let blocks = from.div_ceil(BLOCK_SIZE)..block_count(Bytes(to));
        if blocks.is_empty() || !is_worth {
            return None;
        }
        let now = self.now;
        let stream = self.all.iter_mut().find(|stream| stream.heard == now)?;
        stream.ahead = to;
        Some(blocks)
    }

    /// How many read on and on now.
    fn readers(&self) -> u64 {
        let reads = |stream: &&FollowedReader| {
            stream.read >= BEGINS_AFTER && self.now - stream.heard < FORGOTTEN_AFTER
        };
        self.all.iter().filter(reads).count() as u64
    }

    fn follow(&mut self, head: u64) {
        if self.all.len() >= MOST_STREAMS {
            let oldest = (0..self.all.len()).min_by_key(|at| self.all[*at].heard);
            self.all.swap_remove(oldest.unwrap_or_default());
        }
        self.all.push(FollowedReader {
            head,
            ahead: head,
            read: 0,
            heard: self.now,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SIZE: Bytes = Bytes(1 << 40);

    fn read(streams: &mut Streams, offset: u64, length: u64) -> Option<Range<u64>> {
        streams.note(Extent::new(Bytes(offset), Bytes(length)), SIZE)
    }

    #[test]
    fn who_reads_here_and_there_gets_nothing_ahead() {
        let mut streams = Streams::new(Bytes(16 * MIB), Bytes(MIB));
        for n in 0..1000 {
            let offset = (n * 7919 * MIB) % SIZE.0;
            assert_eq!(read(&mut streams, offset, 4096), None);
            assert!(streams.all.len() <= MOST_STREAMS);
        }
    }

    #[test]
    fn who_reads_on_gets_each_block_ahead_once_and_no_more_than_the_bound() {
        let mut streams = Streams::new(Bytes(16 * MIB), Bytes(MIB));
        let mut ahead = 0;
        for n in 0..800 {
            let (offset, length) = (n * (MIB / 8), MIB / 8);
            let Some(blocks) = read(&mut streams, offset, length) else {
                continue;
            };
            assert!(blocks.start >= ahead, "{blocks:?} after {ahead}");
            ahead = blocks.end;
            assert!(ahead * BLOCK_SIZE <= offset + length + 16 * MIB);
        }
        assert!(ahead * BLOCK_SIZE > 112 * MIB, "{ahead}");
    }

    #[test]
    fn readers_side_by_side_share_the_bound_also_out_of_order() {
        let mut streams = Streams::new(Bytes(16 * MIB), Bytes(MIB));
        let mut ahead = [0; 4];
        for n in 0..400 {
            for (reader, ahead) in (0_u64..).zip(&mut ahead) {
                // Each pair of reads is seen the wrong way round.
                let at = (n ^ 1) * (MIB / 4) + reader * 1000 * MIB;
                if let Some(blocks) = read(&mut streams, at, MIB / 4) {
                    *ahead = blocks.end * BLOCK_SIZE;
                    let most = if n > 8 { 4 * MIB } else { 16 * MIB };
                    assert!(*ahead <= at + 2 * MIB + most, "{n}: {ahead}");
                }
            }
        }
        for (reader, ahead) in (0_u64..).zip(ahead) {
            assert!(ahead > 100 * MIB + reader * 1000 * MIB, "{reader}: {ahead}");
        }
    }

    #[test]
    fn the_end_of_the_disk_is_the_end() {
        let mut streams = Streams::new(Bytes(16 * MIB), Bytes(MIB));
        let size = Bytes(3 * MIB + 512);
        let mut last = 0;
        for n in 0..12 {
            let place = Extent::new(Bytes(n * MIB / 4), Bytes(MIB / 4));
            last = streams.note(place, size).map_or(last, |blocks| blocks.end);
        }
        assert_eq!(last, block_count(size));
    }
}
