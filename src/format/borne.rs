//! Names of one snapshot: a collector that gives its blocks other places gives it another name. It
//! must never call two manifests the same of which one says what the other does not.

use super::manifest::Manifest;
use crate::error::{Error, ErrorKind, Result};
use crate::model::SnapshotId;

/// Most names that a manifest remembers.
pub const MOST_BORNE: usize = 16;

/// What all names of a snapshot have in common: a hash of what is said under each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManifestLikeness([u8; 32]);

impl Manifest {
    /// The names that it has borne before, as far as they can be true: each is like its own but for
    /// its end. The last ones, where it claims more than it may.
    pub fn borne(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        let own = self.snapshot;
        let last = self.rewrites.iter().rev().take(MOST_BORNE);
        last.copied()
            .filter(move |name| *name != own && name.is_akin_to(own))
    }

    /// The name under which it was made, as far as that is known.
    pub fn first_name(&self) -> SnapshotId {
        let first = self.rewrites.first().copied();
        let first = first.filter(|name| name.is_akin_to(self.snapshot));
        first.unwrap_or(self.snapshot)
    }

    /// Gives it another name. The first one is remembered, and the last ones: in two places that
    /// both rename, it is the first that tells that both mean the same.
    pub fn rename(&mut self, next: SnapshotId) {
        self.rewrites.push(self.snapshot);
        let many = self.rewrites.len().saturating_sub(MOST_BORNE);
        self.rewrites.drain(1..=many);
        self.snapshot = next;
    }

    /// What it says, but for where its blocks are, its names after the first one, when a store got
    /// it, and how long its run wanted it to stay, which is over when it is renamed.
    ///
    /// # Errors
    /// It cannot be written as text.
    pub fn likeness(&self) -> Result<ManifestLikeness> {
        let mut same = self.clone();
        same.snapshot = self.first_name();
        same.rewrites.clear();
        (same.received, same.keep_seconds) = (None, None);
        for disk in &mut same.disks {
            disk.index.clear();
            disk.footers.clear();
        }
        let text = serde_json::to_vec(&same).map_err(|error| {
            Error::new(ErrorKind::Failed, "a manifest cannot be written").with_source(error)
        })?;
        Ok(ManifestLikeness(*blake3::hash(&text).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest() -> Manifest {
        let now = "2026-01-01T00:00:00Z";
        let all = json!({
            "format": 2, "snapshot": SnapshotId::generate(1000), "vault": "00".repeat(16),
            "time": now, "started": now, "host": "host", "kernel": "", "writer": "",
            "level": "crash", "requested_level": "crash", "freeze_us": null, "warnings": [],
            "tags": {}, "hooks": null, "disks": [],
        });
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn the_first_name_is_remembered_and_the_last_ones() {
        let mut one = manifest();
        let (first, like) = (one.snapshot, one.likeness().unwrap());
        let mut names = vec![first];
        for _ in 0..40 {
            one.rename(first.successor());
            assert_eq!((one.first_name(), one.likeness().unwrap()), (first, like));
            assert!(one.rewrites.len() <= MOST_BORNE);
            assert!(one.borne().any(|name| name == first));
            let last = *names.last().unwrap();
            assert!(one.borne().any(|name| name == last));
            names.push(one.snapshot);
        }
        one.host.push('x');
        assert_ne!(one.likeness().unwrap(), like);
    }
}
