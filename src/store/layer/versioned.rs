//! Versions and locks of a store with a layer before it: the same layer stands around them, so that
//! they are tried again, wait for their turn and end with a stop as all else does.

use super::{Around, Layered, StoreCall};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{LockRule, ObjectRetention};
use crate::store::object_name::ObjectName;
use crate::store::object_store::{
    Blob, BucketLock, KeepsVersions, ObjectVersion, VersionedStore, VersionsOf,
};

impl<L: Around> Layered<L> {
    fn inner_versioned(&self) -> Result<&dyn VersionedStore> {
        self.inner.versioned().ok_or_else(|| {
            let what = format!("{} keeps no versions", self.inner.location());
            Error::new(ErrorKind::Unsupported, what)
        })
    }
}

impl<L: Around> VersionedStore for Layered<L> {
    fn lock_what_is_put(&self, rule: LockRule) {
        if let Some(inner) = self.inner.versioned() {
            inner.lock_what_is_put(rule);
        }
    }

    fn bucket_lock(&self) -> Result<Option<BucketLock>> {
        let inner = self.inner_versioned()?;
        let name = ObjectName::vault_info();
        let ask = || inner.bucket_lock();
        self.within(StoreCall::of("get", &name), ask, |_| 0)
    }

    fn retention(&self, name: &ObjectName) -> Result<Option<ObjectRetention>> {
        let inner = self.inner_versioned()?;
        let ask = || inner.retention(name);
        self.within(StoreCall::of("size", name), ask, |_| 0)
    }

    fn retain(&self, name: &ObjectName, retention: ObjectRetention) -> Result<()> {
        let inner = self.inner_versioned()?;
        let put = || inner.retain(name, retention);
        self.within(StoreCall::of("put", name), put, |()| 0)
    }

    fn keeps_versions(&self) -> Result<KeepsVersions> {
        let inner = self.inner_versioned()?;
        let name = ObjectName::vault_info();
        let ask = || inner.keeps_versions();
        self.within(StoreCall::of("get", &name), ask, |_| 0)
    }

    fn list_versions(
        &self,
        of: VersionsOf<'_>,
        each: &mut dyn FnMut(ObjectVersion) -> Result<()>,
    ) -> Result<()> {
        let inner = self.inner_versioned()?;
        let mut handed_out = false;
        let list = || {
            let listed = inner.list_versions(of, &mut |version| {
                handed_out = true;
                each(version)
            });
            match listed {
                // What was handed out cannot be taken back: this is not done again.
                Err(error) if handed_out => Ok(Err(error)),
                Err(error) => Err(error),
                Ok(()) => Ok(Ok(())),
            }
        };
        self.within(StoreCall::of("list", of.name()), list, |_| 0)?
    }

    fn get_version(&self, name: &ObjectName, version: &str, limit: u64) -> Result<Blob> {
        let inner = self.inner_versioned()?;
        let get = || inner.get_version(name, version, limit);
        self.within(StoreCall::of("get", name), get, |bytes| bytes.len() as u64)
    }
}
