//! `recover`: brings back what stood at a time, out of the versions that a bucket keeps.

use super::args::{Common, RecoverArgs};
use super::context;
use super::progress::ProgressDisplay;
use crate::engine::{BringBackOptions, bring_back};
use crate::error::{Error, ErrorKind, Result};
use crate::report::recover::Recovered;
use crate::report::{self, Report};
use crate::store;
use jiff::Timestamp;

pub fn run(args: &RecoverArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    let now = Timestamp::now();
    if args.at > now {
        let what = format!("--at {:.0} has not come yet", args.at);
        return Err(Error::new(ErrorKind::Usage, what)
            .with_hint("give the time of the theft, or a little earlier; is the clock right?"));
    }
    let place = context::vault_named(common, common.vault.as_deref())?;
    let past = store::open_as_it_stood(&place, args.at)?;
    let dry_run = args.dry_run;
    let options = BringBackOptions { dry_run, now };
    context::asking(&past.now, progress, || {
        let done = bring_back(&past, options, progress)?;
        Ok(report::recover::report(&Recovered {
            done: &done,
            at: args.at,
            location: &past.now.location(),
            dry_run,
        }))
    })
}
