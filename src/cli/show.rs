//! `show`: everything about one snapshot.

use super::args::{Common, ShowArgs};
use super::context;
use super::find_snapshot::find_snapshot;
use super::progress::ProgressDisplay;
use super::signals;
use crate::engine::kept_with;
use crate::error::Result;
use crate::model::block_count;
use crate::report::Report;
use crate::report::show::{BlockCounts, report};

pub fn run(args: &ShowArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let vault = context::open_vault(common)?;
    let snapshot = find_snapshot(&vault, &args.id, &[], progress)?;
    let manifest = vault.manifest(&snapshot)?;
    let mut blocks = Vec::new();
    for disk in &manifest.disks {
        let count = block_count(disk.identity.size);
        let map = vault.read_index(&disk.index, count, &signals::check)?;
        blocks.push(BlockCounts::of(&map, disk));
    }
    let kept = kept_with(&vault, &snapshot, &manifest, &signals::check)?;
    report(&manifest, &blocks, kept.as_ref())
}
