//! Locks of what a vault's snapshots need, in a bucket that has them. Nothing is asked of a store
//! where the vault has none, and nothing is locked that comes and goes.

use super::ask::ask_of_each;
use super::catalog::SnapshotRef;
use super::lock_rules::{LockSeen, LockStanding, LockTarget, locking, wanted};
use super::object_name::ObjectName;
use super::object_store::BucketLock;
use super::vault::Vault;
use crate::error::{ErrorKind, Result};
use crate::model::{Cancel, LockMode};
use jiff::Timestamp;

/// How objects are locked.
#[derive(Clone, Copy, Debug)]
pub struct LockEach {
    /// Whom the lock holds off.
    pub mode: LockMode,
    /// Only say what would be locked.
    pub only_look: bool,
}

impl Vault {
    /// Locks what is put from here on, where the vault says so.
    pub(super) fn locking(self) -> Self {
        if let (Some(rule), Some(store)) = (self.info().lock, self.store.versioned()) {
            store.lock_what_is_put(rule);
        }
        self
    }

    /// The same in a second place, which may be where nothing can be locked.
    pub(super) fn locking_if_it_can(self) -> Result<Self> {
        let can = match (self.info().lock, self.store.versioned()) {
            (Some(_), Some(store)) => store.bucket_lock()? == Some(BucketLock::Possible),
            _ => false,
        };
        Ok(if can { self.locking() } else { self })
    }

    /// Whether objects can be locked where the vault is; `None`: the store may not be asked.
    ///
    /// # Errors
    /// It is in a directory.
    pub fn bucket_lock(&self) -> Result<Option<BucketLock>> {
        locking(self.store.as_ref())?.bucket_lock()
    }

    /// What no snapshot leads to, and without which none can be read.
    pub fn needed_by_all(&self) -> Result<Vec<ObjectName>> {
        let mut names = vec![ObjectName::vault_info()];
        if self.info().encryption.is_some() {
            let keys = self.store.list_all(&ObjectName::keys())?;
            names.extend(keys.into_iter().map(|key| key.name));
        }
        Ok(names)
    }

    /// Makes the locks of these objects as long as they must be, and hands how each stands to
    /// `take`, in order, whose error ends it. Each is asked for its lock first. With `only_look`
    /// nothing is locked. Several are asked at once where the store is good for it.
    pub fn lock_each(
        &self,
        targets: &[LockTarget],
        options: LockEach,
        cancel: &dyn Cancel,
        take: &mut dyn FnMut(&LockTarget, Result<LockSeen>) -> Result<()>,
    ) -> Result<()> {
        let LockEach { mode, only_look } = options;
        let store = locking(self.store.as_ref())?;
        let lock = |target: &LockTarget| {
            let found = store.retention(&target.name, None)?;
            let wanted = wanted(target, mode, found);
            let standing = match (wanted, found) {
                (None, _) => LockStanding::Stands,
                (Some(_), None) => LockStanding::Made,
                (Some(_), Some(_)) => LockStanding::Extended,
            };
            if let Some(wanted) = wanted.filter(|_| !only_look) {
                store.retain(&target.name, None, wanted)?;
            }
            Ok(LockSeen {
                standing,
                is_weaker: found.is_some_and(|found| found.mode < mode),
            })
        };
        ask_of_each(self.store.as_ref(), targets, cancel, lock, take)
    }

    /// Until when the store keeps a snapshot's manifest from being deleted; `None`: it does not, or
    /// the vault locks nothing, and then it is not asked.
    pub fn locked_until(
        &self,
        snapshot: &SnapshotRef,
        now: Timestamp,
    ) -> Result<Option<Timestamp>> {
        let (Some(_), Some(store)) = (self.info().lock, self.store.versioned()) else {
            return Ok(None);
        };
        match store.retention(&snapshot.manifest, None) {
            Ok(found) => Ok(found.map(|found| found.until).filter(|until| *until > now)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
