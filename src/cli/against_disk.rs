//! `verify --against-disk`: compares a snapshot with the disks that it was taken of.

use super::args::{Common, VerifyArgs};
use super::context;
use super::find_snapshot::{find_disk, find_snapshot};
use super::progress::ProgressDisplay;
use crate::engine::compare_with_disks;
use crate::error::Result;
use crate::report::{self, Report};
use crate::store::Vault;
use std::sync::Arc;

pub fn run(args: &VerifyArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let vault = context::open_vault_itself(common)?;
    context::asking(&vault, progress, || compare(args, common, &vault, progress))
}

fn compare(
    args: &VerifyArgs,
    common: &Common,
    vault: &Arc<Vault>,
    progress: &ProgressDisplay,
) -> Result<Report> {
    let id = args.ids.first().map_or("latest", String::as_str);
    let wanted: Vec<&str> = args.disk.iter().map(String::as_str).collect();
    let manifest = vault.manifest(&find_snapshot(vault, id, &wanted, progress)?)?;
    let name = match &args.disk {
        Some(name) => Some(
            find_disk(vault, &manifest, Some(name))?
                .identity
                .name
                .as_str(),
        ),
        None => None,
    };
    let found = compare_with_disks(vault, &manifest, name, &common.places()?, progress)?;
    Ok(report::against_disk::report(manifest.snapshot, &found))
}
