//! `verify`: whether what the vault holds is whole.

use super::args::{Common, VerifyArgs};
use super::find_snapshot::find_snapshot;
use super::progress::ProgressDisplay;
use super::{against_disk, context, may_lack};
use crate::engine::{VerifyDepth, VerifyOptions, verify};
use crate::error::Result;
use crate::report::{self, Report};
use crate::store::Vault;

pub fn run(args: &VerifyArgs, common: &Common, progress: &ProgressDisplay) -> Result<Report> {
    if args.against_disk {
        return against_disk::run(args, common, progress);
    }
    let vault = context::open_vault_itself(common)?;
    context::asking(&vault, progress, || judge(args, &vault, progress))
}

fn judge(args: &VerifyArgs, vault: &Vault, progress: &ProgressDisplay) -> Result<Report> {
    let snapshots = if args.all {
        vault.snapshots()?
    } else {
        args.ids
            .iter()
            .map(|id| find_snapshot(vault, id, &[], progress))
            .collect::<Result<Vec<_>>>()?
    };
    let depth = match (args.fast, args.sample) {
        (true, _) => VerifyDepth::Fast,
        (false, Some(percent)) => VerifyDepth::Sample(percent),
        (false, None) => VerifyDepth::Full,
    };
    let options = VerifyOptions {
        depth,
        workers: context::workers(),
    };
    let found = verify(vault, &snapshots, &options, progress)?;
    let mut report = report::verify::report(&found, depth);
    if let Err(error) = may_lack::warn(vault, &snapshots, &mut report) {
        report.warn(&format!(
            "snapshots of early versions were not looked for: {error}"
        ));
    }
    Ok(report)
}
