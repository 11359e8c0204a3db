//! Counts operations and bytes by verb. What a command asks of its store is told to its user, and
//! tests say how much that may be. Before a store in a directory an operation is a request; one in
//! S3 counts its requests itself (`s3/traffic.rs`), as a listing has pages.

use super::{Around, Layered, StoreCall};
use crate::error::Result;
use crate::model::{Bytes, RequestCounts};
use crate::store::object_store::ObjectStore;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Operations of one verb.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many were begun.
    pub operations: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many bytes the others have moved.
    pub bytes: u64,
}

/// How much of each verb there was: `put`, `get`, `list`, `delete`.
pub type OperationCounts = BTreeMap<&'static str, Count>;

/// The sums so far.
#[derive(Default)]
pub struct Counter(Mutex<OperationCounts>);

/// A store whose operations are counted.
pub type CountStore = Layered<Counter>;

impl CountStore {
    /// Nothing was counted yet.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        let layer = Counter::default();
        Self { inner, layer }
    }

    /// What was counted since the last call.
    pub fn take(&self) -> OperationCounts {
        let mut counts = self.layer.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut counts)
    }
}

impl Around for Counter {
    fn around(
        &self,
        call: StoreCall<'_>,
        operation: &mut dyn FnMut() -> Result<u64>,
    ) -> Result<()> {
        let moved = operation();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(call.verb).or_default();
        count.operations += 1;
        match &moved {
            Ok(bytes) => count.bytes += bytes,
            Err(_) => count.failed += 1,
        }
        moved.map(drop)
    }

    fn requests(&self) -> Option<RequestCounts> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |verb| counts.get(verb).copied().unwrap_or_default();
        let (put, get) = (of("put"), of("get"));
        Some(RequestCounts {
            put: put.operations,
            get: get.operations,
            size: of("size").operations,
            list: of("list").operations,
            delete: of("delete").operations,
            sent_bytes: Bytes(put.bytes),
            received_bytes: Bytes(get.bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Blob, MemoryStore, ObjectName};

    #[test]
    fn operations_and_bytes_are_counted_by_verb() {
        let store = CountStore::new(Arc::new(MemoryStore::new()));
        let name = |text: &str| ObjectName::parse(text).unwrap();
        store
            .put(&name("index/x"), Blob::from_static(b"12345"))
            .unwrap();
        store.get(&name("index/x"), 10).unwrap();
        store.get_tail(&name("index/x"), 2).unwrap();
        store
            .get_range_into(&name("index/x"), 1, 3, &mut Vec::new())
            .unwrap();
        assert!(store.get(&name("index/y"), 10).is_err());
        assert_eq!(store.list_some(&name("index"), 1).unwrap().len(), 1);
        store.delete(&name("index/x")).unwrap();
        let count = |operations, failed, bytes| Count {
            operations,
            failed,
            bytes,
        };
        let told = RequestCounts {
            put: 1,
            get: 4,
            size: 0,
            list: 1,
            delete: 1,
            sent_bytes: Bytes(5),
            received_bytes: Bytes(5 + 2 + 3),
        };
        assert_eq!(store.requests(), Some(told));
        let counts = store.take();
        assert_eq!(counts["put"], count(1, 0, 5));
        assert_eq!(counts["get"], count(4, 1, 5 + 2 + 3));
        assert_eq!(counts["list"], count(1, 0, 0));
        assert_eq!(counts["delete"], count(1, 0, 0));
        assert!(store.take().is_empty());
    }
}
