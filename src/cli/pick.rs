//! Which disk of a snapshot is meant; and where one is that this snapshot does not have.

use super::signals;
use crate::engine::choose_disk;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, Manifest};
use crate::model::SnapshotId;
use crate::store::Vault;

/// Most snapshots that are looked at for the hint.
const MOST_LOOKS: usize = 1000;

/// The disk of that name, or the only one. Where there is none of that name, the hint names the
/// newest snapshot that has one.
pub fn pick<'m>(
    vault: &Vault,
    manifest: &'m Manifest,
    name: Option<&str>,
) -> Result<&'m DiskRecord> {
    choose_disk(manifest, name).map_err(|error| match name {
        Some(name) if error.kind() == ErrorKind::NotFound => {
            with_newest(vault, manifest, name, error)
        }
        _ => error,
    })
}

fn with_newest(vault: &Vault, manifest: &Manifest, name: &str, error: Error) -> Error {
    let hint = error.hint().unwrap_or_default().to_owned();
    match newest(vault, &manifest.host, name) {
        Some(id) => error.with_hint(format!(
            "{hint}; the newest snapshot that has {name} is {id}"
        )),
        None => error,
    }
}

/// Of the same host: another's disk of that name is another disk.
fn newest(vault: &Vault, host: &str, name: &str) -> Option<SnapshotId> {
    let all = vault.snapshots_of(host).ok()?;
    let has = |manifest: &Manifest| choose_disk(manifest, Some(name)).is_ok();
    let newest_first = all.iter().rev().take(MOST_LOOKS);
    newest_first
        .take_while(|_| signals::check().is_ok())
        .find(|snapshot| {
            vault
                .manifest(snapshot)
                .is_ok_and(|manifest| has(&manifest))
        })
        .map(|snapshot| snapshot.id)
}
