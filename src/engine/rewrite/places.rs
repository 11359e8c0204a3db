//! Where two maps of one disk differ. It must never pass over a block that is not the same in both.

use crate::model::{BlockIndex, Content, ObjectId, Run, RunMap};

/// Neighbouring chunks that are in another place now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlaceChange {
    pub(super) was: ObjectId,
    pub(super) was_slot: u32,
    pub(super) now: ObjectId,
    pub(super) now_slot: u32,
    pub(super) count: u32,
}

impl PlaceChange {
    /// What is in other places; `None`: some block is data in one of them only, or in one only.
    pub(super) fn between(before: &RunMap, after: &RunMap) -> Option<Vec<Self>> {
        let mut changes = Vec::new();
        let (mut old, mut new) = (Pieces::of(before), Pieces::of(after));
        loop {
            let (was, now) = match (old.next, new.next) {
                (None, None) => return Some(changes),
                (Some(was), Some(now)) if was.start == now.start => (was, now),
                _ => return None,
            };
            let count = was.count.min(now.count);
            match (was.content, now.content) {
                (same, other) if same == other => {}
                (
                    Content::Data { segment, slot },
                    Content::Data {
                        segment: other,
                        slot: at,
                    },
                ) => changes.push(Self {
                    was: segment,
                    was_slot: slot,
                    now: other,
                    now_slot: at,
                    count: u32::try_from(count).ok()?,
                }),
                _ => return None,
            }
            old.pass(count);
            new.pass(count);
        }
    }
}

/// The runs of a map, of which the first may be passed in part.
struct Pieces<'a> {
    next: Option<Run>,
    rest: Box<dyn Iterator<Item = Run> + 'a>,
}

impl<'a> Pieces<'a> {
    fn of(map: &'a RunMap) -> Self {
        let mut rest = map.iter();
        let next = rest.next();
        let rest = Box::new(rest);
        Self { next, rest }
    }

    fn pass(&mut self, count: u64) {
        self.next = match self.next {
            Some(run) if run.count > count => Some(Run {
                start: BlockIndex(run.start.0 + count),
                count: run.count - count,
                content: match run.content {
                    Content::Data { segment, slot } => Content::Data {
                        segment,
                        slot: slot + count as u32,
                    },
                    other => other,
                },
            }),
            _ => self.rest.next(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map_of(all: &[(u64, Option<(usize, u32)>)], ids: &[ObjectId]) -> RunMap {
        let mut map = RunMap::new();
        for (block, place) in all {
            let content = match place {
                Some((id, slot)) => Content::Data {
                    segment: ids[*id],
                    slot: *slot,
                },
                None => Content::Zero,
            };
            map.insert(Run {
                start: BlockIndex(*block),
                count: 1,
                content,
            });
        }
        map
    }

    proptest! {
        #[test]
        fn each_block_that_differs_is_told(
            before in prop::collection::vec(prop::option::of((0..2_usize, 0..9_u32)), 1..40),
            flips in prop::collection::vec((0..40_usize, prop::option::of((0..2_usize, 0..9_u32))),
                0..6),
        ) {
            let ids: Vec<ObjectId> = (0..2).map(|_| ObjectId::generate()).collect();
            let mut after = before.clone();
            for (at, place) in flips {
                if let Some(one) = after.get_mut(at) {
                    *one = place;
                }
            }
            let map = |all: &[Option<(usize, u32)>]| {
                let numbered: Vec<_> = (0..).zip(all.iter().copied()).collect();
                map_of(&numbered, &ids)
            };
            let told = PlaceChange::between(&map(&before), &map(&after));
            let pairs = before.iter().zip(&after);
            let other_sort = pairs.clone().any(|(was, now)| was.is_some() != now.is_some());
            prop_assert_eq!(told.is_none(), other_sort);
            let count: u32 = told.iter().flatten().map(|change| change.count).sum();
            let differ = pairs.filter(|(was, now)| was != now).count() as u32;
            prop_assert!(told.is_none() || count == differ);
        }
    }

    #[test]
    fn one_that_is_longer_is_not_the_same() {
        let (short, long) = (
            map_of(&[(0, None)], &[]),
            map_of(&[(0, None), (1, None)], &[]),
        );
        assert_eq!(PlaceChange::between(&short, &long), None);
        assert_eq!(PlaceChange::between(&long, &short), None);
    }
}
