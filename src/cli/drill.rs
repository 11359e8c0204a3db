//! `drill`: tries a snapshot, and keeps in the vault what came of it.

use super::args::{Common, DrillArgs};
use super::context;
use super::find_snapshot::find_snapshot;
use super::progress::ProgressDisplay;
use crate::engine::{DrillOptions, drill};
use crate::error::Result;
use crate::report::Report;
use crate::report::drill::report;

pub fn run(args: &DrillArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    context::need_root()?;
    // What this host has kept of it proves nothing.
    let vault = context::open_vault_itself(common)?;
    vault.need_to_read()?;
    let snapshot = find_snapshot(&vault, &args.id, &[], progress)?;
    let manifest = vault.manifest_hashed(&snapshot)?;
    let options = DrillOptions {
        vault: &vault,
        snapshot: &snapshot,
        manifest: &manifest,
        run_dir: &common.run_dir,
        check: args.check.as_deref(),
        timeout: args.timeout,
    };
    context::asking(&vault, progress, || Ok(report(&drill(&options, progress)?)))
}
