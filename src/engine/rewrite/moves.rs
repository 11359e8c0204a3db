//! Where chunks have gone. It must never say of a chunk that was not moved that it was.

use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlockIndex, Content, ObjectId, Run, RunMap};
use std::collections::HashMap;

/// Neighbouring slots of a segment, and where they are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MovedSlots {
    first: u32,
    count: u32,
    segment: ObjectId,
    slot: u32,
}

/// What becomes of a block whose chunk was not moved out of a segment that is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unmoved {
    /// No snapshot shows it: it is left out.
    LeftOut,
    /// There is none such.
    Error,
}

/// All that was moved.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// By the segment that they come from, ascending.
    from: HashMap<ObjectId, Vec<MovedSlots>>,
}

impl Moves {
    /// Notes that a slot's chunk is in another place now. Slots of a segment come in order.
    pub(super) fn add(&mut self, from: ObjectId, first: u32, to: ObjectId, slot: u32) {
        let of_it = self.from.entry(from).or_default();
        if let Some(last) = of_it.last_mut()
            && last.first + last.count == first
            && last.segment == to
            && last.slot + last.count == slot
        {
            last.count += 1;
            return;
        }
        of_it.push(MovedSlots {
            first,
            count: 1,
            segment: to,
            slot,
        });
    }

    /// Forgets what was moved out of a segment: it stays where it is.
    pub(super) fn forget(&mut self, from: ObjectId) {
        self.from.remove(&from);
    }

    /// Whether nothing was moved.
    pub(super) fn is_empty(&self) -> bool {
        self.from.is_empty()
    }

    /// The segments out of which all was moved that is needed.
    pub(super) fn segments(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.from.keys().copied()
    }

    /// Whether a map names a segment that is given up.
    pub(super) fn concern(&self, map: &RunMap) -> bool {
        let mut segments = map.iter().filter_map(|run| run.segment());
        segments.any(|id| self.from.contains_key(&id))
    }

    /// The same blocks where they are now.
    pub(super) fn applied(&self, map: &RunMap, unmoved: Unmoved) -> Result<RunMap> {
        let mut now = RunMap::new();
        for run in map.iter() {
            let Content::Data { segment, slot } = run.content else {
                now.insert(run);
                continue;
            };
            let Some(moved) = self.from.get(&segment) else {
                now.insert(run);
                continue;
            };
            let end = slot + run.count as u32;
            let first = moved.partition_point(|one| one.first + one.count <= slot);
            let mut next = slot;
            for one in moved[first..].iter().take_while(|one| one.first < end) {
                let (start, stop) = (one.first.max(slot), (one.first + one.count).min(end));
                if start > next && unmoved == Unmoved::Error {
                    return Err(not_moved(segment, next));
                }
                now.insert(Run {
                    start: BlockIndex(run.start.0 + u64::from(start - slot)),
                    count: u64::from(stop - start),
                    content: Content::Data {
                        segment: one.segment,
                        slot: one.slot + (start - one.first),
                    },
                });
                next = stop;
            }
            if next < end && unmoved == Unmoved::Error {
                return Err(not_moved(segment, next));
            }
        }
        Ok(now)
    }
}

fn not_moved(segment: ObjectId, slot: u32) -> Error {
    let what = format!("slot {slot} of segment {segment} is needed, and was not moved");
    Error::new(ErrorKind::Failed, what)
        .with_hint("every snapshot that is there is as it was; run it again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn data(start: u64, count: u64, segment: ObjectId, slot: u32) -> Run {
        Run {
            start: BlockIndex(start),
            count,
            content: Content::Data { segment, slot },
        }
    }

    proptest! {
        #[test]
        fn each_block_is_where_its_chunk_went(
            runs in prop::collection::vec((0..90_u64, 1..9_u64, 0..3_usize, 0..40_u32), 1..20),
            live in prop::collection::btree_set((0..2_usize, 0..50_u32), 0..80),
        ) {
            let old: Vec<ObjectId> = (0..3).map(|_| ObjectId::generate()).collect();
            let new = [ObjectId::generate(), ObjectId::generate()];
            let (mut moves, mut places) = (Moves::default(), BTreeMap::new());
            for (number, (segment, slot)) in live.into_iter().enumerate() {
                let to = (new[number / 40], number as u32 % 40);
                moves.add(old[segment], slot, to.0, to.1);
                places.insert((old[segment], slot), to);
            }
            let mut map = RunMap::new();
            for (start, count, segment, slot) in runs {
                map.insert(data(start, count, old[segment], slot));
            }
            let now = moves.applied(&map, Unmoved::LeftOut).unwrap();
            let mut all = true;
            for block in (0..100).map(BlockIndex) {
                let (before, after) = (map.get(block), now.get(block));
                let Some(Content::Data { segment, slot }) = before else {
                    prop_assert_eq!(after, None);
                    continue;
                };
                let stays = !moves.from.contains_key(&segment);
                let expected = match places.get(&(segment, slot)) {
                    Some((segment, slot)) => Some(Content::Data { segment: *segment, slot: *slot }),
                    None if stays => before,
                    None => None,
                };
                all &= expected.is_some();
                prop_assert_eq!(after, expected);
            }
            prop_assert_eq!(moves.applied(&map, Unmoved::Error).is_ok(), all);
        }
    }
}
