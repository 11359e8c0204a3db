//! A bucket as it stood at a time, out of the versions that it keeps, as a store that is only read:
//! of each object the version that was the newest right before, by the store's own times and order.
//! What a mark of deletion had hidden then was not there. So nothing that came later has a say in
//! what is read, but for index objects, which their names prove: of one that was not whole then any
//! version is read that is. Nothing is ever put through it.

use super::object_name::ObjectName;
use super::object_store::{Blob, Capabilities, ObjectInfo, ObjectStore, ObjectVersion, VersionsOf};
use super::version_seen::{VersionSeen, any_version, kept_by};
use crate::error::{Error, ErrorKind, Result};
use crate::format::ObjectKind;
use crate::model::{ObjectId, RequestCounts};
use crate::sys::locked::LockExt;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// How an object stood at a time, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stood {
    /// Its name.
    pub name: ObjectName,
    /// What was the newest then; `None`: it was not there.
    pub then: Option<VersionSeen>,
    /// What the store gives now; `None`: it is not there.
    pub now: Option<VersionSeen>,
    /// Whether a version of it was put later.
    pub is_later: bool,
    /// Whether anything was done to it later: it was put, or deleted.
    pub is_touched: bool,
    /// What had been put under its name before that time.
    pub before: PutBefore,
}

/// What had been put under a name before a time. A name is used once: where it was not, somebody
/// has repaired what lay there, or was there for no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBefore {
    /// Nothing.
    Nothing,
    /// One thing, once or more often.
    OneThing,
    /// Things of which the store does not say that they are one.
    Several,
}

/// Gathers the versions of one object after another, each in the memory of two.
struct Gathering {
    at: Timestamp,
    one: Option<Stood>,
    /// The newest of that time was seen, a version or a mark.
    is_known: bool,
    /// A version that was put before that time.
    put: Option<VersionSeen>,
}

impl Gathering {
    /// Adds a version; of each object the newest comes first. Returns the object before, where
    /// this is another one.
    fn add(&mut self, version: ObjectVersion) -> Result<Option<Stood>> {
        let before = match &self.one {
            Some(one) if one.name == version.name => None,
            // The same name again later would be another object's half.
            Some(one) if one.name > version.name => return Err(not_in_order(&version.name)),
            _ => self.one.take(),
        };
        if self.one.is_none() {
            self.is_known = false;
            self.put = None;
        }
        let one = self.one.get_or_insert_with(|| Stood {
            name: version.name.clone(),
            then: None,
            now: None,
            is_later: false,
            is_touched: false,
            before: PutBefore::Nothing,
        });
        let (modified, is_current) = (version.modified, version.is_current);
        let seen = VersionSeen::of(version);
        if is_current {
            one.now.clone_from(&seen);
        }
        if modified >= self.at {
            one.is_later |= seen.is_some();
            one.is_touched = true;
            // By the store's order what lies above is younger, whatever its time says.
            one.then = None;
            self.is_known = false;
            return Ok(before);
        }
        if let Some(seen) = &seen {
            let put = self.put.get_or_insert_with(|| seen.clone());
            let is_one = put.id == seen.id || put.says_the_same(seen);
            one.before = match (one.before, is_one) {
                (PutBefore::Nothing | PutBefore::OneThing, true) => PutBefore::OneThing,
                _ => PutBefore::Several,
            };
        }
        if !self.is_known || is_put_again(one.then.as_ref(), seen.as_ref()) {
            self.is_known = true;
            one.then = seen;
        }
        Ok(before)
    }
}

/// Whether a version was put in parts, over one that was not: it bears the time at which somebody
/// began that, and this program puts nothing so.
fn is_put_again(above: Option<&VersionSeen>, below: Option<&VersionSeen>) -> bool {
    let in_parts = |seen: &VersionSeen| seen.etag.as_ref().is_some_and(|etag| etag.contains('-'));
    above.is_some_and(in_parts) && below.is_some_and(|below| !in_parts(below))
}

fn not_in_order(name: &ObjectName) -> Error {
    let what = format!("the store lists versions in no order: {name} comes too late");
    Error::new(ErrorKind::Unsupported, what)
        .with_hint("nothing was put; this store cannot say what it keeps")
}

