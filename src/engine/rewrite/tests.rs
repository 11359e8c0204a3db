//! A year of daily snapshots, by the rules alone, with segments of as many chunks as real ones
//! have: a hundredth of the disk changes each day, snapshots are thinned each day, and each week
//! there is a collection, which is played as `engine/collect` goes. `tests/collect/year.rs` plays
//! the same with a vault, and smaller segments.

use super::rules::{DeadSpace, HalfLive, RewriteRules};
use crate::model::{Bytes, ObjectId};
use jiff::Timestamp;
use std::collections::BTreeSet;

const SLOTS: usize = 500;
/// Blocks of the disk, of which a hundredth changes each day: two segments.
const BLOCKS: usize = 100_000;
const DAYS: usize = 364;
const CHUNK: u64 = 1 << 16;

#[derive(Clone, Copy, Debug)]
enum Habit {
    Random,
    /// Four of five times in a fiftieth of the disk.
    Hot,
}

/// The bytes of a block, from the day of their snapshot to the day of what replaces them.
struct Chunk {
    from: usize,
    until: usize,
}

#[derive(Default)]
struct Segment {
    chunks: Vec<usize>,
    whole: usize,
    is_there: bool,
}

/// Numbers that are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        for (left, by) in [(true, 13), (false, 7), (true, 17)] {
            self.0 ^= if left { self.0 << by } else { self.0 >> by };
        }
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as usize % end
    }
}

struct Year {
    chunks: Vec<Chunk>,
    /// By block, its newest chunk.
    newest: Vec<usize>,
    segments: Vec<Segment>,
    kept: Vec<usize>,
    planned: Vec<usize>,
}

impl Year {
    fn put(&mut self, chunks: &[usize]) {
        for some in chunks.chunks(SLOTS) {
            self.segments.push(Segment {
                chunks: some.to_vec(),
                whole: some.len(),
                is_there: true,
            });
        }
    }

    fn write(&mut self, day: usize, blocks: impl IntoIterator<Item = usize>) {
        let mut new = Vec::new();
        for block in blocks {
            if day > 0 {
                self.chunks[self.newest[block]].until = day;
            }
            self.newest[block] = self.chunks.len();
            new.push(self.chunks.len());
            self.chunks.push(Chunk {
                from: day,
                until: usize::MAX,
            });
        }
        self.put(&new);
    }

    /// The newest of each of 7 days, 5 weeks, 12 months.
    fn prune(&mut self) {
        let mut stay = BTreeSet::new();
        for (most, parts, of) in [(7, 1, 1), (5, 1, 7), (12, 12, 365)] {
            let mut seen = BTreeSet::new();
            for day in self.kept.iter().rev() {
                if seen.len() < most && seen.insert(day * parts / of) {
                    stay.insert(*day);
                }
            }
        }
        self.kept = stay.into_iter().collect();
    }

    fn is_live(&self, chunk: usize) -> bool {
        let Chunk { from, until } = self.chunks[chunk];
        let first = self.kept.partition_point(|day| *day < from);
        self.kept.get(first).is_some_and(|day| *day < until)
    }

    /// Collects; how much is stored, of what is live.
    fn gc(&mut self) -> f64 {
        let all = self.segments.iter();
        let live: Vec<usize> = all
            .map(|one| one.chunks.iter().filter(|at| self.is_live(**at)).count())
            .collect();
        for at in std::mem::take(&mut self.planned) {
            assert_eq!(live[at], 0);
            self.segments[at] = Segment::default();
        }
        let mut half = Vec::new();
        let mut space = DeadSpace::default();
        for (at, (one, live)) in self.segments.iter().zip(&live).enumerate() {
            if one.is_there && *live == 0 {
                self.planned.push(at);
            } else if one.is_there {
                let dead = one.whole - live;
                space.live.0 += *live as u64 * CHUNK;
                space.dead.0 += dead as u64 * CHUNK;
                half.push(HalfLive {
                    id: ObjectId((at as u128).to_be_bytes()),
                    put: Timestamp::UNIX_EPOCH,
                    slots: Vec::new(),
                    live: Bytes(*live as u64 * CHUNK),
                    dead: Bytes(dead as u64 * CHUNK),
                });
            }
        }
        let rules = RewriteRules {
            // As of a vault of more than 25 GiB.
            most_moved: Some(Bytes(space.live.0 / 25)),
            ..RewriteRules::USUAL
        };
        let mut moved = Vec::new();
        for one in rules.choose(half, &space) {
            let at = u128::from_be_bytes(one.id.0) as usize;
            let chunks = std::mem::take(&mut self.segments[at].chunks);
            moved.extend(chunks.into_iter().filter(|chunk| self.is_live(*chunk)));
            // It is planned at once, and is there until the next collection.
            self.planned.push(at);
        }
        self.put(&moved);
        let stored: usize = self.segments.iter().map(|one| one.whole).sum();
        let live: usize = live.iter().sum();
        stored as f64 / live as f64
    }
}

/// After the year; and at worst after a collection in its second half.
fn play(habit: Habit, seed: u64) -> [f64; 2] {
    let mut dice = Dice(seed * 2 + 1);
    let mut year = Year {
        chunks: Vec::new(),
        newest: vec![0; BLOCKS],
        segments: Vec::new(),
        kept: vec![0],
        planned: Vec::new(),
    };
    year.write(0, 0..BLOCKS);
    let (mut last, mut worst) = (0.0, 0.0_f64);
    for day in 1..=DAYS {
        let mut blocks = BTreeSet::new();
        while blocks.len() < BLOCKS / 100 {
            let is_hot = matches!(habit, Habit::Hot) && dice.below(5) < 4;
            blocks.insert(dice.below(if is_hot { BLOCKS / 50 } else { BLOCKS }));
        }
        year.write(day, blocks);
        year.kept.push(day);
        year.prune();
        if day % 7 == 0 {
            last = year.gc();
            if day > DAYS / 2 {
                worst = worst.max(last);
            }
        }
    }
    [last, worst]
}

#[test]
fn after_a_year_with_real_segments_little_more_is_stored_than_is_live() {
    for habit in [Habit::Random, Habit::Hot] {
        for seed in 1..4 {
            let [last, worst] = play(habit, seed);
            eprintln!("{habit:?} {seed}: {last:.3} after the year, at worst {worst:.3}");
            assert!(
                last <= 1.15 && worst <= 1.15,
                "{habit:?} {seed}: {last} {worst}"
            );
        }
    }
}
