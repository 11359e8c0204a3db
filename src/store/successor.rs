//! What is asked of a vault by who gives a snapshot's blocks other places, under another name of
//! the snapshot. It judges nothing.

use super::catalog::SnapshotRef;
use super::object_name::ObjectName;
use super::vault::Vault;
use crate::error::Result;
use crate::format::{Footer, Manifest, ObjectKind};
use crate::model::{ObjectId, SnapshotId};
use std::sync::Arc;

impl Vault {
    /// Reads a snapshot's manifest; `None` where it says more than this version knows.
    pub fn known_manifest(&self, snapshot: &SnapshotRef) -> Result<Option<Manifest>> {
        let most = ObjectKind::Manifest.most_stored();
        let bytes = self.store.get(&snapshot.manifest, most)?;
        self.decode(snapshot, &bytes)?;
        Manifest::decode_known(&bytes, self.sealer(), snapshot.id, self.info().id)
    }

    /// What the snapshot of that name on that host is referred to by.
    pub fn named_on(&self, host: &str, id: SnapshotId) -> SnapshotRef {
        let manifest = ObjectName::manifest(host, id);
        SnapshotRef { id, manifest }
    }

    /// Finds out whether names like this one may be deleted: deletes one that was never there.
    pub fn try_to_delete_beside(&self, snapshot: &SnapshotRef) -> Result<()> {
        let host = snapshot.host().unwrap_or_default();
        let never = format!("snapshots/{host}/{}", snapshot.id.successor());
        let deleted = self.store.delete(&ObjectName::parse(&never)?);
        deleted.map_err(|error| {
            error
                .context("names of snapshots cannot be deleted here, so none is given another one")
                .with_hint(
                    "--rewrite takes the right to delete in `snapshots/`; gc without it does not",
                )
        })
    }

    /// What stands at the end of a segment.
    pub fn footer(&self, segment: ObjectId) -> Result<Arc<Footer>> {
        self.segments.footer(segment)
    }

    /// The class of storage that segments are put into, where one was named.
    pub fn storage_class(&self) -> Option<&str> {
        self.store.storage_class()
    }

    /// Whether the key that opened it, if it takes one, reads blocks.
    pub fn reads_blocks(&self) -> bool {
        let sealer = self.sealer();
        !sealer.is_without_key() && sealer.keys().is_none_or(|keys| keys.can_read())
    }
}
