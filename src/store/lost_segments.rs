//! Which segments of those that are needed are there, by names and lengths alone: nothing is read.

use super::ask::ask_size_of_each;
use super::list_or_ask::{ListingBudget, list_while_cheaper};
use super::object_name::ObjectName;
use super::object_store::{ObjectInfo, ObjectStore};
use crate::error::{ErrorKind, Result};
use crate::format::lengths_with;
use crate::model::{Cancel, Content, ObjectId, RunMap};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// Most pages that are asked for: those of half a TiB.
const MOST_PAGES: usize = 16;

/// Segments, and how long each may be, in bytes.
type Needed = BTreeMap<ObjectId, RangeInclusive<u64>>;

/// The segments of `map` that are not in the store, or cannot hold what the map says is in them.
/// The names of the whole vault are never in memory. `cancel` is asked now and then.
pub(super) fn lost(
    store: &dyn ObjectStore,
    map: &RunMap,
    cancel: &dyn Cancel,
) -> Result<BTreeSet<ObjectId>> {
    not_there(store, needed_by(map), cancel)
}

/// Those that are not in the store, or have another length than they should have.
pub(super) fn lost_of_lengths(
    store: &dyn ObjectStore,
    lengths: impl Iterator<Item = (ObjectId, u64)>,
    cancel: &dyn Cancel,
) -> Result<BTreeSet<ObjectId>> {
    let needed = lengths.map(|(id, length)| (id, length..=length));
    not_there(store, needed.collect(), cancel)
}

fn not_there(
    store: &dyn ObjectStore,
    mut needed: Needed,
    cancel: &dyn Cancel,
) -> Result<BTreeSet<ObjectId>> {
    match store.directory() {
        Some(_) => find_by_folder(store, &mut needed, cancel)?,
        None => find_far_away(store, &mut needed, cancel)?,
    }
    Ok(needed.into_keys().collect())
}

/// Takes out of `needed` what the folders of a directory hold.
fn find_by_folder(store: &dyn ObjectStore, needed: &mut Needed, cancel: &dyn Cancel) -> Result<()> {
    let mut folders: Vec<ObjectId> = needed.keys().copied().collect();
    folders.dedup_by_key(|id| id.0[0]);
    for first in folders {
        cancel.check()?;
        let folder = ObjectName::segments_beside(first);
        store.list(&folder, &mut |object| {
            found(needed, &object);
            Ok(())
        })?;
    }
    Ok(())
}

