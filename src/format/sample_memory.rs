//! Which segments samples have read whole, and when, so that the next sample takes those that were
//! read longest ago. Such a record may make a sample read other segments than it should, and must
//! never make anything be called whole.
//!
//! ```text
//! 0  4  number of looks, at most 1024
//!       each, the oldest first:
//!         0  8  when, in milliseconds since 1970
//!         8  4  number of segments, at least 1; 2^20 in all looks together
//!        12     their names of 16 bytes, ascending
//! ```

use super::wire::{array, u32_at, u64_at};
use super::{ObjectKind, Sealer, damaged};
use crate::error::Result;
use crate::model::ObjectId;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Most segments that are remembered: 32 TiB of full ones.
const MOST_SEGMENTS: usize = 1 << 20;
/// Most looks.
const MOST_LOOKS: usize = 1024;

const LOOK: usize = 12;
const NAME: usize = 16;

/// The longest record fits.
const _: () = assert!(
    ObjectKind::Verified.most_plain() >= (4 + MOST_LOOKS * LOOK + MOST_SEGMENTS * NAME) as u64
);

/// When segments were read whole last, and nothing was wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleMemory(BTreeMap<ObjectId, i64>);

impl SampleMemory {
    /// Notes that these were read now. Older looks count no more for them.
    pub fn add(&mut self, segments: impl Iterator<Item = ObjectId>, now: Timestamp) {
        let now = now.as_millisecond();
        self.0.extend(segments.map(|segment| (segment, now)));
    }

    /// Adds another record: of each segment the last time counts. What was read longest ago is
    /// forgotten where there is too much.
    pub fn merge(&mut self, other: &Self) {
        for (segment, when) in &other.0 {
            let known = self.0.entry(*segment).or_insert(*when);
            *known = (*when).max(*known);
        }
        let surplus = self.0.len().saturating_sub(MOST_SEGMENTS);
        if surplus > 0 {
            let mut times: Vec<i64> = self.0.values().copied().collect();
            let (_, last, _) = times.select_nth_unstable(surplus - 1);
            let last = *last;
            self.0.retain(|_, when| *when > last);
        }
    }

    /// Forgets what is said to be later than this: a clock was wrong, or it is a lie.
    pub fn forget_after(&mut self, now: Timestamp) {
        let now = now.as_millisecond();
        self.0.retain(|_, when| *when <= now);
    }

    /// Forgets all but these.
    pub fn keep(&mut self, is_needed: impl Fn(ObjectId) -> bool) {
        self.0.retain(|segment, _| is_needed(*segment));
    }

    /// When a segment was read last; `None`: nobody knows of it.
    pub fn when(&self, segment: ObjectId) -> Option<Timestamp> {
        let when = self.0.get(&segment)?;
        Timestamp::from_millisecond(*when).ok()
    }

