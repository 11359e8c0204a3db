//! What a vault needs from the place that keeps it. Objects are immutable and names are never used
//! twice, so that no store has to promise more than "what was put can be got".

use super::object_name::ObjectName;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{LockRule, ObjectRetention, RequestCounts};
use jiff::Timestamp;
use std::any::Any;
use std::path::PathBuf;

/// An object's bytes, shared without copying.
pub type Blob = bytes::Bytes;

/// An object that exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectInfo {
    /// Its name.
    pub name: ObjectName,
    /// Its length in bytes.
    pub size: u64,
    /// When it was put, by the store's clock, and no host's.
    pub modified: Timestamp,
}

/// What a store is good for: how many operations at once, at least one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Large objects that are put at once.
    pub puts: usize,
    /// Small objects that are got at once.
    pub gets: usize,
    /// Whether what was put is to be asked for before anything relies on it: at the other end of a
    /// network "done" was seen to be said of what was not kept.
    pub confirms: bool,
}

impl Capabilities {
    /// One writer keeps a disk busy; small files that are not cached gain from several readers.
    pub const OF_DIRECTORY: Self = Self {
        puts: 1,
        gets: 4,
        confirms: false,
    };
}

/// A directory that a store is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Its path, as it was named.
    pub path: PathBuf,
    /// The numbers of its filesystem and of itself, by which it is known under every path.
    pub root: (u64, u64),
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

    /// The directory that it is in; `None`: it is in none.
    fn directory(&self) -> Option<&Directory> {
        None
    }

    /// The class of storage that segments are put into, where one was named.
    fn storage_class(&self) -> Option<&str> {
        None
    }

    /// How much it is good for at once.
    fn capabilities(&self) -> Capabilities;

    /// Puts an object and returns when it will survive a power cut. An object is there whole or not
    /// at all. A name that is taken is an error of kind `Exists` (where the store can tell).
    fn put(&self, name: &ObjectName, bytes: Blob) -> Result<()>;

    /// Puts an object in place of the one of that name, if there is one, in one step: one of both
    /// is there at any moment. Only for what is known to be wrong: names are never used twice.
    fn replace(&self, name: &ObjectName, bytes: Blob) -> Result<()>;

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

    /// An object's length in bytes; an error of kind `NotFound` if it is not there.
    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.get_tail(name, 0).map(|(_, whole)| whole)
    }

    /// Hands the objects whose names start with the components of `prefix` to `each`, in no order,
    /// as the store's pages come in: never more than a page is in memory. An error of `each` ends
    /// the listing and is returned. `each` must not call the store.
    fn list(
        &self,
        prefix: &ObjectName,
        each: &mut dyn FnMut(ObjectInfo) -> Result<()>,
    ) -> Result<()>;

    /// The same, all in memory: for prefixes below which there is little.
    fn list_all(&self, prefix: &ObjectName) -> Result<Vec<ObjectInfo>> {
        self.list_some(prefix, usize::MAX)
    }

    /// The same; the listing ends when `most` were found.
    fn list_some(&self, prefix: &ObjectName, most: usize) -> Result<Vec<ObjectInfo>> {
        let mut found = Vec::new();
        let listed = self.list(prefix, &mut |object| {
            found.push(object);
            match found.len() < most {
                true => Ok(()),
                false => Err(Error::new(ErrorKind::Failed, "enough was found")),
            }
        });
        match listed {
            Err(error) if found.len() < most => Err(error),
            _ => Ok(found),
        }
    }

    /// Deletes an object; one that is not there is no error.
    fn delete(&self, name: &ObjectName) -> Result<()>;

    /// Says that an object's bytes were not what they should be: what is known of them elsewhere
    /// than in the store itself is not used again.
    fn forget(&self, _name: &ObjectName) {}

    /// The end of a segment, as much of it as a reader needs, and the segment's length, where this
    /// host keeps them. The store is not asked.
    fn kept_tail(&self, _name: &ObjectName) -> Option<(Blob, u64)> {
        None
    }

    /// Keeps the end of a segment of `whole` bytes on this host, which was not got from itself.
    fn keep_tail(&self, _name: &ObjectName, _tail: &[u8], _whole: u64) {}

    /// Locks an object. `None`: there are no locks here. An error of kind `Busy` when it is locked,
    /// `NotFound` when it is gone.
    fn lock(&self, _name: &ObjectName) -> Result<Option<ObjectLock>> {
        Ok(None)
    }

    /// The same store, where it may keep versions of objects and lock them.
    fn versioned(&self) -> Option<&dyn VersionedStore> {
        None
    }

    /// What was asked of it since it was opened; `None`: nobody counts.
    fn requests(&self) -> Option<RequestCounts> {
        None
    }

    /// Removes what killed runs of this host have put in part. Best effort.
    fn clear_unfinished(&self) {}
}

