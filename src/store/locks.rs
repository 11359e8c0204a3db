//! Locks of what a vault's snapshots need, in a bucket that has them. Nothing is asked of a store
//! where the vault has none, and nothing is locked that comes and goes.

use super::ask::ask_size_of_each;
use super::catalog::SnapshotRef;
use super::lock_rules::{LockSeen, LockStanding, LockTarget, is_over, locking, wanted};
use super::object_name::ObjectName;
use super::object_store::BucketLock;
use super::vault::Vault;
use crate::error::{ErrorKind, Result};
use crate::model::{Cancel, LockMode, ObjectId};
use jiff::Timestamp;

/// How objects are locked.
#[derive(Clone, Copy, Debug)]
pub struct LockEach {
    /// Whom the lock holds off.
    pub mode: LockMode,
    /// The time now: what was locked until earlier is not locked.
    pub now: Timestamp,
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
            (Some(_), Some(store)) => matches!(
                store.bucket_lock()?,
                Some(BucketLock::Possible | BucketLock::ByDefault(_))
            ),
            _ => false,
        };
        Ok(if can { self.locking() } else { self })
    }

    /// What to tell of a second place in a bucket where nothing is locked, though the vault has a
    /// rule for locks. A directory locks nothing, as everybody knows.
    pub fn no_locks_there(&self) -> Result<Vec<String>> {
        let (Some(rule), Some(store)) = (self.info().lock, self.store.versioned()) else {
            return Ok(Vec::new());
        };
        let why = match store.bucket_lock()? {
            Some(BucketLock::Possible | BucketLock::ByDefault(_)) => return Ok(Vec::new()),
            Some(BucketLock::Never) => "its bucket has no object lock",
            None => {
                "these credentials may not ask whether its bucket can \
                 (s3:GetBucketObjectLockConfiguration)"
            }
        };
        let at = self.location();
        Ok(vec![format!(
            "{at}: what is put there is not locked ({rule}): {why}"
        )])
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

    /// Hands the name of each segment that is there to `each`, as the listing comes in.
    pub fn each_segment(&self, each: &mut dyn FnMut(ObjectId) -> Result<()>) -> Result<()> {
        self.store.list(&ObjectName::segments(), &mut |object| {
            let id = object.name.components().last();
            match id.and_then(|id| id.parse().ok()) {
                Some(id) => each(id),
                None => Ok(()),
            }
        })
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
        let LockEach {
            mode,
            now,
            only_look,
        } = options;
        let store = locking(self.store.as_ref())?;
        let lock = |target: &LockTarget| {
            let found = store.retention(&target.name)?;
            let found = found.filter(|found| !is_over(*found, now));
            let wanted = wanted(target, mode, found);
            let standing = match (wanted, found) {
                (None, _) => LockStanding::Stands,
                (Some(_), None) => LockStanding::Made,
                (Some(_), Some(_)) => LockStanding::Extended,
            };
            if let Some(wanted) = wanted.filter(|_| !only_look) {
                store.retain(&target.name, wanted)?;
            }
            Ok(LockSeen {
                standing,
                is_weaker: found.is_some_and(|found| found.mode < mode),
            })
        };
        ask_size_of_each(self.store.as_ref(), targets, cancel, lock, take)
    }

    /// Until when the store keeps each of these manifests from being deleted, handed to `take` in
    /// order. Several are asked for at once where the store is good for it.
    pub fn locked_until_each(
        &self,
        snapshots: &[SnapshotRef],
        now: Timestamp,
        cancel: &dyn Cancel,
        take: &mut dyn FnMut(&SnapshotRef, Option<Timestamp>),
    ) -> Result<()> {
        if self.info().lock.is_none() {
            return Ok(());
        }
        let ask = |snapshot: &SnapshotRef| self.locked_until(snapshot, now);
        let store = self.store.as_ref();
        ask_size_of_each(store, snapshots, cancel, ask, |snapshot, until| {
            take(snapshot, until?);
            Ok(())
        })
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
        match store.retention(&snapshot.manifest) {
            Ok(found) => Ok(found.map(|found| found.until).filter(|until| *until > now)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