/// Hands each of these objects to `each`, as it stood `at` that time and as it stands: also those
/// of which there is nothing left but marks.
pub(super) fn each_stood(
    store: &dyn ObjectStore,
    of: VersionsOf<'_>,
    at: Timestamp,
    each: &mut dyn FnMut(Stood) -> Result<()>,
) -> Result<()> {
    let mut gathering = Gathering {
        at,
        one: None,
        is_known: false,
        put: None,
    };
    kept_by(store)?.list_versions(of, &mut |version| match gathering.add(version)? {
        Some(one) => each(one),
        None => Ok(()),
    })?;
    gathering.one.map_or(Ok(()), each)
}

/// A store as it stood at a time.
pub(super) struct AsOfStore {
    inner: Arc<dyn ObjectStore>,
    at: Timestamp,
    /// What was listed, so that nobody asks for it again.
    known: Mutex<HashMap<ObjectName, VersionSeen>>,
}

impl AsOfStore {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, at: Timestamp) -> Self {
        Self {
            inner,
            at,
            known: Mutex::default(),
        }
    }

    /// Remembers how an object stood, for who reads it next.
    pub(super) fn learn(&self, stood: &Stood) {
        if let Some(then) = &stood.then {
            self.known.locked().insert(stood.name.clone(), then.clone());
        }
    }

    /// How an object stood, and stands.
    pub(super) fn stood(&self, name: &ObjectName) -> Result<Option<Stood>> {
        let mut found = None;
        each_stood(
            self.inner.as_ref(),
            VersionsOf::One(name),
            self.at,
            &mut |one| {
                found = Some(one);
                Ok(())
            },
        )?;
        Ok(found)
    }

    fn version(&self, name: &ObjectName) -> Result<VersionSeen> {
        if let Some(known) = self.known.locked().get(name) {
            return Ok(known.clone());
        }
        let found = self.stood(name)?.and_then(|one| one.then);
        found.ok_or_else(|| {
            let what = format!("{name} was not there at {:.0}", self.at);
            Error::new(ErrorKind::NotFound, what)
        })
    }

    fn get_then(&self, name: &ObjectName, limit: u64) -> Result<Blob> {
        let VersionSeen { id, size, .. } = self.version(name)?;
        if size > limit {
            let what = format!("{name} is longer than an object of its kind can be");
            return Err(Error::new(ErrorKind::Damaged, what));
        }
        kept_by(self.inner.as_ref())?.get_version(name, &id, limit)
    }

    fn whole(&self, name: &ObjectName) -> Result<Blob> {
        let VersionSeen { id, size, .. } = self.version(name)?;
        kept_by(self.inner.as_ref())?.get_version(name, &id, size)
    }
}

/// The ID of an index object, which proves its bytes.
fn index_id(name: &ObjectName) -> Option<ObjectId> {
    let id = name.components().last()?.parse().ok()?;
    (ObjectName::index(id) == *name).then_some(id)
}

fn only_read() -> Error {
    let what = "nothing can be put into a vault as it stood at a time";
    Error::new(ErrorKind::Unsupported, what)
}

fn cut_short(name: &ObjectName) -> Error {
    Error::new(ErrorKind::Damaged, format!("{name} is cut short"))
}

impl ObjectStore for AsOfStore {
    fn location(&self) -> String {
        format!("{} as at {:.0}", self.inner.location(), self.at)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn put(&self, _name: &ObjectName, _bytes: Blob) -> Result<()> {
        Err(only_read())
    }

    fn replace(&self, _name: &ObjectName, _bytes: Blob) -> Result<()> {
        Err(only_read())
    }

    fn delete(&self, _name: &ObjectName) -> Result<()> {
        Err(only_read())
    }

    /// What stood then; of an index object that was not whole then any version that is.
    fn get(&self, name: &ObjectName, limit: u64) -> Result<Blob> {
        let got = self.get_then(name, limit);
        let Some(id) = index_id(name) else { return got };
        let is_it = |bytes: &Blob| ObjectKind::Index.is_whole(Some(id), bytes);
        match got {
            Ok(bytes) if is_it(&bytes) => Ok(bytes),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted(_)) => Err(error),
            got => any_version(self.inner.as_ref(), name, limit, &is_it)?.map_or(got, Ok),
        }
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: u64) -> Result<Blob> {
        let bytes = self.whole(name)?;
        let end = offset.checked_add(length);
        let end = end.filter(|end| *end <= bytes.len() as u64);
        let end = end.ok_or_else(|| cut_short(name))?;
        Ok(bytes.slice(offset as usize..end as usize))
    }

    fn get_tail(&self, name: &ObjectName, length: u64) -> Result<(Blob, u64)> {
        let bytes = self.whole(name)?;
        let whole = bytes.len();
        let start = whole.saturating_sub(length as usize);
        Ok((bytes.slice(start..), whole as u64))
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        self.version(name).map(|version| version.size)
    }

