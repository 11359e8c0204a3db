//! Chunks that were read lately, and those on their way, so that nobody gets what another one is
//! getting. What is kept has a bound; what was not used for longest goes first.

use super::flight::Flight;
use super::source::{ChunkSource, Landed};
use crate::model::{BlockIndex, Bytes};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A block of one of the images that share what is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ChunkKey {
    image: u64,
    block: u64,
}

impl ChunkKey {
    /// That of a block of a source.
    pub(super) fn of(source: &ChunkSource, block: BlockIndex) -> Self {
        Self {
            image: source.number,
            block: block.0,
        }
    }
}

enum KeptSlot {
    Flying(Arc<Flight>),
    Kept { plain: Arc<Vec<u8>>, used: u64 },
}

/// What is known of a block.
pub(super) enum FoundChunk {
    /// Nothing.
    Absent,
    /// It is on its way.
    Flying(Arc<Flight>),
    /// Its bytes.
    Kept(Arc<Vec<u8>>),
}

/// Chunks that were read lately, and those on their way.
pub(super) struct KeptChunks {
    slots: HashMap<ChunkKey, KeptSlot>,
    /// Those that are kept, by when they were used last.
    by_use: BTreeMap<u64, ChunkKey>,
    /// Grows with each use.
    now: u64,
    bytes: u64,
    most: u64,
    /// Memory of what is kept no more, for what comes next: new memory has to be cleared.
    spare: Vec<Vec<u8>>,
}

/// Most blocks whose memory is spare: 2 MiB.
const MOST_SPARE: usize = 32;

impl KeptChunks {
    /// None yet; no more than `most` bytes will be kept.
    pub(super) fn new(most: Bytes) -> Self {
        Self {
            slots: HashMap::new(),
            by_use: BTreeMap::new(),
            now: 0,
            bytes: 0,
            most: most.0,
            spare: Vec::new(),
        }
    }

    /// What is known of a block. It counts as used.
    pub(super) fn find(&mut self, key: ChunkKey) -> FoundChunk {
        match self.slots.get_mut(&key) {
            None => FoundChunk::Absent,
            Some(KeptSlot::Flying(flight)) => FoundChunk::Flying(Arc::clone(flight)),
            Some(KeptSlot::Kept { plain, used }) => {
                self.now += 1;
                self.by_use.remove(used);
                *used = self.now;
                self.by_use.insert(self.now, key);
                FoundChunk::Kept(Arc::clone(plain))
            }
        }
    }

    /// Whether a block is neither kept nor on its way.
    pub(super) fn is_absent(&self, key: ChunkKey) -> bool {
        !self.slots.contains_key(&key)
    }

    /// Notes that the blocks of a flight are on their way.
    pub(super) fn fly(&mut self, flight: &Arc<Flight>) {
        for block in flight.run.start.0..flight.run.end() {
            let key = ChunkKey::of(&flight.source, BlockIndex(block));
            self.drop_slot(key);
            let flying = KeptSlot::Flying(Arc::clone(flight));
            self.slots.insert(key, flying);
        }
    }

    /// Keeps what a flight has brought. What it did not bring is asked for again by whoever wants
    /// it.
    pub(super) fn land(&mut self, flight: &Arc<Flight>, landed: &[Landed]) {
        for (block, one) in (flight.run.start.0..flight.run.end()).zip(landed) {
            let key = ChunkKey::of(&flight.source, BlockIndex(block));
            if !self.is_flying(key, flight) {
                continue;
            }
            self.slots.remove(&key);
            if let Landed::Plain(plain) = one {
                self.keep(key, plain);
            }
        }
    }

    /// Forgets that the blocks of a flight are on their way: nobody gets them.
    pub(super) fn forget(&mut self, flight: &Arc<Flight>) {
        if flight.begin() {
            for block in flight.run.start.0..flight.run.end() {
                let key = ChunkKey::of(&flight.source, BlockIndex(block));
                if self.is_flying(key, flight) {
                    self.slots.remove(&key);
                }
            }
        }
    }

    fn is_flying(&self, key: ChunkKey, flight: &Arc<Flight>) -> bool {
        let slot = self.slots.get(&key);
        matches!(slot, Some(KeptSlot::Flying(other)) if Arc::ptr_eq(other, flight))
    }

    fn keep(&mut self, key: ChunkKey, plain: &Arc<Vec<u8>>) {
        self.now += 1;
        self.bytes += plain.len() as u64;
        self.by_use.insert(self.now, key);
        let kept = KeptSlot::Kept {
            plain: Arc::clone(plain),
            used: self.now,
        };
        self.slots.insert(key, kept);
        while self.bytes > self.most {
            let Some((_, oldest)) = self.by_use.first_key_value() else {
                break;
            };
            self.drop_slot(*oldest);
        }
    }

    fn drop_slot(&mut self, key: ChunkKey) {
        if let Some(KeptSlot::Kept { plain, used }) = self.slots.remove(&key) {
            self.by_use.remove(&used);
            self.bytes -= plain.len() as u64;
            self.give_back(Arc::into_inner(plain));
        }
    }

    /// Memory for so many blocks, as far as some is spare.
    pub(super) fn take_spare(&mut self, count: u64) -> Vec<Vec<u8>> {
        let left = self.spare.len().saturating_sub(count as usize);
        self.spare.split_off(left)
    }

    /// Takes memory that is used no more.
    pub(super) fn give_back(&mut self, spare: impl IntoIterator<Item = Vec<u8>>) {
        let room = MOST_SPARE - self.spare.len();
        self.spare.extend(spare.into_iter().take(room));
    }

    /// How many bytes are kept.
    pub(super) fn bytes(&self) -> Bytes {
        Bytes(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_lately_is_kept_and_no_more() {
        let mut kept = KeptChunks::new(Bytes(1000));
        let key = |block| ChunkKey { image: 1, block };
        let plain: Arc<Vec<u8>> = Arc::new(vec![7; 100]);
        for block in 0..30 {
            kept.keep(key(block), &plain);
            let first = kept.find(key(0));
            assert!(matches!(first, FoundChunk::Kept(_)), "block {block}");
            assert_eq!(kept.bytes().0, 100 * (block + 1).min(10));
            assert_eq!(kept.by_use.len(), kept.slots.len());
        }
        assert!(kept.is_absent(key(1)) && !kept.is_absent(key(29)));
        let other = ChunkKey { image: 2, block: 0 };
        assert!(kept.is_absent(other));
    }
}
