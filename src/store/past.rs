//! A vault as it stood at a time beside the vault as it is, both behind one key: what stood then,
//! whether it stands still, and its bytes, checked. What came later is believed nothing: neither
//! its `vault.json` nor its keys. Nothing is put or deleted here.

use super::as_of::{AsOfStore, PutBefore, Stood, each_stood};
use super::catalog::{SnapshotRef, named_by};
use super::key_source::KeySource;
use super::keyring::{self, Opened};
use super::location::Location;
use super::object_name::ObjectName;
use super::object_store::{Blob, KeepsVersions, ObjectStore, VersionsOf};
use super::stored::StoredObject;
use super::vault::Vault;
use super::version_seen::{any_version, kept_by};
use super::without_key::check_copies;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    FooterCopies, KeyEntry, MAX_SEGMENT, ObjectKind, VaultInfo, check_sealed_segment,
};
use crate::model::ObjectId;
use jiff::Timestamp;
use std::sync::Arc;

/// A sort of objects that snapshots need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeededSort {
    /// `vault.json`.
    Info,
    /// Keys of an encrypted vault.
    Keys,
    /// Segments.
    Segments,
    /// Index objects.
    Indexes,
    /// Copies of footers.
    Footers,
    /// Manifests.
    Manifests,
}

impl NeededSort {
    /// Whether the name of such an object proves its bytes.
    pub fn is_proven(self) -> bool {
        matches!(self, Self::Segments | Self::Indexes)
    }

    fn most(self) -> u64 {
        match self {
            Self::Info => VaultInfo::MAX_LEN,
            Self::Keys => ObjectKind::Key.most_stored(),
            Self::Segments => MAX_SEGMENT,
            Self::Indexes => ObjectKind::Index.most_stored(),
            Self::Footers => FooterCopies::MAX_LEN,
            Self::Manifests => ObjectKind::Manifest.most_stored(),
        }
    }
}

/// A vault as it stood, and as it is.
pub struct PastVault {
    /// As it stood: it is only read.
    pub then: Vault,
    /// As it is. What it is called, and its keys, are those of then.
    pub now: Vault,
    /// The time: a whole second, as stores say no more. What was done in it came later.
    pub at: Timestamp,
    /// Whether versions are kept there now.
    pub keeps: KeepsVersions,
    as_of: Arc<AsOfStore>,
}

/// Opens the vault at a place as it stood at a time, by a key of then.
///
/// # Errors
/// Nothing was put. The place keeps no versions; there was no vault then; the key opens none.
pub fn open_as_it_stood(place: &Location, at: Timestamp) -> Result<PastVault> {
    PastVault::open_by(place.open_store()?, place.key(), at)
}

fn open_by(store: Arc<dyn ObjectStore>, key: &KeySource, at: Timestamp) -> Result<PastVault> {
    let keeps = kept_by(store.as_ref())?.keeps_versions()?;
    if keeps == KeepsVersions::Never {
        return Err(keeps_none(store.as_ref()));
    }
    let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
    let as_of = Arc::new(AsOfStore::new(Arc::clone(&store), at));
    let info = as_of.get(&ObjectName::vault_info(), VaultInfo::MAX_LEN);
    let info = info.and_then(|bytes| VaultInfo::decode(&bytes));
    let info = info.map_err(|error| no_vault_then(error, at))?;
    let opened = keyring::unlock(as_of.as_ref(), &info, key);
    let opened = opened.map_err(|error| match info.encryption {
        Some(_) => error.and_said("it takes a passphrase or key of then; nothing was put"),
        None => error,
    })?;
    if opened.is_missing {
        let what = "without a key it is not known what the vault's snapshots need";
        return Err(Error::new(ErrorKind::Unsupported, what).with_hint("name a key of the vault"));
    }
    let shared = Opened {
        keys: opened.keys.clone(),
        ..opened
    };
    Ok(PastVault {
        then: Vault::new(
            Arc::clone(&as_of) as Arc<dyn ObjectStore>,
            info.clone(),
            opened,
        ),
        now: Vault::new(store, info, shared).locking(),
        at,
        keeps,
        as_of,
    })
}

