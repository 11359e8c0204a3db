//! The labels of a host's newest snapshots, for whoever asks which of them are whose. It reads
//! manifests, newest first, and no data.

use super::monitor::Monitor;
use crate::error::{ErrorKind, Result};
use crate::model::SnapshotId;
use crate::store::Vault;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Most snapshots that are looked at.
pub const MOST_LABELLED: usize = 64;

/// A snapshot with those of its labels that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledSnapshot {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The instant of its cut.
    pub time: Timestamp,
    /// What it bears under these keys.
    pub labels: BTreeMap<String, String>,
}

/// What the newest snapshots of `host` bear under `keys`, the newest first. What cannot be read, or
/// was deleted meanwhile, is left out.
///
/// # Errors
/// The vault cannot be asked.
pub fn newest_labels(
    vault: &Vault,
    host: &str,
    keys: &[&str],
    monitor: &dyn Monitor,
) -> Result<Vec<LabelledSnapshot>> {
    let mut snapshots = vault.snapshots_of(host)?;
    snapshots.reverse();
    snapshots.truncate(MOST_LABELLED);
    let mut found = Vec::new();
    for (snapshot, manifest) in vault.manifests(snapshots) {
        monitor.check()?;
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::Damaged | ErrorKind::Format
                ) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        let labels = manifest.tags.into_iter();
        found.push(LabelledSnapshot {
            snapshot: snapshot.id,
            time: manifest.time,
            labels: labels
                .filter(|(key, _)| keys.contains(&key.as_str()))
                .collect(),
        });
    }
    Ok(found)
}
