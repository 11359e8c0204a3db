//! `show`: everything about one snapshot.

use super::args::{Common, ShowArgs};
use super::context;
use super::find_snapshot::find_snapshot;
use super::progress::ProgressDisplay;
use super::signals;
use crate::engine::kept_with;
use crate::error::{ErrorKind, Result};
use crate::format::DamagedChunks;
use crate::model::block_count;
use crate::report::Report;
use crate::report::show::{BesideSnapshot, BlockCounts, report};
use crate::store::{DrillsWanted, HashedManifest, Vault};

pub fn run(args: &ShowArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let vault = context::open_vault(common)?;
    let snapshot = find_snapshot(&vault, &args.id, &[], progress)?;
    let HashedManifest { manifest, hash } = vault.manifest_hashed(&snapshot)?;
    let noted = known_damage(&vault)?;
    let mut blocks = Vec::new();
    for disk in &manifest.disks {
        let count = block_count(disk.identity.size);
        let map = vault.read_index(&disk.index, count, &signals::check)?;
        blocks.push(BlockCounts::of(&map, disk, noted.as_ref()));
    }
    let kept = kept_with(&vault, &snapshot, &manifest, &signals::check)?;
    let wanted = DrillsWanted {
        snapshot: snapshot.id,
        manifest: hash,
    };
    let drills = vault.drilled(&[wanted], &signals::check)?;
    let beside = BesideSnapshot { kept, drills };
    report(&manifest, &blocks, &beside)
}

/// What was found damaged before; `None`: the lists cannot be read.
fn known_damage(vault: &Vault) -> Result<Option<DamagedChunks>> {
    match vault.damage() {
        Ok(damage) => Ok(Some(damage)),
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Format) => Ok(None),
        Err(error) => Err(error),
    }
}