fn keeps_none(store: &dyn ObjectStore) -> Error {
    let what = format!(
        "{}: the bucket keeps no versions: what was deleted or replaced there is gone",
        store.location()
    );
    Error::new(ErrorKind::Unsupported, what)
        .with_hint("a second place may have it: stillpoint repair --from VAULT")
}

fn no_vault_then(error: Error, at: Timestamp) -> Error {
    match error.kind() {
        ErrorKind::NotFound => {
            let what = format!("by the store's times there was no vault there before {at:.0}");
            Error::new(ErrorKind::NotFound, what).with_hint(
                "nothing was put; give a time at which it was whole: after `init`, and before the \
                 first thing that somebody else did. Or is the place another one?",
            )
        }
        _ => error.context(format!("vault.json as it stood at {at:.0}")),
    }
}

fn is_stopped(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted(_))
}

fn id_of(name: &ObjectName) -> Option<ObjectId> {
    name.components().last()?.parse().ok()
}

impl PastVault {
    /// The same as [`open_as_it_stood`], of a vault in `store`.
    pub fn open_by(store: Arc<dyn ObjectStore>, key: &KeySource, at: Timestamp) -> Result<Self> {
        open_by(store, key, at)
    }

    /// How an object stood and stands, in the word of a listing of its own.
    pub fn one_stood(&self, name: &ObjectName) -> Result<Option<Stood>> {
        self.as_of.stood(name)
    }

    /// Hands what is or was in a folder to `each`, in the order of names; `each` must not ask the
    /// store for anything.
    pub fn each_stood(
        &self,
        folder: &ObjectName,
        each: &mut dyn FnMut(Stood) -> Result<()>,
    ) -> Result<()> {
        let of = VersionsOf::Below(folder);
        each_stood(self.now.store.as_ref(), of, self.at, each)
    }

    /// How `vault.json` stood and stands.
    pub fn info_stood(&self) -> Result<Option<Stood>> {
        self.as_of.stood(&ObjectName::vault_info())
    }

    /// Whether the `vault.json` of then is not the one that this vault was made with: nothing ever
    /// changes it, and nobody knows a vault's ID before the first one is there.
    pub fn is_info_another(&self) -> Result<bool> {
        let name = ObjectName::vault_info();
        let before = self.info_stood()?.map(|stood| stood.before);
        if before != Some(PutBefore::Several) {
            return Ok(false);
        }
        let id = self.then.info().id;
        let is_it = |bytes: &Blob| VaultInfo::decode(bytes).is_ok_and(|info| info.id == id);
        let store = self.now.store.as_ref();
        let first = any_version(store, &name, VaultInfo::MAX_LEN, &is_it)?;
        let first = first.and_then(|bytes| VaultInfo::decode(&bytes).ok());
        Ok(first.is_some_and(|first| first != *self.then.info()))
    }

    /// Remembers where the bytes of then are, for who reads them by their name.
    pub fn learn(&self, stood: &Stood) {
        self.as_of.learn(stood);
    }

    /// The snapshot of which this is the manifest; other names in that folder are none of the
    /// vault's.
    pub fn snapshot_named(&self, name: &ObjectName) -> Option<SnapshotRef> {
        named_by(name.clone())
    }

    /// Whether an object stands as it stood: it is the same version, or one of which the store says
    /// the same and that can be read. Others may be equal, too.
    pub fn stands(&self, stood: &Stood) -> Result<bool> {
        let (Some(then), Some(now)) = (&stood.then, &stood.now) else {
            return Ok(false);
        };
        if then == now {
            return Ok(true);
        }
        if !then.says_the_same(now) || now.size == 0 {
            return Ok(false);
        }
        // The same bytes may have been put by somebody else's key, or into an archive.
        match self.now.store.get_range(&stood.name, 0, 1) {
            Ok(_) => Ok(true),
            Err(error) if is_stopped(&error) => Err(error),
            // Whatever it is: the version of then is at hand.
            Err(_) => Ok(false),
        }
    }