/// Whether objects of a bucket can be locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BucketLock {
    /// They cannot.
    Never,
    /// They can be.
    Possible,
    /// Each is, for so long.
    ByDefault(String),
}

/// An object, or a mark that it was deleted, as it was put at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectVersion {
    /// The object's name.
    pub name: ObjectName,
    /// The store's name of this version.
    pub id: String,
    /// Its length in bytes; `None`: it is a mark that says that the object was deleted.
    pub size: Option<u64>,
    /// What the store says of its bytes: equal ones may have other words, other ones have no equal
    /// words but where somebody made them so.
    pub etag: Option<String>,
    /// When it was put, by the store's clock.
    pub modified: Timestamp,
    /// Whether it is what the store gives to who asks for the object.
    pub is_current: bool,
}

/// Whether a place keeps versions of what is put over or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepsVersions {
    /// It does.
    Yes,
    /// It did once.
    NotNow,
    /// It never did.
    Never,
    /// These credentials may not ask, or the store does not know the question.
    Unknown,
}

/// Of which objects versions are listed.
#[derive(Clone, Copy, Debug)]
pub enum VersionsOf<'a> {
    /// Of all that are in this folder, or deeper.
    Below(&'a ObjectName),
    /// Of this one.
    One(&'a ObjectName),
}

impl<'a> VersionsOf<'a> {
    /// The folder or the object.
    pub fn name(self) -> &'a ObjectName {
        match self {
            Self::Below(name) | Self::One(name) => name,
        }
    }

    /// Whether an object is one of them.
    pub fn has(self, name: &ObjectName) -> bool {
        match self {
            Self::Below(folder) => name != folder && name.is_below(folder),
            Self::One(one) => name == one,
        }
    }
}

/// A store that may keep versions of objects, and lock them. A lock is of one version: what is
/// locked can be hidden by a newer one, and not deleted.
pub trait VersionedStore: Send + Sync {
    /// From here on what is put and snapshots need is locked by this rule.
    fn lock_what_is_put(&self, rule: LockRule);

    /// Whether objects can be locked; `None`: these credentials may not ask.
    fn bucket_lock(&self) -> Result<Option<BucketLock>>;

    /// How an object is locked; an error of kind `NotFound` if it is not there. A lock that these
    /// credentials may not see is none.
    fn retention(&self, name: &ObjectName) -> Result<Option<ObjectRetention>>;

    /// Locks an object. What is locked longer is an error.
    fn retain(&self, name: &ObjectName, retention: ObjectRetention) -> Result<()>;

    /// Whether versions are kept here.
    fn keeps_versions(&self) -> Result<KeepsVersions>;

    /// Hands all versions of these objects to `each`, as the store's pages come in: objects by
    /// their names, those of one object one after another, the newest first by the store's own
    /// order. An error of `each` ends the listing and is returned. `each` must not call the store.
    fn list_versions(
        &self,
        of: VersionsOf<'_>,
        each: &mut dyn FnMut(ObjectVersion) -> Result<()>,
    ) -> Result<()>;

    /// A version, as `get` would give it.
    fn get_version(&self, name: &ObjectName, version: &str, limit: u64) -> Result<Blob>;
}
