//! The chunks of a vault that were found damaged. Such a list may make a run read and store more
//! than it needs, and must never make it store less.
//!
//! ```text
//! 0  4  number of entries, at most 65,536
//!       entries of 20 bytes, ascending:
//!         0 16  segment
//!        16  4  slot; 0xffffffff: all of them
//! ```

use super::wire::{array, u32_at};
use super::{ObjectKind, SLOTS_MAX, Sealer, damaged};
use crate::error::{Error, ErrorKind, Result};
use crate::model::ObjectId;
use std::collections::BTreeSet;
use std::ops::Range;

/// Most entries.
pub const MAX_DAMAGE: usize = 1 << 16;
/// Most slots of one segment that are named one by one.
const MAX_SLOTS: usize = 256;

const ENTRY: usize = 20;
/// Stands for all slots of a segment.
const ALL: u32 = u32::MAX;

/// The longest list fits, also where it cannot be packed.
const _: () = assert!(DamagedChunks::MAX_LEN == (MAX_DAMAGE * ENTRY + 1024) as u64);

/// Chunks that can no longer be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DamagedChunks(BTreeSet<(ObjectId, u32)>);

impl DamagedChunks {
    /// The longest object that is read, in bytes.
    pub const MAX_LEN: u64 = ObjectKind::Damage.most_plain();

    /// Adds these slots of a segment; `None`: all of it.
    pub fn add(&mut self, segment: ObjectId, slots: Option<&BTreeSet<u32>>) {
        match slots.filter(|slots| slots.len() <= MAX_SLOTS) {
            Some(slots) => self.0.extend(slots.iter().map(|slot| (segment, *slot))),
            None => {
                self.forget(segment);
                self.0.insert((segment, ALL));
            }
        }
        self.shrink();
    }

