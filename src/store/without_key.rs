//! An encrypted vault as it is to who has no key: names, lengths, and bytes that can be carried to
//! another place once their hashes are found right. It must never open or seal anything.

use super::object_name::ObjectName;
use super::stored::StoredObject;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    FooterCopies, MAX_SEGMENT, ObjectKind, Trailer, check_sealed_segment, is_end_of,
};
use crate::model::{ObjectId, SnapshotId};
use std::collections::BTreeMap;

/// A sort of objects that are carried as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedFolder {
    /// Segments.
    Segments,
    /// Copies of footers.
    Footers,
    /// Index objects.
    Indexes,
    /// Manifests.
    Manifests,
}

impl SealedFolder {
    /// What a snapshot refers to comes before it.
    pub const IN_ORDER: [Self; 4] = [
        Self::Segments,
        Self::Footers,
        Self::Indexes,
        Self::Manifests,
    ];

    fn below(self) -> ObjectName {
        match self {
            Self::Segments => ObjectName::segments(),
            Self::Footers => ObjectName::copies_of_footers(),
            Self::Indexes => ObjectName::indexes(),
            Self::Manifests => ObjectName::snapshots(),
        }
    }

    /// Whether a writer gives such a name: what stands deeper, or under another, is none of the
    /// vault's.
    fn may_hold(self, name: &ObjectName) -> bool {
        let parts: Vec<&str> = name.components().collect();
        let is_id = |part: &str| part.parse::<ObjectId>().is_ok();
        let is_ulid = |part: &str| part.parse::<SnapshotId>().is_ok();
        match (self, parts.as_slice()) {
            (Self::Segments, [_, fold, id]) => is_id(id) && id.starts_with(fold),
            (Self::Footers, [_, run]) => run.split_once('-').is_some_and(|(run, part)| {
                is_ulid(run) && part.bytes().all(|byte| byte.is_ascii_digit())
            }),
            (Self::Indexes, [_, id]) => is_id(id),
            (Self::Manifests, [_, _, id]) => is_ulid(id),
            _ => false,
        }
    }

    /// Whether bytes are what was put under this name, as far as that can be said without a key.
    fn check(self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        let wrong = || Error::new(ErrorKind::Damaged, "it is not what its name says");
        let id = || -> Result<ObjectId> {
            let last = name.components().last().unwrap_or_default();
            last.parse().map_err(|_| wrong())
        };
        let is_whole = match self {
            Self::Segments => return check_sealed_segment(bytes, id()?).map(drop),
            Self::Footers => return check_copies(bytes),
            Self::Indexes => ObjectKind::Index.is_whole_and_sealed(Some(id()?), bytes),
            Self::Manifests => ObjectKind::Manifest.is_whole_and_sealed(None, bytes),
        };
        is_whole.then_some(()).ok_or_else(wrong)
    }

    fn most(self) -> u64 {
        match self {
            Self::Segments => MAX_SEGMENT,
            Self::Footers => FooterCopies::MAX_LEN,
            Self::Indexes => ObjectKind::Index.most_stored(),
            Self::Manifests => ObjectKind::Manifest.most_stored(),
        }
    }
}

/// Whether bytes are copies of footers, as far as that can be said without a key.
pub(super) fn check_copies(bytes: &[u8]) -> Result<()> {
    let copies = FooterCopies::decode(bytes, bytes.len() as u64)?;
    for (id, place) in copies.iter() {
        let copy = &bytes[place.start as usize..place.end as usize];
        if !is_end_of(copy, Trailer::of_copy(copy)?, id) {
            let what = format!("it is no copy of the end of segment {id}");
            return Err(Error::new(ErrorKind::Damaged, what));
        }
    }
    Ok(())
}

impl Vault {
    /// Whether it is encrypted, and was opened to be copied only.
    pub fn is_without_key(&self) -> bool {
        self.sealer().is_without_key()
    }

    /// The objects of a folder, and their lengths in bytes. What has no name of one is left out.
    pub fn sealed_objects(&self, folder: SealedFolder) -> Result<BTreeMap<ObjectName, u64>> {
        let mut found = BTreeMap::new();
        self.store.list(&folder.below(), &mut |object| {
            if folder.may_hold(&object.name) {
                found.insert(object.name, object.size);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// An object, checked as far as that can be done without a key.
    ///
    /// # Errors
    /// `Damaged`: it is not what its name says. `NotFound`: it was deleted.
    pub fn sealed_object(&self, folder: SealedFolder, name: &ObjectName) -> Result<StoredObject> {
        let bytes = self.store.get(name, folder.most())?;
        folder
            .check(name, &bytes)
            .map_err(|error| error.context(name.to_string()))?;
        Ok(StoredObject {
            name: name.clone(),
            bytes,
        })
    }
}
