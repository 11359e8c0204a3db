//! A store whose listings may be late: what it lists may be gone.

use super::yard::{Yard, info_of};
use std::sync::Arc;
use stillpoint::Result;
use stillpoint::store::{Blob, Capabilities, MemoryStore, ObjectInfo, ObjectName, ObjectStore};

/// Lists a manifest that is gone.
struct Late {
    inner: Arc<MemoryStore>,
    gone: ObjectInfo,
}

impl ObjectStore for Late {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            confirms: true,
            ..self.inner.capabilities()
        }
    }

    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        self.inner.put(name, bytes)
    }

    fn replace(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        self.inner.replace(name, bytes)
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Blob> {
        self.inner.get(name, limit)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Blob> {
        self.inner.get_range(name, offset, length)
    }

    fn get_tail(&self, name: &ObjectName, length: u64) -> Result<(Blob, u64)> {
        self.inner.get_tail(name, length)
    }

    fn list(
        &self,
        prefix: &ObjectName,
        each: &mut dyn FnMut(ObjectInfo) -> Result<()>,
    ) -> Result<()> {
        if *prefix == ObjectName::snapshots() {
            each(self.gone.clone())?;
        }
        self.inner.list(prefix, each)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.inner.delete(name)
    }
}

/// Nobody can tell a deletion from a loss there: it is told, and not as damage.
#[test]
fn what_was_deleted_and_is_listed_late_is_no_damage() {
    let mut yard = Yard::new(3);
    let first = yard.snapshot_of(0, None);
    let second = yard.snapshot_of(0, None);
    let name = ObjectName::manifest("host0", second.id);
    let listed = yard.store.list_all(&ObjectName::snapshots()).unwrap();
    let gone = listed.into_iter().find(|one| one.name == name).unwrap();
    yard.store.delete(&name).unwrap();
    let inner = yard.store.clone();
    let found = info_of(Arc::new(Late { inner, gone }));
    assert!(!found.has_damage, "{:?}", found.unread);
    assert_eq!((found.unread_manifests, found.unread_snapshots()), (1, 1));
    assert_eq!(found.unread[0].snapshot, second.id);
    let said = found.unread[0].why.to_string();
    assert!(said.contains("deleted just now"), "{said}");
    let there: Vec<_> = found.snapshots.iter().map(|one| one.id).collect();
    assert_eq!(there, [first.id]);
}
