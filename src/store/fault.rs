//! A store that does what another does, and lets a test step in before and after every operation.

use super::name::ObjectName;
use super::object_store::{Blob, ObjectInfo, ObjectLock, ObjectStore};
use crate::error::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A moment at which a test may step in. Moments are counted from 0.
#[derive(Clone, Copy, Debug)]
pub struct Operation<'a> {
    /// Which moment this is.
    pub moment: u64,
    /// `put`, `get`, `list` or `delete`.
    pub verb: &'static str,
    /// Of what.
    pub name: &'a ObjectName,
    /// Whether the operation has been done already.
    pub done: bool,
}

type Step = dyn Fn(Operation<'_>) -> Result<()> + Send + Sync;

/// Wraps a store. The closure may return an error, which the caller gets, or end the process.
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    step: Box<Step>,
    moments: AtomicU64,
}

impl FaultStore {
    /// `step` is called before and after every operation.
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        step: impl Fn(Operation<'_>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            step: Box::new(step),
            moments: AtomicU64::new(0),
        }
    }

    /// How many moments there were.
    pub fn moments(&self) -> u64 {
        self.moments.load(Ordering::Relaxed)
    }

    fn around<T>(
        &self,
        verb: &'static str,
        name: &ObjectName,
        operation: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let step = |done| {
            let moment = self.moments.fetch_add(1, Ordering::Relaxed);
            (self.step)(Operation {
                moment,
                verb,
                name,
                done,
            })
        };
        step(false)?;
        let value = operation()?;
        step(true)?;
        Ok(value)
    }
}

impl ObjectStore for FaultStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()> {
        self.around("put", name, || self.inner.put(name, bytes))
    }

    fn get(&self, name: &ObjectName, limit: u64) -> Result<Blob> {
        self.around("get", name, || self.inner.get(name, limit))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Blob> {
        self.around("get", name, || self.inner.get_range(name, offset, length))
    }

    fn get_tail(&self, name: &ObjectName, length: u64) -> Result<(Blob, u64)> {
        self.around("get", name, || self.inner.get_tail(name, length))
    }

    fn list(&self, prefix: &ObjectName) -> Result<Vec<ObjectInfo>> {
        self.around("list", prefix, || self.inner.list(prefix))
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.around("delete", name, || self.inner.delete(name))
    }

    fn lock(&self, name: &ObjectName) -> Result<Option<ObjectLock>> {
        self.inner.lock(name)
    }

    fn clear_unfinished(&self) {
        self.inner.clear_unfinished();
    }
}