/// The same of a store where each request costs money and time.
fn find_far_away(store: &dyn ObjectStore, needed: &mut Needed, cancel: &dyn Cancel) -> Result<()> {
    let budget = ListingBudget {
        wanted: needed.len(),
        pages: MOST_PAGES,
    };
    // What was not listed may be there all the same, when the listing is older than it is.
    list_while_cheaper(
        store,
        &ObjectName::segments(),
        budget,
        cancel,
        &mut |object| {
            found(needed, &object);
        },
    )?;
    let left: Vec<ObjectId> = needed.keys().copied().collect();
    let size = |id: &ObjectId| store.size(&ObjectName::segment(*id));
    ask_size_of_each(store, &left, cancel, size, |id, size| {
        match size {
            Ok(size) => {
                if needed
                    .get(id)
                    .is_some_and(|lengths| lengths.contains(&size))
                {
                    needed.remove(id);
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    })
}

fn needed_by(map: &RunMap) -> Needed {
    let slots = slots_of(map).into_iter();
    slots.map(|(id, slots)| (id, lengths_with(slots))).collect()
}

/// The segments that a map needs, and how many slots each must have at least.
pub(super) fn slots_of(map: &RunMap) -> BTreeMap<ObjectId, u32> {
    let mut slots: BTreeMap<ObjectId, u32> = BTreeMap::new();
    for run in map.iter() {
        if let Content::Data { segment, slot } = run.content {
            let most = slots.entry(segment).or_default();
            // A run of data is within the slots of one segment.
            *most = (*most).max(slot + run.count as u32);
        }
    }
    slots
}

/// Takes a segment that was listed out of those that are needed, if it can be the one.
fn found(needed: &mut Needed, object: &ObjectInfo) {
    let last = object.name.components().last();
    let Some(id) = last.and_then(|text| text.parse::<ObjectId>().ok()) else {
        return;
    };
    let fits = |lengths: &RangeInclusive<u64>| lengths.contains(&object.size);
    if object.name == ObjectName::segment(id) && needed.get(&id).is_some_and(fits) {
        needed.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::model::{BlockIndex, Run};
    use crate::store::{CountStore, FaultStore, MemoryStore};
    use std::sync::Arc;

    /// A vault far away, with so many segments of one slot, and the operations on it.
    struct Far {
        store: Arc<MemoryStore>,
        counted: Arc<CountStore>,
        segments: Vec<ObjectId>,
    }

    impl Far {
        fn with(segments: usize) -> Self {
            let store = Arc::new(MemoryStore::new());
            let segments: Vec<ObjectId> = (0..segments).map(|_| ObjectId::generate()).collect();
            for id in &segments {
                store
                    .put(&ObjectName::segment(*id), vec![0; 400].into())
                    .unwrap();
            }
            let counted = Arc::new(CountStore::new(store.clone()));
            Self {
                store,
                counted,
                segments,
            }
        }

        /// What is lost of a map that needs the first so many, and how many listings and questions
        /// for a size that took.
        fn lost_of(&self, needed: usize) -> (BTreeSet<ObjectId>, [u64; 2]) {
            let mut map = RunMap::new();
            for (n, segment) in (0..).zip(&self.segments[..needed]) {
                map.insert(Run {
                    start: BlockIndex(n),
                    count: 1,
                    content: Content::Data {
                        segment: *segment,
                        slot: 0,
                    },
                });
            }
            let lost = lost(self.counted.as_ref(), &map, &|| Ok(())).unwrap();
            let counts = self.counted.take();
            let of = |verb| counts.get(verb).map_or(0, |count| count.operations);
            (lost, [of("list"), of("size")])
        }
    }

    #[test]
    fn far_away_is_listed_or_asked_for_whichever_costs_less() {
        let few = Far::with(30);
        assert_eq!(few.lost_of(5), (BTreeSet::new(), [0, 5]));
        assert_eq!(few.lost_of(30), (BTreeSet::new(), [1, 0]));
        let many = Far::with(5000);
        let (lost, [lists, sizes]) = many.lost_of(30);
        assert!(lost.is_empty());
        // Two pages are listed of five, and the rest is asked for.
        assert!(lists == 1 && (1..30).contains(&sizes), "{lists} {sizes}");
    }

    #[test]
    fn a_listing_that_breaks_is_made_up_by_asking() {
        let mut far = Far::with(30);
        let breaking = FaultStore::new(far.store.clone(), |operation| {
            match operation.verb == "list" && operation.done {
                true => Err(Error::new(ErrorKind::Io, "the test says so")),
                false => Ok(()),
            }
        });
        far.counted = Arc::new(CountStore::new(Arc::new(breaking)));
        assert_eq!(far.lost_of(30).0, BTreeSet::new());
        let gone = far.segments[7];
        far.store.delete(&ObjectName::segment(gone)).unwrap();
        assert_eq!(far.lost_of(30).0, BTreeSet::from([gone]));
    }

    #[test]
    fn what_is_lost_is_lost_however_it_is_looked_for() {
        for (all, needed) in [(5, 5), (30, 30), (5000, 30)] {
            let far = Far::with(all);
            let (gone, short) = (far.segments[1], far.segments[3]);
            far.store.delete(&ObjectName::segment(gone)).unwrap();
            far.store.delete(&ObjectName::segment(short)).unwrap();
            let name = ObjectName::segment(short);
            far.store.put(&name, vec![0; 100].into()).unwrap();
            assert_eq!(
                far.lost_of(needed).0,
                BTreeSet::from([gone, short]),
                "{all}"
            );
        }
    }
}
