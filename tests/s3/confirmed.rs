//! A store that says "done" of what it has not kept, or not wholly: a run notices before it reports
//! a snapshot.

use crate::support::model::ModelDisk;
use crate::support::vaults::{Take, check_all, take, vault_options};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use stillpoint::model::BLOCK_SIZE;
use stillpoint::store::{
    Blob, Capabilities, FaultStore, MemoryStore, ObjectInfo, ObjectName, ObjectStore, Vault,
};
use stillpoint::{Error, ErrorKind, Result};

/// Says that it keeps everything, and does not keep what is below `folder`; or cuts it.
pub struct Forgetful {
    inner: MemoryStore,
    folder: &'static str,
    cuts: bool,
    forgets: AtomicBool,
}

impl Forgetful {
    /// It forgets nothing yet.
    pub fn new(folder: &'static str, cuts: bool) -> Self {
        Self {
            inner: MemoryStore::new(),
            folder,
            cuts,
            forgets: AtomicBool::new(false),
        }
    }

    /// From here on it forgets.
    pub fn forget_from_now_on(&self) {
        self.forgets.store(true, Ordering::SeqCst);
    }

    /// From here on it keeps what is put.
    pub fn remember_again(&self) {
        self.forgets.store(false, Ordering::SeqCst);
    }
}

impl ObjectStore for Forgetful {
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
        let is_in_it = name.components().next() == Some(self.folder);
        if !is_in_it || !self.forgets.load(Ordering::SeqCst) {
            return self.inner.put(name, bytes);
        }
        match self.cuts {
            true => self.inner.put(name, bytes.slice(..bytes.len() / 2)),
            false => Ok(()),
        }
    }

    fn replace(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        match self.forgets.load(Ordering::SeqCst) {
            true => Ok(()),
            false => self.inner.replace(name, bytes),
        }
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
        self.inner.list(prefix, each)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.inner.delete(name)
    }
}

#[test]
fn what_a_store_has_not_kept_makes_no_snapshot() {
    for (folder, cuts) in [
        ("segments", false),
        ("segments", true),
        ("index", false),
        ("index", true),
        ("snapshots", false),
        ("snapshots", true),
        ("footers", false),
        ("footers", true),
    ] {
        let store = Arc::new(Forgetful::new(folder, cuts));
        let vault = Arc::new(Vault::create(store.clone(), vault_options()).unwrap());
        let disks = [ModelDisk::new(0, 9 * BLOCK_SIZE, 1)];
        let first = take(&vault, &disks, Take::default()).unwrap();
        store.forget_from_now_on();
        disks[0].write(0, &[9; 200_000]);
        let Err(error) = take(&vault, &disks, Take::default()) else {
            panic!("{folder}: a snapshot of nothing was reported");
        };
        assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
        assert!(error.to_string().contains(folder), "{error}");
        store.remember_again();
        // What was there is whole, and the next run goes on.
        let next = take(&vault, &disks, Take::default()).unwrap();
        check_all(&vault, &[first, next]);
    }
}

#[test]
fn what_is_seen_a_moment_later_was_kept() {
    for (late, kept) in [(2, true), (3, false)] {
        let asked = AtomicU32::new(0);
        let store = FaultStore::new(Arc::new(Forgetful::new("none", false)), move |operation| {
            let is_manifest = operation.name.components().next() == Some("snapshots");
            let is_late = operation.verb == "size" && !operation.done && is_manifest;
            match is_late && asked.fetch_add(1, Ordering::SeqCst) < late {
                true => Err(Error::new(ErrorKind::NotFound, "not yet")),
                false => Ok(()),
            }
        });
        let vault = Arc::new(Vault::create(Arc::new(store), vault_options()).unwrap());
        let disks = [ModelDisk::new(0, 9 * BLOCK_SIZE, 1)];
        assert_eq!(take(&vault, &disks, Take::default()).is_ok(), kept);
    }
}
