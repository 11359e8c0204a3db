//! Layers: a store that stands before another and does something around each of its operations.
//! One layer a file; each sees verbs, names and lengths, and none the bytes.

mod count;
#[cfg(feature = "testing")]
mod fault;
mod limit;
mod retry;
mod stop;
mod versioned;

pub use count::{Count, CountStore, OperationCounts};
#[cfg(feature = "testing")]
pub use fault::{FaultStore, Operation};
pub use limit::{LimitStore, StoreLimits};
pub use retry::{Retrier, RetryPolicy, RetryStore};
pub use stop::StopCheck;

use super::object_name::ObjectName;
use super::object_store::{
    Blob, Capabilities, Directory, ObjectInfo, ObjectLock, ObjectStore, VersionedStore,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::RequestCounts;
use std::sync::Arc;

/// An operation that a layer stands around.
#[derive(Clone, Copy)]
pub struct StoreCall<'a> {
    /// `put`, `get`, `size`, `list` or `delete`.
    pub verb: &'static str,
    /// Of what.
    pub name: &'a ObjectName,
    /// How many bytes it will move, as far as that is known.
    pub bytes: u64,
}

impl<'a> StoreCall<'a> {
    fn of(verb: &'static str, name: &'a ObjectName) -> Self {
        let bytes = 0;
        Self { verb, name, bytes }
    }

    fn moving(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }
}

/// What a layer does around an operation.
pub trait Around: Send + Sync {
    /// Does the operation, which may be done again when it fails, and returns its error or one of
    /// the layer's own. The operation returns the number of bytes that it has moved.
    fn around(&self, call: StoreCall<'_>, operation: &mut dyn FnMut() -> Result<u64>)
    -> Result<()>;

    /// What was asked, if it is this layer that counts.
    fn requests(&self) -> Option<RequestCounts> {
        None
    }
}

/// A store with a layer before it. Each layer has its own way to make one.
pub struct Layered<L> {
    inner: Arc<dyn ObjectStore>,
    layer: L,
}

impl<L: Around> Layered<L> {
    /// Does an operation within the layer; `moved` is how many bytes its result has.
    fn within<T>(
        &self,
        call: StoreCall<'_>,
        mut operation: impl FnMut() -> Result<T>,
        moved: impl Fn(&T) -> u64,
    ) -> Result<T> {
        let mut done = None;
        self.layer.around(call, &mut || {
            let value = operation()?;
            let bytes = moved(&value);
            done = Some(value);
            Ok(bytes)
        })?;
        done.ok_or_else(|| Error::new(ErrorKind::Failed, "a layer did not do its operation"))
    }
}

fn size_of(blob: &Blob) -> u64 {
    blob.len() as u64
}

impl<L: Around> ObjectStore for Layered<L> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn directory(&self) -> Option<&Directory> {
        self.inner.directory()
    }

    fn storage_class(&self) -> Option<&str> {
        self.inner.storage_class()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        let mut tried = false;
        let put = || match self.inner.put(name, bytes.clone()) {
            // The try before has put it, and its answer was lost: names are never used twice.
            Err(error) if tried && error.kind() == ErrorKind::Exists => Ok(()),
            other => {
                tried = true;
                other
            }
        };
        let call = StoreCall::of("put", name).moving(size_of(&bytes));
        self.within(call, put, |()| size_of(&bytes))
    }

    fn replace(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        let replace = || self.inner.replace(name, bytes.clone());
        let call = StoreCall::of("put", name).moving(size_of(&bytes));
        self.within(call, replace, |()| size_of(&bytes))
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Blob> {
        let get = || self.inner.get(name, limit);
        self.within(StoreCall::of("get", name), get, size_of)
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Blob> {
        let get = || self.inner.get_range(name, offset, length);
        let call = StoreCall::of("get", name).moving(length);
        self.within(call, get, size_of)
    }

    fn get_range_into(
        &self,
        name: &ObjectName,
        offset: u64,
        length: u64,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        let get = || self.inner.get_range_into(name, offset, length, into);
        let call = StoreCall::of("get", name).moving(length);
        self.within(call, get, |()| length)
    }

    fn get_tail(&self, name: &ObjectName, length: u64) -> Result<(Blob, u64)> {
        let get = || self.inner.get_tail(name, length);
        let call = StoreCall::of("get", name).moving(length);
        self.within(call, get, |(tail, _)| size_of(tail))
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        let size = || self.inner.size(name);
        self.within(StoreCall::of("size", name), size, |_| 0)
    }

    fn list(
        &self,
        prefix: &ObjectName,
        each: &mut dyn FnMut(ObjectInfo) -> Result<()>,
    ) -> Result<()> {
        let mut handed_out = false;
        let list = || {
            let listed = self.inner.list(prefix, &mut |object| {
                handed_out = true;
                each(object)
            });
            match listed {
                // What was handed out cannot be taken back: this is not done again.
                Err(error) if handed_out => Ok(Err(error)),
                Err(error) => Err(error),
                Ok(()) => Ok(Ok(())),
            }
        };
        self.within(StoreCall::of("list", prefix), list, |_| 0)?
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let delete = || self.inner.delete(name);
        self.within(StoreCall::of("delete", name), delete, |()| 0)
    }

    fn forget(&self, name: &ObjectName) {
        self.inner.forget(name);
    }

    fn kept_tail(&self, name: &ObjectName) -> Option<(Blob, u64)> {
        self.inner.kept_tail(name)
    }

    fn keep_tail(&self, name: &ObjectName, tail: &[u8], whole: u64) {
        self.inner.keep_tail(name, tail, whole);
    }

    fn lock(&self, name: &ObjectName) -> Result<Option<ObjectLock>> {
        self.inner.lock(name)
    }

    fn versioned(&self) -> Option<&dyn VersionedStore> {
        self.inner.versioned().map(|_| self as &dyn VersionedStore)
    }

    fn requests(&self) -> Option<RequestCounts> {
        let counted = self.layer.requests();
        counted.or_else(|| self.inner.requests())
    }

    fn clear_unfinished(&self) {
        self.inner.clear_unfinished();
    }
}
