//! `prune`: deletes the snapshots that the rules of a retention do not keep.

use super::args::{Common, PruneArgs, tags};
use super::context;
use super::progress::ProgressDisplay;
use crate::engine::{RetentionOptions, carry_out_prune, plan_prune};
use crate::error::Result;
use crate::model::SnapshotId;
use crate::report::prune::PruneReport;
use crate::report::{self, Report};
use jiff::Timestamp;

pub fn run(args: &PruneArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let options = RetentionOptions {
        rules: args.rules(),
        host: args.host.clone(),
        disk: args.disk.clone(),
        tags: tags(&args.tags)?,
        take_last_good: args.take_last_good,
        now: Timestamp::now(),
    };
    // What this host has kept of a snapshot says nothing of what is there.
    let vault = context::open_vault_itself(common)?;
    let mut plan = plan_prune(&vault, &options, progress)?;
    let warnings = match args.dry_run {
        true => Vec::new(),
        false => carry_out_prune(&vault, &mut plan, progress)?,
    };
    let location = vault.location();
    let mut report = report::prune::report(&PruneReport {
        plan: &plan,
        rules: options.rules,
        location: &location,
        dry_run: args.dry_run,
    });
    for warning in &warnings {
        report.warn(warning);
    }
    let gone: Vec<SnapshotId> = plan.going().map(|one| one.snapshot.id).collect();
    if !args.dry_run && !gone.is_empty() {
        report::drill::add_cleared(&mut report, vault.delete_drills(&gone, progress))?;
    }
    Ok(report)
}
