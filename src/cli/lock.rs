//! `lock`: locks what snapshots need until each may go.

use super::args::{Common, LockArgs};
use super::context;
use super::progress::ProgressDisplay;
use crate::engine::{LockOptions, lock};
use crate::error::Result;
use crate::report::lock::LockDone;
use crate::report::{self, Report};
use jiff::Timestamp;

pub fn run(args: &LockArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let vault = context::open_vault(common)?;
    let options = LockOptions {
        rule: args.rule,
        dry_run: args.dry_run,
        now: Timestamp::now(),
    };
    context::asking(&vault, progress, || {
        let done = lock(&vault, options, progress)?;
        Ok(report::lock::report(&LockDone {
            done: &done,
            location: &vault.location(),
            dry_run: args.dry_run,
        }))
    })
}
