//! Where chunks stand, by a part of their hash, in memory that is taken once and never grows. It
//! says where to look; whether the chunk is there is for its footer to say.

use crate::format::ChunkHash;
use crate::model::ObjectId;

/// Bits of an entry that are the slot, and the segment's number and one. The others are a part of
/// the hash.
const SLOT_BITS: u32 = 14;
const SEGMENT_BITS: u32 = 18;
/// Most segments: one number less than there are, as no entry is 0.
pub(super) const MOST_SEGMENTS: usize = (1 << SEGMENT_BITS) - 2;
/// Most entries, 8 bytes each: 64 MiB.
const MOST: usize = 1 << 23;
/// How far from its place an entry may be. Footers may be made to fill one place, by who knows it.
const REACH: usize = 64;
/// Most places of one chunk.
const MOST_SAME: usize = 4;

/// Where a chunk may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkPlace {
    /// The segment's number.
    pub(super) segment: u32,
    pub(super) slot: u32,
}

/// Places of chunks. A place that finds no room is forgotten.
pub(super) struct ChunkTable {
    /// 0: nothing.
    entries: Vec<u64>,
    /// Places in the table depend on it, so that nobody knows them before.
    seed: u64,
}

impl ChunkTable {
    /// A table with room for so many chunks, as far as there is memory for them.
    pub(super) fn with_room_for(chunks: u64) -> Self {
        let wanted = usize::try_from(chunks.saturating_mul(4) / 3).unwrap_or(usize::MAX);
        let ObjectId(random) = ObjectId::generate();
        Self {
            entries: vec![0; wanted.clamp(REACH, MOST).next_power_of_two()],
            seed: u64_of(&random[..8]),
        }
    }

    /// Notes where a chunk stands; returns whether there was room for it.
    pub(super) fn insert(&mut self, hash: &ChunkHash, place: ChunkPlace) -> bool {
        let tag = tag_of(hash);
        let mut same = 0;
        for at in self.near(hash) {
            match self.entries[at] {
                0 => {
                    let segment = u64::from(place.segment + 1) << SLOT_BITS;
                    let place = segment | u64::from(place.slot);
                    self.entries[at] = tag | place;
                    return true;
                }
                entry if has_tag(entry, tag) => same += 1,
                _ => {}
            }
            if same == MOST_SAME {
                return true;
            }
        }
        false
    }

    /// Where a chunk with this hash may stand, what was noted first coming first.
    pub(super) fn places(&self, hash: &ChunkHash) -> impl Iterator<Item = ChunkPlace> + '_ {
        let tag = tag_of(hash);
        let entries = self.near(hash).map(|at| self.entries[at]);
        let entries = entries.take_while(|entry| *entry != 0);
        let entries = entries.filter(move |entry| has_tag(*entry, tag));
        entries.take(MOST_SAME).map(|entry| ChunkPlace {
            segment: ((entry >> SLOT_BITS) & ((1 << SEGMENT_BITS) - 1)) as u32 - 1,
            slot: (entry & ((1 << SLOT_BITS) - 1)) as u32,
        })
    }

    /// The places in the table where an entry may be.
    fn near(&self, hash: &ChunkHash) -> impl Iterator<Item = usize> + use<> {
        /// Odd, its bits without order: each bit of the product's upper half depends on all below.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let mask = self.entries.len() - 1;
        let mixed = (u64_of(&hash[8..16]) ^ self.seed).wrapping_mul(SPREAD);
        let first = (mixed >> 32) as usize;
        (0..REACH).map(move |step| (first + step) & mask)
    }
}

/// The part of a hash that stands in an entry, at its place there.
fn tag_of(hash: &ChunkHash) -> u64 {
    let place_bits = SLOT_BITS + SEGMENT_BITS;
    (u64_of(&hash[..8]) >> place_bits) << place_bits
}

fn has_tag(entry: u64, tag: u64) -> bool {
    (entry ^ tag) >> (SLOT_BITS + SEGMENT_BITS) == 0
}

fn u64_of(bytes: &[u8]) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(bytes);
    u64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u32) -> ChunkHash {
        blake3::hash(&n.to_le_bytes()).into()
    }

    fn place(n: u32) -> ChunkPlace {
        ChunkPlace {
            segment: n % MOST_SEGMENTS as u32,
            slot: n % 16384,
        }
    }

    #[test]
    fn what_was_noted_is_found_and_little_else() {
        let mut table = ChunkTable::with_room_for(50_000);
        assert!((0..50_000).all(|n| table.insert(&hash(n), place(n))));
        for n in 0..50_000 {
            assert!(table.places(&hash(n)).any(|found| found == place(n)), "{n}");
        }
        let wrong = (50_000..100_000).filter(|n| table.places(&hash(*n)).next().is_some());
        assert!(wrong.count() < 5);
    }

    #[test]
    fn the_last_segment_and_slot_there_can_be_come_back() {
        let mut table = ChunkTable::with_room_for(1);
        let last = ChunkPlace {
            segment: MOST_SEGMENTS as u32 - 1,
            slot: 16383,
        };
        assert!(table.insert(&[0xff; 32], last));
        let first = ChunkPlace {
            segment: 0,
            slot: 0,
        };
        assert!(table.insert(&[0; 32], first));
        assert_eq!(table.places(&[0xff; 32]).collect::<Vec<_>>(), [last]);
        assert_eq!(table.places(&[0; 32]).collect::<Vec<_>>(), [first]);
    }

    #[test]
    fn neither_memory_nor_work_grows_with_what_is_noted() {
        let mut table = ChunkTable::with_room_for(1000);
        let size = table.entries.len();
        let kept = (0..100_000).filter(|n| table.insert(&hash(*n), place(*n)));
        let kept = kept.count();
        assert!((1000..=size).contains(&kept), "{kept} of {size}");
        assert_eq!(table.entries.len(), size);
        // One chunk that stands everywhere takes a few entries.
        let mut table = ChunkTable::with_room_for(1000);
        assert!((0..1000).all(|n| table.insert(&hash(7), place(n))));
        let found: Vec<_> = table.places(&hash(7)).collect();
        assert_eq!(found, [0, 1, 2, 3].map(place), "the first ones");
    }

    #[test]
    fn it_is_never_larger_than_it_may_be() {
        assert_eq!(ChunkTable::with_room_for(u64::MAX).entries.len(), MOST);
    }
}