    /// What stood under a name, if these bytes can be what this vault has put there.
    pub fn bytes_then(&self, sort: NeededSort, stood: &Stood) -> Result<StoredObject> {
        let name = &stood.name;
        let then = stood.then.as_ref();
        let then = then.ok_or_else(|| Error::new(ErrorKind::NotFound, "it was not there"))?;
        let store = kept_by(self.now.store.as_ref())?;
        let got = store.get_version(name, &then.id, sort.most());
        let checked = got.and_then(|bytes| {
            self.check(sort, name, &bytes)?;
            Ok(bytes)
        });
        let bytes = checked.map_err(|error| error.context(format!("version {}", then.id)))?;
        let name = name.clone();
        Ok(StoredObject { name, bytes })
    }

    /// The bytes of any version that there is of an object, if its name proves them; `None`: none
    /// of those that were tried.
    pub fn bytes_proven(
        &self,
        sort: NeededSort,
        name: &ObjectName,
    ) -> Result<Option<StoredObject>> {
        let is_it = |bytes: &Blob| self.check(sort, name, bytes).is_ok();
        let found = any_version(self.now.store.as_ref(), name, sort.most(), &is_it)?;
        let name = name.clone();
        Ok(found.map(|bytes| StoredObject { name, bytes }))
    }

    /// Whether an object that stands now, as another version, has just these bytes. What cannot be
    /// read has not.
    pub fn has_now(&self, sort: NeededSort, object: &StoredObject) -> Result<bool> {
        let now = self.bytes_now(sort, &object.name)?;
        Ok(now.is_some_and(|now| now == object.bytes))
    }

    /// Whether what stands now can be what this vault has put there: by its name or its own words.
    pub fn is_whole_now(&self, sort: NeededSort, name: &ObjectName) -> Result<bool> {
        let now = self.bytes_now(sort, name)?;
        Ok(now.is_some_and(|now| self.check(sort, name, &now).is_ok()))
    }

    fn bytes_now(&self, sort: NeededSort, name: &ObjectName) -> Result<Option<Blob>> {
        self.now.store.forget(name);
        match self.now.store.get(name, sort.most()) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_stopped(&error) => Err(error),
            Err(_) => Ok(None),
        }
    }

    fn check(&self, sort: NeededSort, name: &ObjectName, bytes: &Blob) -> Result<()> {
        let damaged = || Error::new(ErrorKind::Damaged, "it is not what its name says");
        let sure = |is_so: bool| if is_so { Ok(()) } else { Err(damaged()) };
        let is_sealed = self.then.info().encryption.is_some();
        let id = || id_of(name).ok_or_else(damaged);
        match sort {
            NeededSort::Info => VaultInfo::decode(bytes).map(drop),
            NeededSort::Keys => KeyEntry::decode(bytes, self.then.info().id).map(drop),
            NeededSort::Indexes if is_sealed => {
                sure(ObjectKind::Index.is_whole_and_sealed(Some(id()?), bytes))
            }
            NeededSort::Indexes => sure(ObjectKind::Index.is_whole(Some(id()?), bytes)),
            NeededSort::Footers => check_copies(bytes),
            NeededSort::Segments if is_sealed => check_sealed_segment(bytes, id()?).map(drop),
            NeededSort::Segments => self.then.segments.judge(id()?, bytes.clone()).map(drop),
            NeededSort::Manifests => {
                let snapshot = named_by(name.clone()).ok_or_else(damaged)?;
                self.then.decode(&snapshot, bytes).map(drop)
            }
        }
    }
}
