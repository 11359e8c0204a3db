//! Lets a test step in before and after every operation.

use super::{Around, Layered, StoreCall};
use crate::error::Result;
use crate::store::object_name::ObjectName;
use crate::store::object_store::ObjectStore;
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

/// The test's closure, and how often it was called.
pub struct FaultLayer {
    step: Box<Step>,
    moments: AtomicU64,
}

/// A store with a test before it. The test's closure may return an error, which the caller gets, or
/// end the process.
pub type FaultStore = Layered<FaultLayer>;

impl FaultStore {
    /// `step` is called before and after every operation.
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        step: impl Fn(Operation<'_>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        let layer = FaultLayer {
            step: Box::new(step),
            moments: AtomicU64::new(0),
        };
        Self { inner, layer }
    }

    /// How many moments there were.
    pub fn moments(&self) -> u64 {
        self.layer.moments.load(Ordering::Relaxed)
    }
}

impl Around for FaultLayer {
    fn around(
        &self,
        call: StoreCall<'_>,
        operation: &mut dyn FnMut() -> Result<u64>,
    ) -> Result<()> {
        let step = |done| {
            let moment = self.moments.fetch_add(1, Ordering::Relaxed);
            (self.step)(Operation {
                moment,
                verb: call.verb,
                name: call.name,
                done,
            })
        };
        step(false)?;
        operation()?;
        step(true)
    }
}
