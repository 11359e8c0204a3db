//! How long objects are, by a listing or by a question for each, whichever costs less. Nothing of
//! them is read.

use super::ask::ask_size_of_each;
use super::catalog::{SnapshotRef, named_by};
use super::list_or_ask::{ListingBudget, list_while_cheaper};
use super::object_name::ObjectName;
use super::vault::Vault;
use crate::error::{ErrorKind, Result};
use crate::format::FooterCopiesRef;
use crate::model::{Cancel, ObjectId};
use std::collections::{BTreeMap, BTreeSet};

/// Objects that are there, with their lengths in bytes.
pub type Sizes = BTreeMap<ObjectId, u64>;

/// A sort of objects that are named by their contents.
#[derive(Clone, Copy)]
struct Folder {
    below: fn() -> ObjectName,
    name: fn(ObjectId) -> ObjectName,
}

impl Vault {
    /// Which of these segments are there, and how long each is. One that was put just now may be
    /// missing from a listing. `cancel` is asked now and then, and its error is returned.
    pub fn segment_sizes(&self, wanted: &BTreeSet<ObjectId>, cancel: &dyn Cancel) -> Result<Sizes> {
        let folder = Folder {
            below: ObjectName::segments,
            name: ObjectName::segment,
        };
        self.sizes(folder, wanted, cancel)
    }

    /// The same of index objects.
    pub fn index_sizes(&self, wanted: &BTreeSet<ObjectId>, cancel: &dyn Cancel) -> Result<Sizes> {
        let folder = Folder {
            below: ObjectName::indexes,
            name: ObjectName::index,
        };
        self.sizes(folder, wanted, cancel)
    }

    /// How long one segment is; `None`: it is not there.
    pub fn size_of_segment(&self, id: ObjectId) -> Result<Option<u64>> {
        if_there(self.store.size(&ObjectName::segment(id)))
    }

    /// How long one index object is; `None`: it is not there.
    pub fn size_of_index(&self, id: ObjectId) -> Result<Option<u64>> {
        if_there(self.store.size(&ObjectName::index(id)))
    }

    /// How long an object of copies of footers is; `None`: it is not there.
    pub fn size_of_copies(&self, copies: FooterCopiesRef) -> Result<Option<u64>> {
        if_there(self.store.size(&ObjectName::footers(copies)))
    }

    /// How long each snapshot's manifest is.
    pub fn manifest_sizes(&self) -> Result<BTreeMap<SnapshotRef, u64>> {
        let mut found = BTreeMap::new();
        self.store.list(&ObjectName::snapshots(), &mut |object| {
            let size = object.size;
            found.extend(named_by(object.name).map(|snapshot| (snapshot, size)));
            Ok(())
        })?;
        Ok(found)
    }

    /// Whether a snapshot is still there.
    pub fn has_snapshot(&self, snapshot: &SnapshotRef) -> Result<bool> {
        Ok(if_there(self.store.size(&snapshot.manifest))?.is_some())
    }

    /// A vault of few objects is listed, and in one of many is asked for those that are wanted.
    fn sizes(
        &self,
        folder: Folder,
        wanted: &BTreeSet<ObjectId>,
        cancel: &dyn Cancel,
    ) -> Result<Sizes> {
        let mut sizes = Sizes::new();
        let budget = ListingBudget {
            wanted: wanted.len(),
            pages: usize::MAX,
        };
        let all = list_while_cheaper(
            self.store.as_ref(),
            &(folder.below)(),
            budget,
            cancel,
            &mut |object| {
                let last = object.name.components().last();
                let id = last.and_then(|text| text.parse::<ObjectId>().ok());
                let id = id.filter(|id| wanted.contains(id) && (folder.name)(*id) == object.name);
                sizes.extend(id.map(|id| (id, object.size)));
            },
        )?;
        if all {
            return Ok(sizes);
        }
        let left = wanted.iter().filter(|id| !sizes.contains_key(id));
        let left: Vec<ObjectId> = left.copied().collect();
        let size = |id: &ObjectId| if_there(self.store.size(&(folder.name)(*id)));
        ask_size_of_each(self.store.as_ref(), &left, cancel, size, |id, size| {
            sizes.extend(size?.map(|size| (*id, size)));
            Ok(())
        })?;
        Ok(sizes)
    }
}

/// A length; `None`: the object is not there. What is there and no object has no bytes.
fn if_there(size: Result<u64>) -> Result<Option<u64>> {
    match size {
        Ok(size) => Ok(Some(size)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::Damaged => Ok(Some(0)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::format::{BlockDedup, Compression};
    use crate::store::{CountStore, FaultStore, MemoryStore, ObjectStore, VaultOptions};
    use std::sync::Arc;

    /// A vault of so many segments, each a byte longer than the one before.
    fn filled(count: u64) -> (Arc<MemoryStore>, Vec<ObjectId>) {
        let store = Arc::new(MemoryStore::new());
        let options = VaultOptions {
            name: "test".into(),
            description: None,
            compression: Compression::default(),
            dedup: BlockDedup::Disk,
            encrypt: None,
        };
        Vault::create(store.clone(), options).unwrap();
        let put = |length: u64| {
            let id = ObjectId::generate();
            let bytes = vec![0; length as usize];
            store.put(&ObjectName::segment(id), bytes.into()).unwrap();
            id
        };
        (store.clone(), (0..count).map(put).collect())
    }

    fn sizes(store: Arc<dyn ObjectStore>, wanted: &[ObjectId]) -> Sizes {
        let vault = Vault::open(store).unwrap();
        let wanted = wanted.iter().copied().collect();
        vault.segment_sizes(&wanted, &|| Ok(())).unwrap()
    }

    fn expected(wanted: &[ObjectId]) -> Sizes {
        wanted.iter().copied().zip(0..).collect()
    }

    #[test]
    fn it_is_listed_or_asked_whichever_costs_less() {
        for (count, wanted, lists, sizes_asked) in [
            (30, 5, 0, 5),
            (30, 30, 1, 0),
            (3000, 30, 1, 30),
            (0, 0, 0, 0),
        ] {
            let (store, ids) = filled(count);
            let counted = Arc::new(CountStore::new(store));
            let wanted = &ids[..wanted];
            assert_eq!(sizes(counted.clone(), wanted), expected(wanted));
            let counts = counted.take();
            let of = |verb| counts.get(verb).map_or(0, |count| count.operations);
            assert_eq!(of("list"), lists, "{count}");
            assert!(of("size") <= sizes_asked, "{count}: {}", of("size"));
        }
    }

    #[test]
    fn a_listing_that_breaks_is_made_up_by_asking() {
        let (store, ids) = filled(30);
        let broken = FaultStore::new(store.clone(), |operation| {
            match operation.verb == "list" && operation.done {
                true => Err(Error::new(ErrorKind::Io, "the test says so")),
                false => Ok(()),
            }
        });
        store.delete(&ObjectName::segment(ids[7])).unwrap();
        let mut there = expected(&ids);
        there.remove(&ids[7]);
        assert_eq!(sizes(Arc::new(broken), &ids), there);
    }
}
