//! Which snapshots a vault has, and their manifests. A snapshot exists when its manifest does.

use super::ask::ask_of_each;
use super::object_name::ObjectName;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Manifest, ManifestHash, ObjectKind};
use crate::model::{Bytes, Cancel, SnapshotId};
use crate::sys::locked::{LockExt, LockResultExt};
use jiff::Timestamp;
use std::sync::Mutex;

const HINT: &str = "see what there is with: stillpoint list";
/// Most names like one that was given whose manifests are read. A name has one successor, usually.
const MOST_AKIN: usize = 16;

/// A snapshot that exists; its manifest has not been read yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotRef {
    /// Its name.
    pub id: SnapshotId,
    /// Its manifest's name.
    pub(super) manifest: ObjectName,
}

impl SnapshotRef {
    /// The name of its manifest.
    pub fn manifest_name(&self) -> &ObjectName {
        &self.manifest
    }

    /// What sorts before all names that are like this one, on whichever host.
    pub fn first_like(&self) -> Self {
        let id = self.id.common_part();
        let manifest = ObjectName::snapshots();
        Self { id, manifest }
    }

    /// The part of its manifest's name that stands for the host.
    pub fn host(&self) -> Option<&str> {
        self.manifest.components().nth(1)
    }

    #[cfg(test)]
    pub(super) fn named(host: &str, id: SnapshotId) -> Self {
        let manifest = ObjectName::manifest(host, id);
        Self { id, manifest }
    }
}

/// A snapshot that exists, and what the store says of its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// Which one.
    pub snapshot: SnapshotRef,
    /// When its manifest came, by the store's clock, and no host's.
    pub received: Timestamp,
    /// How long its manifest is.
    pub length: Bytes,
}

/// A manifest, and which bytes it is.
pub struct HashedManifest {
    /// What it says.
    pub manifest: Manifest,
    /// Its hash.
    pub hash: ManifestHash,
}

/// The snapshot whose manifest has this name; other names are not of the vault.
pub(super) fn named_by(manifest: ObjectName) -> Option<SnapshotRef> {
    let below_host: Vec<&str> = manifest.components().skip(2).collect();
    let [id] = below_host[..] else {
        return None;
    };
    let id = id.parse().ok()?;
    Some(SnapshotRef { id, manifest })
}

impl Vault {
    /// All snapshots, by their names; [`super::History`] knows their order in time.
    pub fn snapshots(&self) -> Result<Vec<SnapshotRef>> {
        self.snapshots_below(&ObjectName::snapshots())
    }

    /// The snapshots of one host, by their names: what this version has taken is in the order in
    /// which it was begun.
    pub fn snapshots_of(&self, host: &str) -> Result<Vec<SnapshotRef>> {
        self.snapshots_below(&ObjectName::host(host))
    }

    /// All snapshots, or those of one host, by their names, with the store's own times.
    pub fn stored_snapshots(&self, host: Option<&str>) -> Result<Vec<StoredSnapshot>> {
        let prefix = host.map_or_else(ObjectName::snapshots, ObjectName::host);
        let mut found = Vec::new();
        self.store.list(&prefix, &mut |object| {
            let (received, length) = (object.modified, Bytes(object.size));
            found.extend(named_by(object.name).map(|snapshot| StoredSnapshot {
                snapshot,
                received,
                length,
            }));
            Ok(())
        })?;
        found.sort_by_key(|one: &StoredSnapshot| one.snapshot.id);
        Ok(found)
    }

    fn snapshots_below(&self, prefix: &ObjectName) -> Result<Vec<SnapshotRef>> {
        let mut found = Vec::new();
        self.store.list(prefix, &mut |object| {
            found.extend(named_by(object.name));
            Ok(())
        })?;
        found.sort_by_key(|snapshot: &SnapshotRef| snapshot.id);
        Ok(found)
    }

    /// Reads a snapshot's manifest.
    pub fn manifest(&self, snapshot: &SnapshotRef) -> Result<Manifest> {
        self.manifest_hashed(snapshot).map(|hashed| hashed.manifest)
    }

    /// The same, and which bytes it is.
    pub fn manifest_hashed(&self, snapshot: &SnapshotRef) -> Result<HashedManifest> {
        let most = ObjectKind::Manifest.most_stored();
        self.decode_hashed(snapshot, &self.store.get(&snapshot.manifest, most)?)
    }

    pub(super) fn decode_hashed(
        &self,
        snapshot: &SnapshotRef,
        bytes: &[u8],
    ) -> Result<HashedManifest> {
        let manifest = self.decode(snapshot, bytes)?;
        let hash = ManifestHash::of(bytes);
        Ok(HashedManifest { manifest, hash })
    }

