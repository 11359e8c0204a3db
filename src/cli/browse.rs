//! What `ls` and `cp` have in common: which snapshot, and which of its filesystems, paths are in.

use super::args::{InsideArgs, SnapshotPath};
use super::find_snapshot::{find_disk, find_snapshot};
use super::progress::ProgressDisplay;
use crate::engine::BrowseScope;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::store::Vault;

/// The snapshot that a path is in.
pub fn find_manifest(
    vault: &Vault,
    what: &SnapshotPath,
    inside: &InsideArgs,
    progress: &ProgressDisplay,
) -> Result<Manifest> {
    let disk: Vec<&str> = inside.disk.iter().map(String::as_str).collect();
    vault.manifest(&find_snapshot(vault, &what.id, &disk, progress)?)
}

/// What paths in it mean.
pub fn find_scope(vault: &Vault, manifest: &Manifest, inside: &InsideArgs) -> Result<BrowseScope> {
    let Some(name) = &inside.disk else {
        return Ok(BrowseScope::Host);
    };
    let record = find_disk(vault, manifest, Some(name))?;
    let mut all = manifest.disks.iter();
    let disk = all.position(|one| one.identity == record.identity);
    let disk = disk.ok_or_else(|| Error::new(ErrorKind::NotFound, "the disk is not there"))?;
    Ok(BrowseScope::Partition {
        disk,
        number: inside.partition,
    })
}
