//! Which disk of a snapshot is meant; and where one is that this snapshot does not have.

use super::signals;
use crate::engine::choose_disk;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, Manifest};
use crate::model::SnapshotId;
use crate::store::{History, SnapshotRef, Vault};

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
    let order = History::read(vault, &all, &signals::check).ok()?.order;
    let found = newest_with(vault, &order, &[name]).ok()?;
    Some(found.id)
}

/// The newest of these, or the newest that has all of these disks. Where none has, that is an error
/// of kind `NotFound`.
pub fn newest_with(
    vault: &Vault,
    oldest_first: &[SnapshotRef],
    disks: &[&str],
) -> Result<SnapshotRef> {
    let newest = oldest_first.last().ok_or_else(|| {
        // Deleted this very moment.
        Error::new(
            ErrorKind::NotFound,
            "there is no snapshot of this host any more",
        )
    })?;
    if disks.is_empty() {
        return Ok(newest.clone());
    }
    let mut there = String::new();
    for snapshot in oldest_first.iter().rev() {
        signals::check()?;
        let manifest = vault.manifest(snapshot).map_err(|error| {
            error.with_hint("which disks it has is not known; name another by its ID")
        })?;
        let has = |name: &&str| choose_disk(&manifest, Some(name)).is_ok();
        if disks.iter().all(has) {
            return Ok(snapshot.clone());
        }
        if there.is_empty() {
            let names = manifest
                .disks
                .iter()
                .map(|disk| disk.identity.name.as_str());
            there = names.collect::<Vec<_>>().join(", ");
        }
    }
    let message = match disks {
        [name] => format!("no snapshot here has a disk {name:?}"),
        names => format!("no snapshot here has all of the disks {}", names.join(", ")),
    };
    let hint = format!("the newest has {there}; `stillpoint list` shows the disks of each");
    Err(Error::new(ErrorKind::NotFound, message).with_hint(hint))
}