    pub(super) fn decode(&self, snapshot: &SnapshotRef, bytes: &[u8]) -> Result<Manifest> {
        let manifest = Manifest::decode(bytes, self.sealer(), snapshot.id, self.info().id);
        let manifest = manifest.map_err(|error| {
            self.store.forget(&snapshot.manifest);
            error.context(format!("snapshot {}", snapshot.id))
        })?;
        if ObjectName::manifest(&manifest.host, manifest.snapshot) != snapshot.manifest {
            return Err(Error::new(
                ErrorKind::Damaged,
                format!("snapshot {} stands under another host's name", snapshot.id),
            ));
        }
        Ok(manifest)
    }

    /// The snapshot that `text` names: an ID, or the start of just one.
    pub fn find(&self, text: &str) -> Result<SnapshotRef> {
        let wanted = text.to_ascii_uppercase();
        let all = self.snapshots()?;
        let begins = |one: &&SnapshotRef| one.id.to_string().starts_with(&wanted);
        let mut matching: Vec<SnapshotRef> = all.iter().filter(begins).cloned().collect();
        if matching.is_empty()
            && let Ok(former) = wanted.parse()
        {
            matching = self.renamed(&all, former);
        }
        let mut matching = matching.into_iter();
        match (matching.next(), matching.next()) {
            _ if text.is_empty() => {
                Err(Error::new(ErrorKind::Usage, "an empty ID names no snapshot").with_hint(HINT))
            }
            (None, _) => Err(Error::new(
                ErrorKind::NotFound,
                format!("no snapshot {text:?} in the vault {}", self.location()),
            )
            .with_hint(HINT)),
            (Some(only), None) => Ok(only),
            (Some(one), Some(two)) => Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "{text:?} could be {} or {}, and maybe others",
                    one.id, two.id
                ),
            )
            .with_hint("give more of the ID")),
        }
    }

    /// The snapshots that have borne this name, as they say themselves: that a name is like theirs
    /// is not enough, as a mistyped one is.
    fn renamed(&self, all: &[SnapshotRef], former: SnapshotId) -> Vec<SnapshotRef> {
        let akin = all.iter().filter(|one| one.id.is_akin_to(former));
        let bore = |one: &&SnapshotRef| {
            let manifest = self.manifest(one);
            manifest.is_ok_and(|manifest| manifest.borne().any(|name| name == former))
        };
        akin.take(MOST_AKIN).filter(bore).cloned().collect()
    }

    /// The snapshots of which the newest is meant by `latest` on the host `home`: that host's,
    /// where it has any; of several other hosts it means none. At least one.
    pub fn meant_by_latest(&self, home: &str) -> Result<Vec<SnapshotRef>> {
        let own = self.snapshots_of(home)?;
        if !own.is_empty() {
            return Ok(own);
        }
        let all = self.snapshots()?;
        let first = all.first().ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the vault has no snapshot yet").with_hint(HINT)
        })?;
        if all.iter().all(|one| one.host() == first.host()) {
            return Ok(all);
        }
        Err(Error::new(
            ErrorKind::Usage,
            format!(
                "{} has snapshots of several hosts, and none of {home}",
                self.location()
            ),
        )
        .with_hint("name one by its ID: stillpoint list --host HOST shows those of a host"))
    }

    /// Makes a snapshot cease to exist. Its blocks stay until nothing else needs them and they are
    /// collected.
    pub fn delete(&self, snapshot: &SnapshotRef) -> Result<()> {
        let deleted = self.store.delete(&snapshot.manifest);
        deleted.map_err(|error| match self.store.directory() {
            Some(_) => error
                .with_hint("is the vault's disk writable, and mounted? what is there stays whole"),
            None => error,
        })
    }

    /// The same of many, several at once where the store is good for it. `each` gets every one that
    /// is gone. `cancel` is asked now and then.
    pub fn delete_all(
        &self,
        snapshots: &[SnapshotRef],
        cancel: &dyn Cancel,
        each: &mut dyn FnMut(&SnapshotRef),
    ) -> Result<()> {
        let delete = |snapshot: &SnapshotRef| self.delete(snapshot);
        let store = self.store.as_ref();
        let failed = Mutex::new(None);
        let go_on = || {
            cancel.check()?;
            let stop = || Err(Error::new(ErrorKind::Failed, "one could not be deleted"));
            failed.locked().as_ref().map_or(Ok(()), |_| stop())
        };
        let all = ask_of_each(store, snapshots, &go_on, delete, |snapshot, deleted| {
            match deleted {
                Ok(()) => each(snapshot),
                // Others of the same moment may be gone all the same, and are to be counted.
                Err(error) => drop(failed.locked().get_or_insert(error)),
            }
            Ok(())
        });
        failed.into_inner().unpoisoned().map_or(all, Err)
    }

    /// Deletes objects, several at once where the store is good for it.
    pub(super) fn delete_each(
        &self,
        names: &[ObjectName],
        cancel: &dyn Cancel,
        each: &mut dyn FnMut(&ObjectName),
    ) -> Result<()> {
        let store = self.store.as_ref();
        let delete = |name: &ObjectName| store.delete(name);
        ask_of_each(store, names, cancel, delete, |name, deleted| {
            deleted.map(|()| each(name))
        })
    }
}