    /// Adds another list. An error of kind `Damaged` when the sum is longer than a list may be.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.0.extend(&other.0);
        self.shrink();
        match self.0.len() <= MAX_DAMAGE {
            true => Ok(()),
            false => Err(damaged(format!(
                "more than {MAX_DAMAGE} segments are noted as damaged"
            ))),
        }
    }

    /// Names segments where there are too many chunks to name each.
    fn shrink(&mut self) {
        if self.0.len() > MAX_DAMAGE {
            let segments = self.segments().into_iter();
            self.0 = segments.map(|segment| (segment, ALL)).collect();
        }
    }

    /// Forgets a segment.
    pub fn forget(&mut self, segment: ObjectId) {
        let mine = self.0.range((segment, 0)..=(segment, ALL));
        for entry in mine.copied().collect::<Vec<_>>() {
            self.0.remove(&entry);
        }
    }

    /// Whether nothing is damaged.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The segments in which something is damaged.
    pub fn segments(&self) -> BTreeSet<ObjectId> {
        self.0.iter().map(|(segment, _)| *segment).collect()
    }

    /// Whether something of this segment is damaged.
    pub fn names(&self, segment: ObjectId) -> bool {
        let mut of_it = self.0.range((segment, 0)..=(segment, ALL));
        of_it.next().is_some()
    }

    /// Which of these slots of a segment are damaged, ascending.
    pub fn within(&self, segment: ObjectId, slots: Range<u32>) -> Vec<u32> {
        if self.0.contains(&(segment, ALL)) {
            return slots.collect();
        }
        let found = self.0.range((segment, slots.start)..(segment, slots.end));
        found.map(|(_, slot)| *slot).collect()
    }

    /// The bytes to store.
    pub fn encode(&self, sealer: &Sealer) -> Result<Vec<u8>> {
        if self.0.len() > MAX_DAMAGE {
            let what = format!("more than {MAX_DAMAGE} damaged chunks cannot be noted");
            return Err(Error::new(ErrorKind::Failed, what));
        }
        let mut plain = (self.0.len() as u32).to_le_bytes().to_vec();
        for (segment, slot) in &self.0 {
            plain.extend_from_slice(&segment.0);
            plain.extend_from_slice(&slot.to_le_bytes());
        }
        sealer.seal_object(ObjectKind::Damage, &plain)
    }

    /// Reads what was stored.
    pub fn decode(bytes: &[u8], sealer: &Sealer) -> Result<Self> {
        let plain = sealer.open_object(ObjectKind::Damage, None, bytes)?;
        let wrong = || damaged("a list of what is damaged cannot be understood");
        let (head, entries) = plain.split_at_checked(4).ok_or_else(wrong)?;
        let count = u32_at(head, 0) as usize;
        if count > MAX_DAMAGE || entries.len() != count * ENTRY {
            return Err(wrong());
        }
        let entry = |bytes: &[u8]| (ObjectId(array(bytes, 0)), u32_at(bytes, 16));
        let found: BTreeSet<_> = entries.chunks_exact(ENTRY).map(entry).collect();
        let good = |(_, slot): &(ObjectId, u32)| *slot < SLOTS_MAX || *slot == ALL;
        match found.len() == count && found.iter().all(good) {
            true => Ok(Self(found)),
            false => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEALER: Sealer = Sealer::without_keys();

    fn slots(of: &[u32]) -> BTreeSet<u32> {
        of.iter().copied().collect()
    }

    #[test]
    fn what_was_found_comes_back() {
        let (one, two) = (ObjectId([1; 16]), ObjectId([2; 16]));
        let mut damage = DamagedChunks::default();
        damage.add(one, Some(&slots(&[3, 4, 9])));
        damage.add(two, None);
        let read = DamagedChunks::decode(&damage.encode(&SEALER).unwrap(), &SEALER).unwrap();
        assert_eq!(read, damage);
        assert_eq!(read.within(one, 4..10), [4, 9]);
        assert!(read.within(one, 5..9).is_empty());
        assert_eq!(read.within(two, 7..9), [7, 8]);
        assert_eq!(read.segments(), [one, two].into());
        damage.forget(one);
        assert_eq!(damage.segments(), [two].into());
        damage.forget(two);
        assert!(damage.is_empty());
        assert_eq!(
            DamagedChunks::decode(&damage.encode(&SEALER).unwrap(), &SEALER).unwrap(),
            damage
        );
    }

    #[test]
    fn what_is_too_much_to_name_is_named_by_the_segment() {
        let id = |n: u32| {
            let mut id = ObjectId([0; 16]);
            id.0[..4].copy_from_slice(&n.to_le_bytes());
            id
        };
        let many: BTreeSet<u32> = (0..300).collect();
        let mut damage = DamagedChunks::default();
        damage.add(id(1), Some(&many));
        assert_eq!(damage.within(id(1), 1000..1001), [1000]);
        let two = slots(&[1, 2]);
        let part = |from: u32, to: u32| {
            let mut part = DamagedChunks::default();
            (from..to).for_each(|n| part.add(id(n), Some(&two)));
            part
        };
        let mut sum = part(0, 30_000);
        sum.merge(&part(30_000, 40_000)).unwrap();
        assert_eq!(sum.segments().len(), 40_000);
        assert_eq!(sum.within(id(5), 100..101), [100], "all of it");
        assert_eq!(
            DamagedChunks::decode(&sum.encode(&SEALER).unwrap(), &SEALER).unwrap(),
            sum
        );
        assert!(sum.merge(&part(40_000, 70_000)).is_err());
    }

    #[test]
    fn lists_that_cannot_be_are_refused() {
        let entry = |slot: u32| [&[7; 16][..], &slot.to_le_bytes()].concat();
        let count = |n: u32| n.to_le_bytes().to_vec();
        for plain in [
            vec![],
            count(1),
            [count(2), entry(1)].concat(),
            [count(u32::MAX), entry(1)].concat(),
            [count(2), entry(1), entry(1)].concat(),
            [count(1), entry(SLOTS_MAX)].concat(),
            [count(1), entry(1), vec![0]].concat(),
        ] {
            let bytes = SEALER.seal_object(ObjectKind::Damage, &plain).unwrap();
            assert!(DamagedChunks::decode(&bytes, &SEALER).is_err(), "{plain:?}");
        }
        let manifest = SEALER.seal_object(ObjectKind::Manifest, &count(0)).unwrap();
        assert!(DamagedChunks::decode(&manifest, &SEALER).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(plain in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = SEALER.seal_object(ObjectKind::Damage, &plain).unwrap();
            if let Ok(damage) = DamagedChunks::decode(&bytes, &SEALER) {
                let again = damage.encode(&SEALER).unwrap();
                prop_assert_eq!(DamagedChunks::decode(&again, &SEALER).unwrap(), damage);
            }
            prop_assert!(DamagedChunks::decode(&plain, &SEALER).is_err());
        }
    }
}
