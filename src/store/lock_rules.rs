//! What the lock of an object is to become, and whether a place can lock. A lock is only ever made
//! longer, and never on anything but what snapshots need.

use super::object_name::ObjectName;
use super::object_store::{BucketLock, ObjectStore, VersionedStore};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{LockMode, LockRule, ObjectRetention};
use jiff::{SignedDuration, Timestamp};

/// A lock that ends so much too early is long enough: clocks differ.
const NEARLY: SignedDuration = SignedDuration::from_hours(1);

/// An object, and until when it must be locked.
#[derive(Clone, Debug)]
pub struct LockTarget {
    /// Its name.
    pub name: ObjectName,
    /// At least until then.
    pub until: Timestamp,
    /// Where it is to be locked longer, it is locked for so much more: what many snapshots need
    /// would be locked anew for each.
    pub ahead: SignedDuration,
}

/// How the lock of an object stands, or has been made to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockStanding {
    /// It was long enough.
    Stands,
    /// There was none.
    Made,
    /// It was made longer.
    Extended,
}

/// The lock of an object, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockSeen {
    /// How it stands.
    pub standing: LockStanding,
    /// Whether it holds off fewer than the rule would: a store changes the mode only for who may
    /// pass over it, so it stays as it is.
    pub is_weaker: bool,
}

/// Whether a lock is over, and holds off nobody: surely, for clocks differ.
pub(super) fn is_over(found: ObjectRetention, now: Timestamp) -> bool {
    now.duration_since(found.until) > NEARLY
}

/// What an object's lock is to become, of which it has one that is not over; `None`: it is long
/// enough. Its mode stays.
pub(super) fn wanted(
    target: &LockTarget,
    mode: LockMode,
    found: Option<ObjectRetention>,
) -> Option<ObjectRetention> {
    let is_long = |until: Timestamp| target.until.duration_since(until) <= NEARLY;
    let until = target.until.checked_add(target.ahead);
    let until = until.unwrap_or(Timestamp::MAX);
    match found {
        None => Some(ObjectRetention { mode, until }),
        Some(found) if is_long(found.until) => None,
        Some(found) => Some(ObjectRetention {
            mode: found.mode,
            until,
        }),
    }
}

/// The store as one that may lock.
pub(super) fn locking(store: &dyn ObjectStore) -> Result<&dyn VersionedStore> {
    store.versioned().ok_or_else(|| {
        let what = format!(
            "{} is a directory, and only a bucket can lock what is in it",
            store.location()
        );
        Error::new(ErrorKind::Unsupported, what)
            .with_hint("keep the vault, or its second place, in a bucket with object lock")
    })
}

/// Makes sure, as far as the store says, that what is put from here on is locked by this rule and
/// nothing else is; nothing has been put yet.
pub(super) fn begin_locking(store: &dyn ObjectStore, rule: LockRule) -> Result<()> {
    let versioned = locking(store)?;
    let refuse = |why: String, hint: &str| {
        let what = format!("{}: {why}; no vault was made", store.location());
        Err(Error::new(ErrorKind::Unsupported, what).with_hint(hint))
    };
    match versioned.bucket_lock()? {
        Some(BucketLock::Never) => refuse(
            "the bucket has no object lock".into(),
            "most stores have it only for buckets that were made with it: aws s3api \
             create-bucket --object-lock-enabled-for-bucket ...; or leave --lock out",
        ),
        Some(BucketLock::ByDefault(time)) => refuse(
            format!(
                "the bucket locks everything by default ({time}), also the notes of runs and \
                 collectors, which come and go"
            ),
            "take the default retention away (put-object-lock-configuration): the vault locks \
             what snapshots need",
        ),
        Some(BucketLock::Possible) | None => {
            versioned.lock_what_is_put(rule);
            Ok(())
        }
    }
}

/// Makes sure that the store has kept the lock of what was put first.
pub(super) fn confirm_locked(store: &dyn ObjectStore, rule: LockRule) -> Result<()> {
    let name = ObjectName::vault_info();
    let target = LockTarget {
        name: name.clone(),
        until: Timestamp::now()
            .checked_add(rule.time())
            .unwrap_or(Timestamp::MAX),
        ahead: SignedDuration::ZERO,
    };
    let found = locking(store)?.retention(&name)?;
    let is_strong = found.is_some_and(|found| found.mode >= rule.mode);
    if is_strong && wanted(&target, rule.mode, found).is_none() {
        return Ok(());
    }
    // Nothing keeps it.
    let _ = store.delete(&name);
    let what = format!(
        "{}: the store took an object that was to be locked, and does not say that it is; no \
         vault was made",
        store.location()
    );
    Err(Error::new(ErrorKind::Unsupported, what).with_hint(
        "the credentials need s3:GetObjectRetention to see locks; or the store has none: leave \
         --lock out",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    #[test]
    fn the_mode_of_a_lock_that_is_over_does_not_count() {
        let lock = ObjectRetention {
            mode: LockMode::Governance,
            until: at(100),
        };
        for (hours, over) in [(0, false), (100, false), (101, false), (102, true)] {
            assert_eq!(is_over(lock, at(hours)), over, "{hours}");
        }
    }

    #[test]
    fn a_lock_is_never_made_shorter_and_keeps_its_mode() {
        let target = LockTarget {
            name: ObjectName::vault_info(),
            until: at(100),
            ahead: SignedDuration::from_hours(24),
        };
        let lock = |mode, hours| ObjectRetention {
            mode,
            until: at(hours),
        };
        use LockMode::{Compliance, Governance};
        for (mode, found, becomes) in [
            (Governance, None, Some(lock(Governance, 124))),
            (Governance, Some(lock(Governance, 99)), None),
            (
                Governance,
                Some(lock(Governance, 98)),
                Some(lock(Governance, 124)),
            ),
            (Governance, Some(lock(Governance, 500)), None),
            (Governance, Some(lock(Compliance, 99)), None),
            (
                Governance,
                Some(lock(Compliance, 10)),
                Some(lock(Compliance, 124)),
            ),
            // No store makes it stronger for who may not pass over it.
            (Compliance, Some(lock(Governance, 500)), None),
            (
                Compliance,
                Some(lock(Governance, 10)),
                Some(lock(Governance, 124)),
            ),
        ] {
            assert_eq!(wanted(&target, mode, found), becomes, "{mode:?} {found:?}");
        }
    }
}
