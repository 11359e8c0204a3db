//! What a vault needs of the place that keeps it. Objects are immutable and names are never used
//! twice, so that no store has to promise more than "what was put can be got".

use super::name::ObjectName;
use crate::error::Result;
use std::any::Any;

/// An object's bytes, shared without copying.
pub type Blob = bytes::Bytes;

/// An object that exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    /// Its name.
    pub name: ObjectName,
    /// Its length in bytes.
    pub size: u64,
}

/// A lock on an object, until it is dropped or the process has ended, however it ends.
pub struct ObjectLock {
    _held: Box<dyn Any + Send>,
}

impl ObjectLock {
    /// Held as long as this is.
    pub(super) fn new(held: impl Any + Send) -> Self {
        Self {
            _held: Box::new(held),
        }
    }
}

/// A place that keeps objects.
pub trait ObjectStore: Send + Sync {
    /// Where it is, for people; never with a secret in it.
    fn location(&self) -> String;

    /// Puts an object and returns when it will survive a power cut. An object is there whole or not
    /// at all. A name that is taken is an error of kind `Exists` (where the store can tell).
    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()>;

    /// The whole object; an error of kind `Damaged` if it is longer than `limit` bytes, `NotFound`
    /// if it is not there.
    fn get(&self, name: &ObjectName, limit: u64) -> Result<Blob>;

    /// Exactly `length` bytes from `offset` on; an error of kind `Damaged` if they are not there.
    fn get_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Blob>;

    /// The same into memory that was used before: fresh memory costs as much as reading does. What
    /// was in it is gone, also when it fails.
    fn get_range_into(
        &self,
        name: &ObjectName,
        offset: u64,
        length: u64,
        into: &mut Vec<u8>,
    ) -> Result<()> {
        into.clear();
        into.extend_from_slice(&self.get_range(name, offset, length)?);
        Ok(())
    }

    /// The last bytes of an object, `length` at most, and the object's whole length.
    fn get_tail(&self, name: &ObjectName, length: u64) -> Result<(Blob, u64)>;

    /// The objects whose names start with the components of `prefix`, in no order.
    fn list(&self, prefix: &ObjectName) -> Result<Vec<ObjectInfo>>;

    /// Deletes an object; one that is not there is no error.
    fn delete(&self, name: &ObjectName) -> Result<()>;

    /// Locks an object. `None`: there are no locks here. An error of kind `Busy` when it is locked,
    /// `NotFound` when it is gone.
    fn lock(&self, _name: &ObjectName) -> Result<Option<ObjectLock>> {
        Ok(None)
    }

    /// Takes away what killed runs of this host have put in part. Best effort.
    fn clear_unfinished(&self) {}
}
