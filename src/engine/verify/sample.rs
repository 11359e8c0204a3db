//! Which segments a sample reads: those that were read longest ago, as the vault remembers, so that
//! samples come round to everything. Some are drawn by chance, whatever is remembered: who forges
//! the memory keeps nothing from being read for ever.

use super::needed_slots::{Segments, SomeSegments};
use crate::error::Error;
use crate::format::SampleMemory;
use crate::model::ObjectId;
use crate::store::{KnownSamples, Vault};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// One of so many is drawn by chance.
const BY_CHANCE: f64 = 8.0;

/// What is read, and what is not.
pub(super) struct Choice {
    pub(super) read: SomeSegments,
    pub(super) unread: SomeSegments,
}

/// What samples have come round to.
#[derive(Debug)]
pub struct Coverage {
    /// How many segments are needed.
    pub of: usize,
    /// How many of them were read whole, now or by a sample that the vault remembers.
    pub covered: usize,
    /// In how many samples, this one included.
    pub samples: usize,
    /// When that was read which was read longest ago.
    pub oldest: Option<Timestamp>,
    /// Whether the next sample will know of this one.
    pub remembered: Remembered,
}

/// Whether the vault remembers a sample.
#[derive(Debug)]
pub enum Remembered {
    /// It does.
    Done,
    /// It does, and older records could not be deleted.
    NotFolded(Error),
    /// It does not.
    Failed(Error),
}

/// What is to be sampled.
pub(super) struct Sampling<'a> {
    /// How much, in percent.
    pub(super) percent: f64,
    /// What is remembered.
    pub(super) memory: &'a SampleMemory,
    /// Those that are read besides, each time: they were found damaged before.
    pub(super) suspects: &'a BTreeSet<ObjectId>,
}

impl Sampling<'_> {
    /// The part that is to be read, and the rest.
    pub(super) fn choose(&self, segments: Segments) -> Choice {
        let mut all: SomeSegments = segments.into_iter().collect();
        // Names are hashes, but always the same: a fresh salt draws another order each time.
        let salt = blake3::hash(&ObjectId::generate().0);
        let by_chance = |id: ObjectId| *blake3::keyed_hash(salt.as_bytes(), &id.0).as_bytes();
        all.sort_by_cached_key(|(id, _)| by_chance(*id));
        let some = (all.len() as f64 * self.percent / 100.0).ceil() as usize;
        let some = some.min(all.len());
        // What is less than one is drawn now and then.
        let luck = f64::from(salt.as_bytes()[0]) / 256.0;
        let drawn = ((some as f64 / BY_CHANCE + luck) as usize).min(some);
        // The sort is stable: among what was read at one time chance decides.
        all[drawn..].sort_by_key(|(id, _)| self.memory.when(*id));
        let rest = all.split_off(some);
        let suspect = |id: &ObjectId| self.suspects.contains(id);
        let (besides, unread) = rest.into_iter().partition(|(id, _)| suspect(id));
        let mut read = all;
        read.extend::<SomeSegments>(besides);
        Choice { read, unread }
    }
}

/// What a sample has read.
pub(super) struct Sampled<'a> {
    /// What was remembered before.
    pub(super) known: KnownSamples,
    /// Those that were read and are whole.
    pub(super) whole: Vec<ObjectId>,
    /// All that are needed.
    pub(super) needed: &'a BTreeSet<ObjectId>,
    /// No snapshot needs any other.
    pub(super) complete: bool,
}

impl Sampled<'_> {
    /// Has the vault remember it.
    pub(super) fn remember(self, vault: &Vault, now: Timestamp) -> Coverage {
        let mut memory = self.known.memory.clone();
        memory.add(self.whole.into_iter(), now);
        if self.complete {
            memory.keep(|id| self.needed.contains(&id));
        }
        let times = self.needed.iter().filter_map(|id| memory.when(*id));
        let times: Vec<Timestamp> = times.collect();
        let oldest = times.iter().min().copied();
        let samples = oldest.map_or(0, |oldest| memory.looks_since(oldest));
        let kept = match memory.is_empty() {
            true => Ok(()),
            false => vault.keep_samples(&memory, now),
        };
        let remembered = match kept.map(|()| vault.fold_samples(&self.known)) {
            Ok(Ok(())) => Remembered::Done,
            Ok(Err(error)) => Remembered::NotFolded(error),
            Err(error) => Remembered::Failed(error),
        };
        Coverage {
            of: self.needed.len(),
            covered: times.len(),
            samples,
            oldest,
            remembered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::verify::needed_slots::NeededSlots;
    use std::collections::BTreeMap;

    fn segments(count: u8) -> Segments {
        let one = |n| (ObjectId([n; 16]), NeededSlots::default());
        (0..count).map(one).collect::<BTreeMap<_, _>>()
    }

    fn choose(percent: f64, memory: &SampleMemory, suspects: &[ObjectId]) -> Choice {
        let sampling = Sampling {
            percent,
            memory,
            suspects: &suspects.iter().copied().collect(),
        };
        sampling.choose(segments(200))
    }

    fn at(n: i64) -> Timestamp {
        Timestamp::from_second(n).unwrap()
    }

    fn ids(some: &SomeSegments) -> BTreeSet<ObjectId> {
        some.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn samples_come_round_to_everything() {
        let mut memory = SampleMemory::default();
        let mut seen = BTreeSet::new();
        let mut took = 0;
        while seen.len() < 200 {
            took += 1;
            let choice = choose(5.0, &memory, &[]);
            assert_eq!(choice.read.len(), 10);
            assert_eq!(choice.unread.len(), 190);
            let read = ids(&choice.read);
            assert!(read.is_disjoint(&ids(&choice.unread)));
            memory.add(read.iter().copied(), at(took));
            seen.extend(read);
        }
        // 200 / 10, and what is drawn by chance.
        assert!((20..=25).contains(&took), "{took}");
        // A look is forgotten when all that it read was read again since, as that of the first is.
        let looks = memory.looks_since(at(1));
        assert!(
            looks <= took as usize && looks + 5 >= took as usize,
            "{looks} of {took}"
        );
    }

    #[test]
    fn a_memory_that_lies_keeps_nothing_from_being_read() {
        let mut lies = SampleMemory::default();
        // All but the first hundred were read a moment ago, it says, always.
        lies.add((100..200).map(|n| ObjectId([n; 16])), at(9));
        let mut seen = BTreeSet::new();
        for _ in 0..2000 {
            seen.extend(ids(&choose(5.0, &lies, &[]).read));
        }
        assert_eq!(seen.len(), 200);
    }

    #[test]
    fn what_is_known_to_be_damaged_is_read_besides() {
        for _ in 0..100 {
            let choice = choose(1.0, &SampleMemory::default(), &[ObjectId([7; 16])]);
            assert!(ids(&choice.read).contains(&ObjectId([7; 16])));
            assert!((2..=3).contains(&choice.read.len()));
        }
        let nothing = choose(0.0, &SampleMemory::default(), &[]);
        assert_eq!((nothing.read.len(), nothing.unread.len()), (0, 200));
    }
}