    fn list(
        &self,
        prefix: &ObjectName,
        each: &mut dyn FnMut(ObjectInfo) -> Result<()>,
    ) -> Result<()> {
        each_stood(
            self.inner.as_ref(),
            VersionsOf::Below(prefix),
            self.at,
            &mut |one| match one.then {
                Some(VersionSeen { size, modified, .. }) => each(ObjectInfo {
                    name: one.name,
                    size,
                    modified,
                }),
                None => Ok(()),
            },
        )
    }

    fn requests(&self) -> Option<RequestCounts> {
        self.inner.requests()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    /// Versions of one object, the newest first: what a version is called, and when it was put; no
    /// name: a mark.
    fn stood(time: i64, versions: &[(&str, i64)]) -> Stood {
        let mut gathering = Gathering {
            at: at(time),
            one: None,
            is_known: false,
            put: None,
        };
        for (number, (id, modified)) in versions.iter().enumerate() {
            let version = ObjectVersion {
                name: ObjectName::vault_info(),
                id: (*id).into(),
                size: (!id.is_empty()).then_some(1),
                etag: None,
                modified: at(*modified),
                is_current: number == 0,
            };
            assert_eq!(gathering.add(version).unwrap(), None);
        }
        gathering.one.unwrap()
    }

    #[test]
    fn what_was_the_newest_at_a_time_is_what_stood_then() {
        let then = |time, versions: &[(&str, i64)]| {
            let one = stood(time, versions);
            let id = |version: Option<VersionSeen>| version.map(|version| version.id);
            (id(one.then), id(one.now))
        };
        let some = |id: &str| Some(id.to_owned());
        // Put over, and deleted, and put again, later.
        let all = [("d", 40), ("", 30), ("b", 20), ("a", 10)];
        // What was done in that very second was not done before it: a thief's first deed.
        assert_eq!(then(10, &all), (None, some("d")));
        assert_eq!(then(11, &all), (some("a"), some("d")));
        assert_eq!(then(30, &all), (some("b"), some("d")));
        assert_eq!(then(25, &all), (some("b"), some("d")));
        // What was deleted then was not there, whatever had been.
        assert_eq!(then(35, &all), (None, some("d")));
        assert_eq!(then(40, &all), (None, some("d")));
        assert_eq!(then(41, &all), (some("d"), some("d")));
        assert_eq!(then(15, &[("", 30), ("a", 10)]), (some("a"), None));
        // The store's order goes before its times: what lies above a younger one is younger.
        let all = [("c", 12), ("b", 20), ("a", 14)];
        assert_eq!(then(15, &all), (some("a"), some("c")));
    }

    #[test]
    fn more_than_one_thing_under_a_name_is_seen() {
        use PutBefore::{Nothing, OneThing, Several};
        let before = |time, versions: &[(&str, i64)]| stood(time, versions).before;
        let all = [("d", 40), ("", 30), ("b", 20), ("a", 10)];
        // The store says nothing of their bytes.
        let seen = [10, 20, 30, 41].map(|time| before(time, &all));
        assert_eq!(seen, [Nothing, OneThing, Several, Several]);
        assert_eq!(before(50, &[("", 30), ("a", 10)]), OneThing);
    }

    #[test]
    fn what_was_put_in_parts_over_what_was_not_counts_for_nothing() {
        let seen = |etag: &str| VersionSeen {
            id: "x".into(),
            size: 1,
            etag: Some(etag.into()),
            modified: at(1),
        };
        let (parts, whole) = (seen("\"0a-2\""), seen("\"0a\""));
        assert!(is_put_again(Some(&parts), Some(&whole)));
        for (above, below) in [
            (Some(&whole), Some(&parts)),
            (Some(&parts), Some(&parts)),
            (Some(&parts), None),
            (None, Some(&whole)),
        ] {
            assert!(!is_put_again(above, below), "{above:?} {below:?}");
        }
    }

    #[test]
    fn versions_that_come_in_no_order_are_refused() {
        let mut gathering = Gathering {
            at: at(1),
            one: None,
            is_known: false,
            put: None,
        };
        let mut add = |name: &str| {
            gathering.add(ObjectVersion {
                name: ObjectName::parse(name).unwrap(),
                id: "x".into(),
                size: Some(1),
                etag: None,
                modified: at(1),
                is_current: true,
            })
        };
        assert_eq!(add("index/b").unwrap(), None);
        assert!(add("index/c").unwrap().is_some());
        assert_eq!(add("index/a").unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
