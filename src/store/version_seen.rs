//! Versions that hold bytes, as a store names them, and those among them that a name proves. Which
//! of them was true at a time is not known here.

use super::object_name::ObjectName;
use super::object_store::{Blob, ObjectStore, ObjectVersion, VersionedStore, VersionsOf};
use crate::error::{Error, ErrorKind, Result};
use jiff::Timestamp;
use std::collections::VecDeque;

/// So many of the oldest versions of an object, and of the newest, are tried.
const TRIED_OF_EACH: usize = 16;

/// A version of an object that holds bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionSeen {
    /// The store's name of it.
    pub id: String,
    /// Its length in bytes.
    pub size: u64,
    /// What the store says of its bytes.
    pub etag: Option<String>,
    /// When it was put, by the store's clock.
    pub modified: Timestamp,
}

impl VersionSeen {
    /// `None`: it is a mark of deletion.
    pub(super) fn of(version: ObjectVersion) -> Option<Self> {
        Some(Self {
            size: version.size?,
            id: version.id,
            etag: version.etag,
            modified: version.modified,
        })
    }

    /// Whether the store says that both have the same bytes.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.etag.is_some() && self.etag == other.etag && self.size == other.size
    }
}

/// The store as one that may keep versions.
pub(super) fn kept_by(store: &dyn ObjectStore) -> Result<&dyn VersionedStore> {
    store.versioned().ok_or_else(|| {
        let what = format!(
            "{} is a directory: it keeps no versions of what was deleted or replaced",
            store.location()
        );
        Error::new(ErrorKind::Unsupported, what)
            .with_hint("a second place may have it: stillpoint repair --from VAULT")
    })
}

/// The bytes of any version of an object that are what `is_it` says, where the name proves them:
/// the oldest come first, as before the first true one nobody knows such a name. What cannot be
/// read is passed over. Of those of which the store says the same the oldest is tried.
pub(super) fn any_version(
    store: &dyn ObjectStore,
    name: &ObjectName,
    limit: u64,
    is_it: &dyn Fn(&Blob) -> bool,
) -> Result<Option<Blob>> {
    let mut newest: Vec<VersionSeen> = Vec::new();
    let mut oldest: VecDeque<VersionSeen> = VecDeque::new();
    let store = kept_by(store)?;
    store.list_versions(VersionsOf::One(name), &mut |version| {
        let seen = VersionSeen::of(version).filter(|seen| seen.size <= limit);
        let Some(seen) = seen else { return Ok(()) };
        // The older one counts: somebody may have put the same again where nobody can read it.
        newest.retain(|kept| !kept.says_the_same(&seen));
        oldest.retain(|kept| !kept.says_the_same(&seen));
        if oldest.is_empty() && newest.len() < TRIED_OF_EACH {
            newest.push(seen);
            return Ok(());
        }
        if oldest.len() == TRIED_OF_EACH {
            oldest.pop_front();
        }
        oldest.push_back(seen);
        Ok(())
    })?;
    for seen in oldest.iter().rev().chain(newest.iter().rev()) {
        match store.get_version(name, &seen.id, limit) {
            Ok(bytes) if is_it(&bytes) => return Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted(_)) => return Err(error),
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_words_of_the_store_are_of_equal_bytes_alone() {
        let [mut one, mut other] = ["a", "b"].map(|id| VersionSeen {
            id: id.into(),
            size: 1,
            etag: Some("\"x\"".into()),
            modified: Timestamp::UNIX_EPOCH,
        });
        assert!(one.says_the_same(&other));
        other.size = 2;
        assert!(!one.says_the_same(&other));
        (one.etag, other.etag, other.size) = (None, None, 1);
        assert!(!one.says_the_same(&other));
    }
}
