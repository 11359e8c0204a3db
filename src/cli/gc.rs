//! `gc`: frees the space of what no snapshot needs.

use super::args::{Common, GcArgs};
use super::context;
use super::progress::ProgressDisplay;
use crate::engine::{CollectOptions, RewriteRules, collect, plan_collection};
use crate::error::{Error, ErrorKind, Result};
use crate::report::{self, Report};
use jiff::SignedDuration;

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
        Ok(report::gc::report(&report::gc::Collected {
            done: &done,
            dry_run: args.dry_run,
            grace,
        }))
    })
}
