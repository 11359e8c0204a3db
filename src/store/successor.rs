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
