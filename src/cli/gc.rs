//! `gc`: frees the space of what no snapshot needs.

use super::args::{Common, GcArgs};
use super::context;
use super::progress::ProgressDisplay;
use crate::engine::{CollectOptions, RewriteRules, collect, plan_collection};
use crate::error::{Error, ErrorKind, Result};
use crate::model::SnapshotId;
use crate::report::{self, Report};
use crate::store::Vault;
use jiff::SignedDuration;
use std::collections::HashSet;

/// Most drills of snapshots that are gone that one run clears away.
const MOST_STRAYS: usize = 256;

pub fn run(args: &GcArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let vault = context::open_vault(common)?;
    let grace = SignedDuration::try_from(args.grace).map_err(|error| {
        Error::new(ErrorKind::Usage, "this grace is too long").with_source(error)
    })?;
    if args.rewrite && vault.info().lock.is_some() {
        let what = "this vault locks what it holds, which would only be stored twice";
        return Err(Error::new(ErrorKind::Unsupported, what)
            .with_hint("nothing was done; run gc without --rewrite"));
    }
    let rewrite = match args.rewrite {
        true => RewriteRules {
            most_moved: args.max_rewrite,
            ..RewriteRules::USUAL
        },
        false => RewriteRules::NEVER,
    };
    let options = CollectOptions { grace, rewrite };
    context::asking(&vault, progress, || {
        let done = match args.dry_run {
            true => plan_collection(&vault, options, progress)?,
            false => collect(&vault, options, progress)?,
        };
        let mut report = report::gc::report(&report::gc::Collected {
            done: &done,
            dry_run: args.dry_run,
            grace,
        });
        if !args.dry_run {
            report::drill::add_cleared(&mut report, clear_stray_drills(&vault, progress))?;
        }
        Ok(report)
    })
}

/// Deletes what drills of snapshots that are gone have left. What it fails at the next run does.
fn clear_stray_drills(vault: &Vault, progress: &ProgressDisplay) -> Result<()> {
    let there: HashSet<SnapshotId> = vault.snapshots()?.iter().map(|one| one.id).collect();
    vault.delete_stray_drills(&|id| there.contains(&id), MOST_STRAYS, progress)
}
