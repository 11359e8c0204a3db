//! Which snapshots a vault has, and their manifests. A snapshot exists when its manifest does.

use super::object_name::ObjectName;
use super::vault::Vault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Manifest, ObjectKind};
use crate::model::SnapshotId;

const HINT: &str = "see what there is with: stillpoint list";

/// A snapshot that exists; its manifest has not been read yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotRef {
    /// Its name.
    pub id: SnapshotId,
    /// Its manifest's name.
    pub(super) manifest: ObjectName,
}

impl SnapshotRef {
    /// The part of its manifest's name that stands for the host.
    pub(super) fn host(&self) -> Option<&str> {
        self.manifest.components().nth(1)
    }

    #[cfg(test)]
    pub(super) fn named(host: &str, id: SnapshotId) -> Self {
        let manifest = ObjectName::manifest(host, id);
        Self { id, manifest }
    }
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
        let most = ObjectKind::Manifest.most_stored();
        self.decode(snapshot, &self.store.get(&snapshot.manifest, most)?)
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
        let mut matching = self
            .snapshots()?
            .into_iter()
            .filter(|snapshot| snapshot.id.to_string().starts_with(&wanted));
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
}
