//! Finds the snapshot that a user means, and the disk of it. Where there is none, the error names
//! what there is.

use super::signals;
use crate::engine::{Event, Monitor, choose_disk};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{DiskRecord, Manifest};
use crate::model::SnapshotId;
use crate::store::{History, SnapshotRef, Vault};
use crate::sys::machine::host_name;

/// Most snapshots of doubtful time that are named with `latest`; `list` names all.
const MOST_DOUBTS: usize = 3;

/// Finds the snapshot that a user means: an ID, the start of one, or `latest`. With disks, `latest`
/// is the newest that has all of them. The monitor gets a warning of each snapshot whose time is
/// doubtful.
pub fn find_snapshot(
    vault: &Vault,
    text: &str,
    disks: &[&str],
    monitor: &dyn Monitor,
) -> Result<SnapshotRef> {
    if text != "latest" {
        return vault.find(text);
    }
    let meant = vault.meant_by_latest(&host_name())?;
    let history = History::read(vault, &meant, &signals::check)?;
    for doubtful in history.doubtful.iter().rev().take(MOST_DOUBTS) {
        monitor.tell(Event::Warning(doubtful.to_string()));
    }
    newest_with(vault, &history.order, disks)
}

/// Finds the disk of that name, or the only disk. Where there is none of that name, the hint names
/// the newest snapshot that has one.
pub fn find_disk<'m>(
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

/// The newest snapshot of this host that has the disk: on another host that name is another disk.
fn newest(vault: &Vault, host: &str, name: &str) -> Option<SnapshotId> {
    let all = vault.snapshots_of(host).ok()?;
    let order = History::read(vault, &all, &signals::check).ok()?.order;
    let found = newest_with(vault, &order, &[name]).ok()?;
    Some(found.id)
}

/// The newest of these, or the newest that has all of these disks. Where none has, that is an error
/// of kind `NotFound`.
fn newest_with(vault: &Vault, oldest_first: &[SnapshotRef], disks: &[&str]) -> Result<SnapshotRef> {
    let newest = oldest_first.last().ok_or_else(|| {
        // The last one was deleted a moment ago.
        Error::new(
            ErrorKind::NotFound,
            "there is no snapshot of this host any more",
        )
    })?;
    if disks.is_empty() {
        return Ok(newest.clone());
    }
    let mut there = String::new();
    let newest_first = oldest_first.iter().rev().cloned().collect();
    for (snapshot, manifest) in vault.manifests(newest_first) {
        signals::check()?;
        let manifest = manifest.map_err(|error| {
            error.with_hint("which disks it has is not known; name another by its ID")
        })?;
        let has = |name: &&str| choose_disk(&manifest, Some(name)).is_ok();
        if disks.iter().all(has) {
            return Ok(snapshot);
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