    /// How many looks there were from then on.
    pub fn looks_since(&self, then: Timestamp) -> usize {
        let then = then.as_millisecond();
        let looks: BTreeSet<i64> = self.0.values().copied().collect();
        looks.range(then..).count()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes to store. What was read longest ago is left out where there is too much, and the
    /// oldest looks count as one, at the time of the first of them.
    pub fn encode(&self, sealer: &Sealer) -> Result<Vec<u8>> {
        let mut looks: BTreeMap<i64, Vec<ObjectId>> = BTreeMap::new();
        for (segment, when) in &self.0 {
            looks.entry(*when).or_default().push(*segment);
        }
        let mut left = MOST_SEGMENTS;
        for segments in looks.values_mut().rev() {
            segments.truncate(left);
            left -= segments.len();
        }
        looks.retain(|_, segments| !segments.is_empty());
        while looks.len() > MOST_LOOKS
            && let Some((first, mut segments)) = looks.pop_first()
            && let Some((_, more)) = looks.pop_first()
        {
            segments.extend(more);
            segments.sort_unstable();
            looks.insert(first, segments);
        }
        let mut plain = (looks.len() as u32).to_le_bytes().to_vec();
        for (when, segments) in looks {
            plain.extend_from_slice(&u64::try_from(when).unwrap_or_default().to_le_bytes());
            plain.extend_from_slice(&(segments.len() as u32).to_le_bytes());
            segments
                .iter()
                .for_each(|segment| plain.extend_from_slice(&segment.0));
        }
        sealer.seal_object(ObjectKind::Verified, &plain)
    }

    /// Reads what was stored.
    pub fn decode(bytes: &[u8], sealer: &Sealer) -> Result<Self> {
        let plain = sealer.open_object(ObjectKind::Verified, None, bytes)?;
        let wrong = || damaged("a record of what samples have read cannot be understood");
        let (head, mut rest) = plain.split_at_checked(4).ok_or_else(wrong)?;
        let count = u32_at(head, 0) as usize;
        if count > MOST_LOOKS {
            return Err(wrong());
        }
        let mut memory = Self::default();
        let mut left = MOST_SEGMENTS;
        for _ in 0..count {
            let (look, more) = rest.split_at_checked(LOOK).ok_or_else(wrong)?;
            let when = i64::try_from(u64_at(look, 0)).map_err(|_| wrong())?;
            let when = Timestamp::from_millisecond(when).map_err(|_| wrong())?;
            let segments = u32_at(look, 8) as usize;
            left = left.checked_sub(segments).ok_or_else(wrong)?;
            let (names, more) = more.split_at_checked(segments * NAME).ok_or_else(wrong)?;
            let names = names.chunks_exact(NAME);
            memory.add(names.map(|name| ObjectId(array(name, 0))), when);
            rest = more;
        }
        match rest.is_empty() {
            true => Ok(memory),
            false => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEALER: Sealer = Sealer::without_keys();

    fn id(n: u32) -> ObjectId {
        let mut id = ObjectId([0; 16]);
        id.0[..4].copy_from_slice(&n.to_be_bytes());
        id
    }

    fn at(time: i64) -> Timestamp {
        Timestamp::from_millisecond(time).unwrap()
    }

    fn again(memory: &SampleMemory) -> SampleMemory {
        SampleMemory::decode(&memory.encode(&SEALER).unwrap(), &SEALER).unwrap()
    }

    #[test]
    fn what_was_read_comes_back_and_the_last_time_counts() {
        let mut memory = SampleMemory::default();
        memory.add((0..10).map(id), at(100));
        memory.add((5..7).map(id), at(200));
        assert_eq!(again(&memory), memory);
        assert_eq!(
            (memory.when(id(4)), memory.when(id(5))),
            (Some(at(100)), Some(at(200)))
        );
        assert_eq!(memory.when(id(11)), None);
        assert_eq!(
            (memory.looks_since(at(100)), memory.looks_since(at(101))),
            (2, 1)
        );
        let mut other = SampleMemory::default();
        other.add([id(5), id(4)].into_iter(), at(150));
        memory.merge(&other);
        assert_eq!(
            (memory.when(id(4)), memory.when(id(5))),
            (Some(at(150)), Some(at(200)))
        );
        memory.forget_after(at(199));
        assert_eq!(memory.when(id(5)), None);
        memory.keep(|segment| segment == id(4));
        assert!(memory.when(id(3)).is_none() && memory.when(id(4)).is_some());
    }

    #[test]
    fn it_is_bounded_and_forgets_the_oldest_first() {
        let mut memory = SampleMemory::default();
        for look in 0..1100 {
            memory.add([id(look)].into_iter(), at(1000 + i64::from(look)));
        }
        let read = again(&memory);
        // The oldest looks count as older than they are, never as newer.
        for look in 0..1100 {
            let (was, is) = (memory.when(id(look)), read.when(id(look)));
            assert!(is.is_some() && is <= was, "{look}");
        }
        assert_eq!(read.looks_since(at(0)), MOST_LOOKS);
        let many = MOST_SEGMENTS as u32;
        let mut memory = SampleMemory::default();
        memory.add((0..1000).map(id), at(1));
        memory.add((1000..many + 500).map(id), at(2));
        let read = again(&memory);
        assert_eq!(read.0.len(), MOST_SEGMENTS);
        assert!(read.when(id(many + 499)).is_some() && read.when(id(999)).is_none());
    }

    #[test]
    fn records_that_cannot_be_are_refused() {
        let look = |when: u64, count: u32, names: usize| {
            let mut look = when.to_le_bytes().to_vec();
            look.extend_from_slice(&count.to_le_bytes());
            look.resize(LOOK + names * NAME, 7);
            look
        };
        let count = |n: u32| n.to_le_bytes().to_vec();
        for plain in [
            vec![],
            count(1),
            count(1025),
            [count(1), look(1, 2, 1)].concat(),
            [count(1), look(1, u32::MAX, 1)].concat(),
            [count(1), look(u64::MAX, 1, 1)].concat(),
            [count(1), look(1 << 60, 1, 1)].concat(),
            [count(1), look(1, 1, 2)].concat(),
            [count(2), look(1, 1, 1)].concat(),
        ] {
            let bytes = SEALER.seal_object(ObjectKind::Verified, &plain).unwrap();
            assert!(SampleMemory::decode(&bytes, &SEALER).is_err(), "{plain:?}");
        }
        let damage = SEALER.seal_object(ObjectKind::Damage, &count(0)).unwrap();
        assert!(SampleMemory::decode(&damage, &SEALER).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(plain in prop::collection::vec(any::<u8>(), 0..200)) {
            let bytes = SEALER.seal_object(ObjectKind::Verified, &plain).unwrap();
            if let Ok(memory) = SampleMemory::decode(&bytes, &SEALER) {
                prop_assert_eq!(again(&memory), memory);
            }
            prop_assert!(SampleMemory::decode(&plain, &SEALER).is_err());
        }
    }
}
